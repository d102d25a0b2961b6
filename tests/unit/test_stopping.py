"""What the tool in a guest tells the debugger outside, and where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest

from inject.cli import stopping
from inject.errors import CannotRun
from inject.model.event import Armed, Event, Injected, Injection, RunEnded
from inject.model.scenario import Probe
from inject.model.verdict import Status, Verdict
from inject.report.jsonl import from_json
from inject.vm.channel import WATCHED

ARMED = Armed("a", 0, ())
STOP = replace(ARMED, stop=True)
FIRED = Injected("a", 0, Injection(0, "f", "-EIO", -5, 1, 1, 1, "dd", 0))
VERDICT = Verdict("a", Status.PASS)


@pytest.fixture()
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A guest that a debugger watches."""
    (tmp_path / "cmdline").write_text(f"console=ttyS0 nokaslr {WATCHED}\n")
    monkeypatch.setattr(stopping, "PROC", tmp_path)
    monkeypatch.setattr(stopping, "PORT", str(tmp_path / "port"))
    return tmp_path / "port"


def told(port: Path) -> list[Event]:
    return [from_json(json.loads(line)) for line in port.read_text().splitlines()]


def test_the_wish_is_told_and_ends_with_the_run(port: Path) -> None:
    with stopping.marking(True, None) as mark:
        assert mark(ARMED) == STOP
        assert mark(FIRED) == FIRED
        assert mark(VERDICT) == VERDICT
    assert told(port) == [STOP, VERDICT, RunEnded()]


def test_an_interrupted_run_takes_its_wish_back(port: Path) -> None:
    with pytest.raises(KeyboardInterrupt), stopping.marking(True, None) as mark:
        mark(ARMED)
        raise KeyboardInterrupt
    assert told(port)[-1] == RunEnded()


def test_a_report_that_goes_there_anyway_carries_it(port: Path) -> None:
    with stopping.marking(True, str(port)) as mark:
        assert mark(ARMED) == STOP
    assert not port.exists()


def test_nobody_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "PROC", tmp_path / "none")
    with stopping.marking(False, None) as mark:
        assert mark(ARMED) is ARMED


def test_without_a_debugger_it_is_refused(port: Path) -> None:
    port.with_name("cmdline").write_text("console=ttyS0\n")
    with (
        pytest.raises(CannotRun, match="no debugger can stop this kernel.*vm shell --kernel test --gdb"),
        stopping.marking(True, None),
    ):
        pass


def test_only_a_kprobe_can_be_stopped() -> None:
    assert stopping.probe_for("auto", True) is stopping.probe_for("kprobe", True) is Probe.KPROBE
    assert stopping.probe_for("fmod_ret", False) is Probe.FMOD_RET
    with pytest.raises(click.UsageError, match="needs a kprobe"):
        stopping.probe_for("fmod_ret", True)
