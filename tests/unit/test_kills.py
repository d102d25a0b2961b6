"""Parts of `make kills`: which calls it takes, and its tracer."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from inject.model.syscalls import call_name
from tests.kills.choice import HARMLESS, QUIET, changing, every, name_of, spread
from tests.kills.result import Result
from tests.kills.tracer import OPENAT, Traced

READ, WRITE, MKDIR, CLOSE = 0, 1, 83, 3
CALLS = [READ, WRITE, WRITE, READ, MKDIR, READ, CLOSE, WRITE]


def test_the_names_are_those_of_the_kernel() -> None:
    assert [call_name(call) for call in CALLS[:5]] == ["read", "write", "write", "read", "mkdir"]
    assert HARMLESS.isdisjoint(
        {"write", "mkdir", "mount", "umount2", "clone", "vfork", "bpf", "ioctl", "close", "kill"}
    )


def test_calls_that_change_something() -> None:
    assert changing([*CALLS, OPENAT | QUIET, OPENAT]) == [1, 2, 4, 6, 7, 9]


def test_every_call_comes_once_and_those_that_change_something_first() -> None:
    found = every(CALLS)
    assert sorted(found) == list(range(len(CALLS)))
    assert (set(found[:4]), found[4]) == ({1, 2, 4, 7}, 6)


def test_a_spread_has_each_call_that_changes_something() -> None:
    calls = CALLS * 20
    found = spread(calls, 10)
    assert len(found) == 10
    assert {calls[place] for place in found} == {WRITE, MKDIR, CLOSE}


def test_what_stayed_and_what_was_not_done_is_said() -> None:
    assert str(Result("run", 9, 5, 4, {3: "file"})) == (
        "run: 9 system calls; 5 steps, on 4 nothing stayed (4 not done: the time was up)"
    )


PROGRAM = """
import os, threading
thread = threading.Thread(target=os.mkdir, args=("thread",))
thread.start()
thread.join()
os.mkdir("first")
os.mkdir("second")
os.system("mkdir child")
"""


def test_a_traced_program_is_killed_before_the_call(tmp_path: Path) -> None:
    """Of its threads as well; its children are not traced."""
    argv = [sys.executable, "-c", PROGRAM]
    whole = tmp_path / "whole"
    whole.mkdir()
    traced = Traced(argv, os.environ, str(whole))
    assert traced.status == 0
    assert {path.name for path in whole.iterdir()} == {"thread", "first", "second", "child"}
    makes = [place for place, call in enumerate(traced.calls) if name_of(call) == "mkdir"]
    assert len(makes) == 3
    part = tmp_path / "part"
    part.mkdir()
    killed = Traced(argv, os.environ, str(part), makes[2])
    assert killed.status == -9
    assert len(list(part.iterdir())) in (2, 3)  # threads may make a call more or less
