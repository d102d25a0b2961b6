"""Scenarios that are each broken in one way: the right reason, exit 1, and the rest of the call unharmed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.command import COMMAND

BROKEN = ROOT / "tests/data/broken"
LIMIT = 900
"""Seconds after which a whole call counts as hung."""


def vm_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`inject vm run` as a user types it."""
    command = [*COMMAND, "vm", "run", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Every broken scenario and one from outside the checkout, in one call: exit code, verdicts, events, output."""
    report = tmp_path_factory.mktemp("broken") / "out.jsonl"
    own = report.with_name("mine.yaml")
    own.write_text((ROOT / "scenarios/smoke/mkdir.yaml").read_text())
    junit = report.with_suffix(".xml")
    done = vm_run(str(BROKEN), str(own), "--json", str(report), "--junit", str(junit), "--seed", "1")
    events = [json.loads(line) for line in report.read_text().splitlines()]
    verdicts = {event["scenario"]: event for event in events if event["type"] == "verdict"}
    return {"done": done, "events": events, "verdicts": verdicts, "junit": junit.read_text()}


REASONS = ("not-injected", "exit", "errno", "dmesg", "check", "recover", "hang", "crash")


@pytest.mark.parametrize("reason", REASONS)
def test_exactly_the_right_reason(broken: Mapping[str, Any], reason: str) -> None:
    """The file's name says how it is broken."""
    verdict = broken["verdicts"][reason]
    assert (verdict["status"], verdict["reason"]) == ("fail", reason), verdict["detail"]


def test_a_failure_is_exit_1(broken: Mapping[str, Any]) -> None:
    assert broken["done"].returncode == 1, broken["done"].stderr


def test_others_of_the_same_call_still_run(broken: Mapping[str, Any]) -> None:
    """`survivor` comes after the one that panics the guest."""
    names = list(broken["verdicts"])
    assert names.index("survivor") > names.index("crash")
    assert broken["verdicts"]["survivor"]["status"] == "pass"
    assert broken["events"][-1] == {"type": "end", "passed": 2, "failed": 8, "skipped": 0, "errors": 0}


def test_a_file_of_the_user_is_run_under_its_own_path(broken: Mapping[str, Any]) -> None:
    verdict = broken["verdicts"]["mine"]
    assert verdict["status"] == "pass"
    assert "/mine.yaml --only mine" in verdict["reproduce"]


def test_a_crash_names_its_fault_point_and_shows_the_console(broken: Mapping[str, Any]) -> None:
    verdict = broken["verdicts"]["crash"]
    assert "__x64_sys_mkdir" in verdict["detail"]
    assert any("sysrq triggered crash" in line for line in verdict["log"])


def test_a_hang_shows_where_it_waits(broken: Mapping[str, Any]) -> None:
    assert any(
        "nanosleep" in line or "sigsuspend" in line or "pause" in line for line in broken["verdicts"]["hang"]["log"]
    )


def test_nothing_injected_says_that_nothing_called_it(broken: Mapping[str, Any]) -> None:
    verdict = broken["verdicts"]["not-injected"]
    assert "the workload never called it" in verdict["detail"]
    assert verdict["counts"][0]["injected"] == 0


def test_the_oracle_is_named(broken: Mapping[str, Any]) -> None:
    assert broken["verdicts"]["check"]["detail"].startswith(("fsck: ", "remount: "))


def test_the_table_and_junit_tell_the_same(broken: Mapping[str, Any]) -> None:
    output = broken["done"].stdout
    for reason in REASONS:
        assert f"fail ({reason})" in output
        assert f'type="{reason}"' in broken["junit"]
    assert "reproduce: inject vm run" in output
    assert "Traceback" not in output + broken["done"].stderr


def test_every_event_follows_the_contract(broken: Mapping[str, Any]) -> None:
    """docs/verdicts.md: the keys of each type of line; nothing is injected before it is journalled."""
    keys = {
        "run": {"version", "kernel", "config_hash", "seed", "argv", "build_id"},
        "armed": {"scenario", "trial", "faults"},
        "injection": {"scenario", "trial", "fault", "function", "return", "value", "ordinal", "pid", "tid", "comm"}
        | {"time_ns", "stack"},
        "verdict": {"scenario", "trial", "status", "reason", "detail", "counts", "seconds", "reproduce"},
        "end": {"passed", "failed", "skipped", "errors"},
    }
    armed = set()
    for event in broken["events"]:
        assert keys[event["type"]] <= set(event)
        if event["type"] == "armed":
            armed.add(event["scenario"])
        if event["type"] == "injection":
            assert event["scenario"] in armed
    assert broken["events"][0]["type"] == "run"
