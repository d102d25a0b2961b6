"""The shipped scenarios do what they say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from inject.campaign.shard import Shard
from inject.scenario import load
from inject.vm import kernels
from tests.support import ROOT
from tests.support.command import COMMAND
from tests.support.guest_items import artifacts

LIMIT = 1200
"""Seconds for a part: about one minute of a processor, and it must hold on a busy one."""

PARTS = {kernels.DEFAULT: 5, kernels.BUILT: 7}
"""By kernel; each has a guest of its own, so that all processors have something to do until the end."""

QUICK = (kernels.DEFAULT, 1)
"""The part that is run each time, the others are slow."""

LIBRARY = load([ROOT / "scenarios"])


def parts() -> Iterator[object]:
    for kernel, count in PARTS.items():
        for number in range(1, count + 1):
            marks = [] if (kernel, number) == QUICK else [pytest.mark.slow]
            marks += [pytest.mark.test_kernel] if kernel == kernels.BUILT else []
            yield pytest.param(kernel, f"{number}/{count}", marks=marks, id=f"{kernel}-{number}")


def test_each_scenario_is_in_a_part() -> None:
    assert {kernels.kernel_of(scenario) for scenario in LIBRARY} == set(PARTS)


@pytest.mark.parametrize(("kernel", "shard"), list(parts()))
def test_the_shipped_scenarios_pass(tmp_path: Path, kernel: str, shard: str) -> None:
    """Exit 0, and a line for every injection; only a known finding may have none."""
    artifacts(kernel)
    report = tmp_path / "out.jsonl"
    meant = Shard.parse(shard).part([scenario for scenario in LIBRARY if kernels.kernel_of(scenario) == kernel])
    only = [word for scenario in meant for word in ("--only", scenario.name)]
    command = [*COMMAND, "vm", "run", "scenarios/", *only, "--jobs", "1", "--seed", "1"]
    done = subprocess.run(
        [*command, "--json", str(report)], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in report.read_text().splitlines()]
    verdicts = [event for event in events if event["type"] == "verdict"]
    assert {verdict["status"] for verdict in verdicts} == {"pass"}
    assert {verdict["scenario"] for verdict in verdicts} == {scenario.name for scenario in meant}
    for verdict in verdicts:
        own = [e for e in events if e["type"] == "injection" and e["scenario"] == verdict["scenario"]]
        injected = sum(count["injected"] for count in verdict["counts"])
        assert injected or verdict["finding"], verdict["scenario"]
        assert len(own) == injected - sum(count["lost"] for count in verdict["counts"])
        assert all(event["stack"] for event in own)
