"""Scenarios of tests/data/cases, each of which once had the wrong verdict: the right one, and why."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from inject.scenario import load
from inject.vm.kernels import BUILT, kernel_of
from tests.support import ROOT
from tests.support.command import COMMAND

CASES = ROOT / "tests/data/cases"
LIMIT = 900
"""Seconds after which a whole call counts as hung."""

RIGHT = {
    "unkillable": ("fail", "hang", r"run: touch/\d+ cannot be killed"),
    "realtime-is-no-hang": ("pass", "", ""),
    "any-kills-agent": ("pass", "", ""),
    "name-crashes-host": ("pass", "", ""),
    "hang-costs": ("fail", "hang", "the workload was still running after 5 s; also: run: .* cannot be killed"),
    "errno-alias": ("pass", "", ""),
    "remount-compares-nothing": ("fail", "check", "remount: 1 of 1 synced names .* are different"),
    "cold-cache/cold": ("pass", "", ""),
    "cold-cache/warm": ("pass", "", ""),
    "btrfs-device/ext4": ("pass", "", ""),
    "btrfs-device/btrfs": ("pass", "", ""),
    "btrfs-two-devices": ("pass", "", ""),
    **{f"profiler-alloc/{number}": ("pass", "", "") for number in (111, 112, 113, 114)},
    "between-trials/first": ("fail", "dmesg", r"^after the end of between-trials/first: BUG: late\[\d+\]: segfault"),
    "between-trials/second": ("pass", "", ""),
    "armed-too-early/loading": ("fail", "not-injected", "0 injections"),
    "armed-too-early/never-began": ("error", "", "`run` never began: bash exited with 2"),
    "finding-hides": ("fail", "check", r"fsck.*recover.*the known failure, the workload exited with 3"),
    "anchored-output": ("pass", "", ""),
    "path-not-in-memory": (
        "fail",
        "not-injected",
        r"2 injections, expected 3 \(\d+ calls seen, 2 matched, 1 not compared: string not in memory\)",
    ),
    "runaway-regex/output": (
        "error",
        "",
        r"the regular expression `\(a\+\)\+\$` of `output` \(.*:15:11\) did not end within",
    ),
    "runaway-regex/allow": ("error", "", r"of `allow` \(.*:40:9\) did not end within"),
    "runaway-regex/after-it": ("pass", "", ""),
}
"""By scenario: status, reason, and a pattern for the detail."""


SCENARIOS = {one.name: one for one in load(sorted({CASES / f"{name.partition('/')[0]}.yaml" for name in RIGHT}))}
Verdicts = Callable[[str], Mapping[str, Any]]


@pytest.fixture(scope="module")
def verdict_of(tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """The verdict of a case; those of one kernel are from one call."""
    found: dict[str, dict[str, Any]] = {}

    def verdict_of(name: str) -> Mapping[str, Any]:
        kernel = kernel_of(SCENARIOS[name])
        if kernel not in found:
            report = tmp_path_factory.mktemp("cases") / "out.jsonl"
            meant = [one for one in SCENARIOS if one in RIGHT and kernel_of(SCENARIOS[one]) == kernel]
            only = [word for one in meant for word in ("--only", one)]
            files = sorted({SCENARIOS[one].file for one in meant})
            command = [*COMMAND, "vm", "run", *files, *only, "--json", str(report), "--seed", "1"]
            subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
            events = [json.loads(line) for line in report.read_text().splitlines()]
            found[kernel] = {event["scenario"]: event for event in events if event["type"] == "verdict"}
        return found[kernel][name]

    return verdict_of


def case(name: str) -> object:
    """Those that need the test kernel are marked."""
    marks = [pytest.mark.test_kernel] if kernel_of(SCENARIOS[name]) == BUILT else []
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [case(name) for name in sorted(RIGHT, key=lambda name: kernel_of(SCENARIOS[name]))])
def test_the_right_verdict(verdict_of: Verdicts, name: str) -> None:
    status, reason, detail = RIGHT[name]
    verdict = verdict_of(name)
    assert (verdict["status"], verdict["reason"]) == (status, reason or None), verdict["detail"]
    assert re.search(detail, verdict["detail"])


def test_a_task_that_cannot_be_killed_is_shown_with_its_stack(verdict_of: Verdicts) -> None:
    assert any("percpu_rwsem_wait" in line for line in verdict_of("unkillable")["log"])


def test_after_a_hang_nothing_else_is_asked_of_the_filesystem(verdict_of: Verdicts) -> None:
    """A check that reads it would hang as well, for two minutes each, and say so."""
    found = verdict_of("hang-costs")
    said = " ".join([found["detail"], *found["notes"], *found["log"]])
    assert "hangs in the kernel" not in said and "did not end in time" not in said


def test_a_value_that_a_function_must_not_return_is_wrong_usage_before_anything_runs() -> None:
    """Even if the scenario before it could run."""
    files = [str(CASES / "anchored-output.yaml"), str(CASES / "make-it-succeed.yaml")]
    done = subprocess.run([*COMMAND, "vm", "run", *files], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (2, "")
    place = f"{CASES}/make-it-succeed.yaml:7:13"
    assert f"{place}: __x64_sys_unlinkat has error type ERRNO and must not return 0; return" in done.stderr
