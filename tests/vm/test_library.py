"""The shipped scenarios do what they say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.command import COMMAND

LIMIT = 1200
"""Seconds for a part: about one minute of a processor, and it must hold on a busy one."""

PARTS = 10
"""Each has a guest of its own, so that all processors have something to do until the end."""

pytestmark = pytest.mark.usefixtures("artifacts")


def part(number: int) -> object:
    """The last part is run each time, the others are slow."""
    return pytest.param(f"{number}/{PARTS}", marks=[] if number == PARTS else [pytest.mark.slow])


@pytest.mark.parametrize("shard", [part(number) for number in range(1, PARTS + 1)])
def test_the_shipped_scenarios_pass(tmp_path: Path, shard: str) -> None:
    """Exit 0, and a line for every injection; only a known finding may have none."""
    report = tmp_path / "out.jsonl"
    command = [*COMMAND, "vm", "run", "scenarios/", "--shard", shard, "--jobs", "1", "--seed", "1"]
    done = subprocess.run(
        [*command, "--json", str(report)], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in report.read_text().splitlines()]
    verdicts = [event for event in events if event["type"] == "verdict"]
    assert {verdict["status"] for verdict in verdicts} == {"pass"}
    for verdict in verdicts:
        own = [e for e in events if e["type"] == "injection" and e["scenario"] == verdict["scenario"]]
        injected = sum(count["injected"] for count in verdict["counts"])
        assert injected or verdict["finding"], verdict["scenario"]
        assert len(own) == injected - sum(count["lost"] for count in verdict["counts"])
        assert all(event["stack"] for event in own)
