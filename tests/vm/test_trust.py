"""Scenarios of tests/data/cases, each of which once had the wrong verdict: the right one, and why."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

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


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The verdicts of all cases, from one call."""
    report = tmp_path_factory.mktemp("cases") / "out.jsonl"
    files = sorted({str(CASES / f"{name.partition('/')[0]}.yaml") for name in RIGHT})
    command = [*COMMAND, "vm", "run", *files, "--json", str(report), "--seed", "1"]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    events = [json.loads(line) for line in report.read_text().splitlines()]
    return {event["scenario"]: event for event in events if event["type"] == "verdict"}


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_verdict(verdicts: Mapping[str, Any], name: str) -> None:
    status, reason, detail = RIGHT[name]
    verdict = verdicts[name]
    assert (verdict["status"], verdict["reason"]) == (status, reason or None), verdict["detail"]
    assert re.search(detail, verdict["detail"])


def test_a_task_that_cannot_be_killed_is_shown_with_its_stack(verdicts: Mapping[str, Any]) -> None:
    assert any("percpu_rwsem_wait" in line for line in verdicts["unkillable"]["log"])


def test_after_a_hang_nothing_else_is_asked_of_the_filesystem(verdicts: Mapping[str, Any]) -> None:
    """A check that reads it would hang as well, for two minutes each, and say so."""
    found = verdicts["hang-costs"]
    said = " ".join([found["detail"], *found["notes"], *found["log"]])
    assert "hangs in the kernel" not in said and "did not end in time" not in said


def test_a_value_that_a_function_must_not_return_is_wrong_usage_before_anything_runs() -> None:
    """Even if the scenario before it could run."""
    files = [str(CASES / "anchored-output.yaml"), str(CASES / "make-it-succeed.yaml")]
    done = subprocess.run([*COMMAND, "vm", "run", *files], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (2, "")
    place = f"{CASES}/make-it-succeed.yaml:7:13"
    assert f"{place}: __x64_sys_unlinkat has error type ERRNO and must not return 0; return" in done.stderr
