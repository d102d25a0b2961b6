"""Guests side by side: one report, one guest's end is one scenario's error, and Ctrl-C leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from inject.vm.build.artifacts import Artifacts
from tests.support import ROOT
from tests.support.command import COMMAND
from tests.support.waiting import wait_for

SIX = "tests/data/jobs/six.yaml"
NAMES = [f"side/{number}" for number in range(1, 7)]
LIMIT = 900.0
"""Seconds after which a call counts as hung."""


class Run:
    """`inject vm run --jobs 2` that is under way, in a directory of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.report = directory / "out.jsonl"
        self.disks = directory / "disks"
        self.disks.mkdir()
        words = ["vm", "run", "--jobs", "2", "-v", "--json", str(self.report), *options, SIX]
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(self.disks)},
        )

    def events(self) -> list[dict[str, Any]]:
        """What the report holds so far; the last line may be on its way."""
        text = self.report.read_text() if self.report.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for_both(self) -> list[int]:
        """Until two scenarios are under way at once: the guests' process ids."""

        def both() -> bool:
            events = self.events()
            armed = {event["scenario"] for event in events if event["type"] == "armed"}
            return len(armed - {event["scenario"] for event in events if event["type"] == "verdict"}) == 2

        wait_for(both, "two scenarios armed at once", process=self.process, seconds=LIMIT)
        return self.guests()

    def guests(self) -> list[int]:
        """The QEMU processes of this run."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(pid) for pid in (task / "children").read_text().split()]
        return [pid for pid in found if b"qemu" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]]


@pytest.fixture()
def run(artifacts: Artifacts, tmp_path: Path) -> Iterator[Run]:
    """Two guests for six scenarios, KTAP on standard output."""
    made = Run(tmp_path, "--ktap", "--junit", str(tmp_path / "out.xml"))
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.communicate()


@pytest.mark.slow
def test_a_guest_killed_midway_is_one_scenarios_error(run: Run, tmp_path: Path) -> None:
    """All reports agree: each scenario once, in order, one error, and nothing else touched."""
    guests = run.wait_for_both()
    assert len(guests) == 2
    os.kill(guests[0], signal.SIGKILL)
    out, err = run.process.communicate(timeout=LIMIT)
    events = run.events()
    verdicts = {event["scenario"]: event for event in events if event["type"] == "verdict"}
    assert run.process.returncode == 4, err
    assert sorted(verdicts) == NAMES
    (lost,) = [verdict for verdict in verdicts.values() if verdict["status"] != "pass"]
    assert lost["status"] == "error"
    assert "QEMU was ended by SIGKILL" in lost["detail"]

    types = [event["type"] for event in events]
    assert (types[0], types.count("run"), types[-1], types.count("end")) == ("run", 1, "end", 1)
    assert events[-1] == {"type": "end", "passed": 5, "failed": 0, "skipped": 0, "errors": 1}
    for event in events:
        if event["type"] == "injection":
            assert f"  {event['scenario']}: mkdir/{event['tid']}: __x64_sys_mkdir returns -EDQUOT" in err

    results = [line for line in out.splitlines() if not line.startswith("#")]
    assert results[:2] == ["KTAP version 1", "1..6"]
    assert [line.split(" # ")[0] for line in results[2:]] == [
        f"{'not ok' if name == lost['scenario'] else 'ok'} {number} {name}" for number, name in enumerate(NAMES, 1)
    ]
    cases = ElementTree.parse(tmp_path / "out.xml").getroot().iter("testcase")
    assert [case.get("name") for case in cases] == [name.rpartition("/")[2] for name in NAMES]
    assert not list(run.disks.iterdir())


@pytest.mark.slow
def test_an_interrupt_ends_both_guests(run: Run) -> None:
    guests = run.wait_for_both()
    run.process.send_signal(signal.SIGINT)
    _, err = run.process.communicate(timeout=LIMIT)
    assert run.process.returncode == 130, err
    assert err.splitlines()[-1] == "inject: interrupted"
    assert not [pid for pid in guests if Path(f"/proc/{pid}").exists()]
    assert not list(run.disks.iterdir())
    assert run.events()[-1]["type"] != "end"
