"""`inject sweep` on the kernel that it runs on: killed, booted anew, and gone on with, it loses no trial."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.support.command import Tool, inject
from tests.support.waiting import wait_for
from tests.support.workbench import guest_only

pytestmark = guest_only

SCENARIO = """\
name: directories
faults: [{function: vfs_mkdir, return: -EIO}]
run: mkdir x x/y; rmdir x/y x
"""
FUNCTIONS = ("--functions", "vfs_mkdir", "--functions", "vfs_rmdir", "--rounds", "1")
LIMIT = 900.0
"""Seconds after which a sweep counts as hung."""


def lines(directory: Path, *kinds: str) -> list[dict[str, Any]]:
    """Whole lines of the journal so far, of these types."""
    path = directory / "journal.jsonl"
    text = path.read_text() if path.exists() else ""
    found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in found if line["type"] in kinds]


def test_a_sweep_on_this_kernel(tmp_path: Path) -> None:
    (tmp_path / "directories.yaml").write_text(SCENARIO)
    out = tmp_path / "out"
    words = ["sweep", str(tmp_path / "directories.yaml"), *FUNCTIONS, "-o", str(out)]
    with Tool(*words) as sweep:
        wait_for(lambda: lines(out, "trial"), "a trial has ended", process=sweep, seconds=LIMIT)
        os.kill(sweep.pid, signal.SIGKILL)
    done = inject(*words, "--resume", timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    points, trials, begun = lines(out, "point"), lines(out, "trial"), lines(out, "begun")
    assert len(points) == len(trials) == len({trial["trial"] for trial in trials}) == 2
    assert len(begun) <= len(trials) + 1
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert {line["boot"] for line in begun} == {boot}
    (end,) = lines(out, "end")
    assert (end["injected"], end["passed"], end["reason"]) == (len(points), len(points), "")
    total = len(points)
    assert done.stdout.splitlines()[-1] == (
        f"points {total}: {total} injected, 0 not reached again, 0 skipped; "
        f"trials {total}: {total} passed, 0 findings (0 signatures), 0 errors"
    )
    crashed = under_way_in_another_boot(out / "journal.jsonl", boot)
    again = inject(*words, "--resume", timeout=LIMIT)
    assert again.returncode == 1, again.stdout + again.stderr
    assert f"the machine was booted anew since the trial {crashed} began" in again.stderr
    assert lines(out, "begun")[-1]["trial"] == crashed, "it is not made again"
    (verdict,) = [trial for trial in lines(out, "trial") if trial["trial"] == crashed]
    assert (verdict["status"], verdict["reason"]) == ("fail", "crash")
    assert again.stdout.splitlines()[-1].endswith(
        f"trials {total}: {total - 1} passed, 1 findings (1 signatures), 0 errors"
    )


def under_way_in_another_boot(journal: Path, boot: str) -> str:
    """Have the machine end in the last trial that began; its name."""
    found = [json.loads(line) for line in journal.read_text().splitlines()]
    last = max(number for number, line in enumerate(found) if line["type"] == "begun")
    journal.write_text("".join(json.dumps(line) + "\n" for line in found[: last + 1]).replace(boot, "of-before"))
    return str(found[last]["trial"])
