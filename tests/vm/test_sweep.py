"""`inject vm sweep` in real guests: a kernel that dies is a finding, and SIGKILL of inject loses no trial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from inject.scenario.load import load
from tests.support import ROOT
from tests.support.command import COMMAND, inject
from tests.support.waiting import wait_for

LIMIT = 900.0
"""Seconds after which the command counts as hung."""

FOLIOS = """\
name: folios
filesystem: {type: bcachefs}
faults: [{function: bch2_truncate, return: -EIO}]
run: |
  dd if=/dev/zero of=$MNT/f bs=102400 count=1 oflag=direct
  truncate -s 10001 $MNT/f
"""
"""The write is direct, so that no point depends on whether the flusher came before truncate(1)."""
LOGGED = """\
name: logged
filesystem: {type: bcachefs}
faults: [{function: bch2_truncate, return: -EIO}]
run: |
  mkdir $MNT/d
  for i in 1 2; do
    echo $i >$MNT/d/$i
  done
  head -c 100000 /dev/zero >$MNT/f
  truncate -s 10001 $MNT/f
  sync
  rm -r $MNT/d
"""
DIRECTORIES = """\
name: directories
faults: [{function: vfs_mkdir, return: -EIO}]
run: mkdir x x/y; rmdir x/y x
"""
FUNCTIONS = ("--functions", "vfs_mkdir", "--functions", "vfs_rmdir", "--functions", "security_path_*")


def lines(directory: Path, *kinds: str) -> list[dict[str, Any]]:
    """Whole lines of the journal so far, of these types."""
    path = directory / "journal.jsonl"
    text = path.read_text() if path.exists() else ""
    found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in found if line["type"] in kinds]


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_a_point_that_kills_the_kernel_is_a_finding_and_the_sweep_goes_on(tmp_path: Path) -> None:
    """__bch2_truncate_folio() BUG_ON()s what bch2_get_folio_disk_reservation() returns (fs-io.c, v6.12)."""
    (tmp_path / "folios.yaml").write_text(FOLIOS)
    out = tmp_path / "out"
    words = [
        "--functions",
        "bch2_get_folio_disk*",
        "--functions",
        "bch2_truncate",
        "--checks",
        "cheap",
        "--reproduce",
        "0",
    ]
    done = inject("vm", "sweep", tmp_path / "folios.yaml", *words, "-o", out, timeout=LIMIT)
    points, trials = lines(out, "point"), lines(out, "trial")
    assert done.returncode == 1, done.stdout + done.stderr
    assert [trial["point"] for trial in trials] == [point["id"] for point in points]
    steps = [line["type"] for line in lines(out, "begun", "trial")]
    assert steps == ["begun", "trial"] * len(points), "each step is there before the next one"
    ends = {point["function"]: trial["reason"] or trial["status"] for point, trial in zip(points, trials)}
    assert ends == {"bch2_get_folio_disk_reservation": "crash", "bch2_truncate": "pass"}
    crashes = sum(trial["reason"] == "crash" for trial in trials)
    assert done.stdout.splitlines()[-1].startswith(
        f"points {len(points)}: {len(points)} injected, 0 not reached again, 0 skipped; "
        f"trials {len(points)}: 1 passed, {crashes} findings ("
    )
    places = sorted((out / "findings").iterdir())
    assert places
    for place in places:
        assert str(place / "scenario.yaml") in done.stdout
        (scenario,) = load([place / "scenario.yaml"])
        assert scenario.faults[0].function == "bch2_get_folio_disk_reservation"
        assert "kernel BUG at fs/bcachefs/" in (place / "kernel.log").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_a_new_finding_becomes_small_and_shows_again(tmp_path: Path) -> None:
    """An error of bch2_btree_delete() in bch2_logged_op_finish() is fatal on purpose (logged_ops.c, v6.12)."""
    (tmp_path / "logged.yaml").write_text(LOGGED)
    out = tmp_path / "out"
    words = ["vm", "sweep", tmp_path / "logged.yaml", "--functions", "bch2_btree_delete", "-o", out]
    done = inject(*words, timeout=2 * LIMIT)
    assert done.returncode == 1, done.stdout + done.stderr
    (finding,) = lines(out, "finding")
    assert finding["signature"] == "check: read-only: bch2_btree_delete < bch2_logged_op_finish"
    assert (finding["runs"], finding["failed"], finding["faults"], finding["lines"]) == (3, 3, 1, [2, 8])
    assert "3 of 3 runs failed with this signature: reproducible" in done.stdout
    place = out / finding["directory"]
    (scenario,) = load([place / "scenario.yaml"])
    assert scenario.run == "head -c 100000 /dev/zero >$MNT/f\ntruncate -s 10001 $MNT/f\n"
    (fault,) = scenario.faults
    (point,) = [line for line in lines(out, "point") if finding["trial"].startswith(line["id"])]
    assert len(fault.when.stack) < len(point["stack"]) and fault.when.trigger.nth == 1
    assert "deleting logged operation" in (place / "kernel.log").read_text()
    assert "bch2_btree_delete" in (place / "trace.txt").read_text()
    readme = (place / "README").read_text()
    assert "Linux 6." in readme and "(unknown)" not in readme
    again = inject("vm", "run", place / "scenario.yaml", timeout=LIMIT)
    assert again.returncode == 1 and "Read-only file system" in again.stdout + again.stderr
    plain = inject("vm", "exec", "--timeout", "300", "--", "bash", "-c", (place / "reproduce.sh").read_text())
    assert plain.returncode == 3, plain.stdout + plain.stderr
    assert "ALLOW_ERROR_INJECTION(bch2_btree_delete, ERRNO);" in plain.stderr
    (tmp_path / "known.yaml").write_text(readme[readme.index("- signature:") :].replace("why:", "why: it must be"))
    known = inject(*words, "--resume", "--known", tmp_path / "known.yaml", timeout=LIMIT)
    assert known.returncode == 0, known.stdout + known.stderr
    assert "known: " + finding["signature"] in known.stdout and "it must be" in known.stdout
    assert [(line["known"], line["failed"]) for line in lines(out, "finding")] == [("", 3), ("it must be", 3)]


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_the_errors_of_trials_are_followed(tmp_path: Path) -> None:
    """In forked guests. No point shows up in a trial: it would be one with the trampoline of a return probe."""
    (tmp_path / "directories.yaml").write_text(DIRECTORIES)
    out = tmp_path / "out"
    words = ["--functions", "vfs_mkdir", "--functions", "vfs_rmdir", "--modes", "once,onward", "--trace"]
    done = inject("vm", "sweep", tmp_path / "directories.yaml", *words, "-o", out, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = lines(out, "trial")
    assert {trial["how"] for trial in trials} == {"fork"}, done.stderr
    assert len(trials) == 4 and all(trial["injected"] for trial in trials)
    assert [trial["fates"] for trial in trials] == [{"propagated": trial["injected"]} for trial in trials]
    assert {point["round"] for point in lines(out, "point")} == {0}
    assert "errors that were followed: 1 propagated" in (out / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_a_sweep_that_was_killed_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "directories.yaml").write_text(DIRECTORIES)
    out = tmp_path / "out"
    words = ["vm", "sweep", str(tmp_path / "directories.yaml"), *FUNCTIONS, "--modes", "once,onward", "-o", str(out)]
    with subprocess.Popen([*COMMAND, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as sweep:
        wait_for(lambda: len(lines(out, "trial")) >= 2, "two trials have ended", process=sweep, seconds=LIMIT)
        os.kill(sweep.pid, signal.SIGKILL)
        sweep.communicate()
    before = lines(out, "trial")
    done = inject(*words, "--resume", timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    points, trials, begun = lines(out, "point"), lines(out, "trial"), lines(out, "begun")
    assert trials[: len(before)] == before
    ids = [trial["trial"] for trial in trials]
    assert len(ids) == len(set(ids)) == 2 * len(points) > 4
    assert len(begun) <= len(trials) + 1
    assert len(lines(out, "recording")) == 1
    total = len(points)
    assert done.stdout.splitlines()[-1] == (
        f"points {total}: {total} injected, 0 not reached again, 0 skipped; "
        f"trials {2 * total}: {2 * total} passed, 0 findings (0 signatures), 0 errors"
    )
    again = inject(*words, "--resume", timeout=LIMIT)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert lines(out, "begun") == begun, "nothing was left to do"


LADDER = """\
name: ladder
faults: [{function: vfs_mkdir, return: -EIO}]
run: mkdir x || { touch f; ln f g || mv f h; }
"""
"""A call of the second function comes only if the first one fails, and of the third only if both do."""


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_what_shows_up_while_something_fails_is_failed_with_it(tmp_path: Path) -> None:
    (tmp_path / "ladder.yaml").write_text(LADDER)
    out = tmp_path / "out"
    names = ["--functions", "vfs_mkdir", "--functions", "vfs_link", "--functions", "vfs_rename"]
    done = inject("vm", "sweep", tmp_path / "ladder.yaml", *names, "--depth", "2", "-o", out, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    points = lines(out, "point")
    one, two, three = (f"{point['id']}-once" for point in points)
    assert [(point["function"], point["round"], point["under"]) for point in points] == [
        ("vfs_mkdir", 0, ""),
        ("vfs_link", 1, one),
        ("vfs_rename", 2, f"{one}+{two}"),
    ]
    assert [(trial["trial"], trial["fired"]) for trial in lines(out, "trial")] == [
        (one, [1]),
        (f"{one}+{two}", [1, 1]),
        (three, [0]),
    ]
    assert [(line["round"], line["points"], line["trials"]) for line in lines(out, "round")] == [
        (1, 1, 1),
        (2, 2, 1),
        (3, 3, 1),
    ]
    assert done.stdout.splitlines()[-1] == (
        "points 3: 2 injected, 1 not reached again, 0 skipped; trials 3: 3 passed, 0 findings (0 signatures), 0 errors"
    )
