"""The shipped scenarios do what they say."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.command import COMMAND

LIMIT = 3600
"""Seconds for the whole library: some five minutes of two processors, and it must hold on a busy one."""

pytestmark = pytest.mark.usefixtures("artifacts")


def test_the_shipped_scenarios_pass(tmp_path: Path) -> None:
    """A part of scenarios/, or all with INJECT_SHARD=1/1: exit 0, and a line for every injection.

    Only a known finding may have none.
    """
    report = tmp_path / "out.jsonl"
    shard = os.environ.get("INJECT_SHARD", "10/10")
    command = [*COMMAND, "vm", "run", "scenarios/", "--shard", shard]
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
