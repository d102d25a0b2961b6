"""A script stands at its gate with everything loaded, and notices nothing of it."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import cast

import pytest

from inject.process.cgroup import Cgroup
from inject.process.stat import stat_of
from inject.process.workload import SCRIPT_LIMIT, Outcome, Workload, run_workload


class Group:
    """A cgroup that only remembers what was added."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self._directory = tempfile.TemporaryDirectory()
        self.path = Path(self._directory.name)

    def add(self, pid: int) -> None:
        self.pids.append(pid)

    def procs(self) -> list[int]:
        return []

    def kill(self) -> None:
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def wait_empty(self, _seconds: float) -> bool:
        return True


def group() -> Cgroup:
    return cast(Cgroup, Group())


def run(script: str, directory: Path) -> Outcome:
    return run_workload(script, cgroup=group(), cwd=directory, timeout=60, env={"PATH": os.environ["PATH"], "X": "1"})


def test_bash_has_loaded_its_libraries_and_stands_still(tmp_path: Path) -> None:
    with Workload("touch ran; exit 5", cgroup=group(), cwd=tmp_path) as workload:
        task = stat_of(Path(f"/proc/{workload.pid}"))
        assert task is not None and task.state == "T"
        assert "libc" in Path(f"/proc/{workload.pid}/maps").read_text()
        assert not (tmp_path / "ran").exists()
        workload.release()
        outcome = workload.wait(60)
    assert (outcome.code, outcome.began) == (5, True) and (tmp_path / "ran").exists()


def test_a_script_enters_its_group_by_itself(tmp_path: Path) -> None:
    """If inject is killed before it has moved the script there, the janitor finds it in the group."""
    own = group()
    with Workload("true", cgroup=own, cwd=tmp_path):
        assert (own.path / "cgroup.procs").read_text() == "0\n"


def test_one_that_is_never_released_never_runs(tmp_path: Path) -> None:
    with Workload("touch ran", cgroup=group(), cwd=tmp_path):
        pass
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("script", "code", "output"),
    [
        ('echo "$LINENO $0 $# $-"', 0, "1 run 0 ehuBc\n"),
        ("\n\necho $LINENO", 0, "3\n"),
        ("# a comment\nfalse\necho never", 1, ""),
        ("echo $unset", 1, "run: line 1: unset: unbound variable\n"),
        ("true\nno_such_thing", 127, "run: line 2: no_such_thing: command not found\n"),
        ("cat <<E\n$0\nE\nfalse | true", 1, "run\n"),
        ("set -x\necho a", 0, "+ echo a\na\n"),
        ("cat; ls -m /proc/$$/fd; true", 0, "0, 1, 2\n"),
        ("env | grep -vE '^(PATH|PWD|SHLVL|_)='", 0, "X=1\n"),
    ],
)
def test_a_script_does_not_see_its_gate(script: str, code: int, output: str, tmp_path: Path) -> None:
    outcome = run(script, tmp_path)
    assert (outcome.code, outcome.output, outcome.began) == (code, output, True)


@pytest.mark.parametrize("script", ["if true", "echo )", "echo 'a"])
def test_a_script_that_bash_cannot_read_has_not_begun(script: str, tmp_path: Path) -> None:
    outcome = run(script, tmp_path)
    assert (outcome.code, outcome.began) == (2, False)
    assert "run: -c: line " in outcome.output


def test_the_longest_script_runs_too(tmp_path: Path) -> None:
    assert run("# " + "x" * (SCRIPT_LIMIT - 2), tmp_path).code == 0
