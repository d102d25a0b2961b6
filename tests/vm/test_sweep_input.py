"""`inject vm sweep` in real guests, asked for what it cannot find, or with a workload that is never the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.errors import ExitStatus
from tests.support.command import inject
from tests.vm.test_sweep import LIMIT, lines

DIRECTORY = """\
name: directory
faults: [{function: vfs_mkdir, return: -EIO}]
run: mkdir x
"""
CHANGING = """\
name: changing
faults: [{function: vfs_mkdir, return: -EIO}]
run: |
  case $(od -An -N1 -tu1 /dev/urandom) in
  *[02468]) mkdir x; rmdir x;;
  *) touch x; mv x y; rm y;;
  esac
"""


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_functions_that_there_are_not(tmp_path: Path) -> None:
    (tmp_path / "directory.yaml").write_text(DIRECTORY)
    out = tmp_path / "out"
    done = inject("vm", "sweep", tmp_path / "directory.yaml", "--functions", "no_such_*", "-o", out, timeout=LIMIT)
    assert done.returncode == ExitStatus.CANNOT_RUN, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == (
        "inject: directory cannot be recorded: no function of this kernel matches 'no_such_*'; "
        "`inject list --all` shows them"
    )
    assert not lines(out, "point", "begun")


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_a_workload_that_is_never_the_same_adds_up(tmp_path: Path) -> None:
    """Each saved guest draws its own random byte, the recording another: some points may not be reached again."""
    (tmp_path / "changing.yaml").write_text(CHANGING)
    out = tmp_path / "out"
    words = ["--functions", "vfs_*", "--rounds", "1", "-o", out]
    done = inject("vm", "sweep", tmp_path / "changing.yaml", *words, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    points, trials = lines(out, "point"), lines(out, "trial")
    reached = sum(trial["injected"] > 0 for trial in trials)
    assert len(trials) == len(points) > 5
    assert done.stdout.splitlines()[-1] == (
        f"points {len(points)}: {reached} injected, {len(points) - reached} not reached again, 0 skipped; "
        f"trials {len(points)}: {len(points)} passed, 0 findings (0 signatures), 0 errors"
    )
