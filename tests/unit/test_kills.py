"""Parts of `make kills`: which calls it takes, and its tracer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Optional

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
    assert set(found[:5]) == set(changing(CALLS))


def test_a_spread_has_each_call_that_changes_something() -> None:
    calls = CALLS * 20
    found = spread(calls, 10)
    assert len(found) == 10
    assert {calls[place] for place in found} == {WRITE, MKDIR, CLOSE}


def test_what_stayed_and_what_was_not_done_is_said() -> None:
    assert str(Result("run", 9, 6, 5, 4, {3: "file"})) == (
        "run: 9 system calls, 6 change something; 5 steps, on 4 nothing stayed (4 not done: the time was up)"
    )


ROW = """
import os
os.mkdir("first")
os.mkdir("second")
os.system("mkdir child")
"""
CLOSES = """
import os
os.mkdir("first")
for words in ((".", os.O_RDONLY), ("/proc/self/stat", os.O_RDONLY), ("file", os.O_RDWR | os.O_CREAT)):
    os.close(os.open(*words))
os.close(os.pipe()[0])
os.mkdir("last")
"""
THREAD = """
import os, threading
thread = threading.Thread(target=os.mkdir, args=("thread",))
thread.start()
thread.join()
os.kill(os.getpid(), 10)
"""


def traced(program: str, directory: Path, at: Optional[int] = None) -> tuple[Traced, set[str]]:
    """A run of ``program`` and the names that it made in ``directory``."""
    directory.mkdir()
    found = Traced([sys.executable, "-c", program], os.environ, str(directory), at)
    return found, {path.name for path in directory.iterdir()}


def test_a_traced_program_is_killed_before_the_call(tmp_path: Path) -> None:
    """Its children are not traced: their calls do not count."""
    whole, made = traced(ROW, tmp_path / "whole")
    assert (whole.status, made) == (0, {"first", "second", "child"})
    places = [place for place, call in enumerate(whole.calls) if name_of(call) == "mkdir"]
    assert len(places) == 2
    part, made = traced(ROW, tmp_path / "part", places[1])
    assert (part.status, made) == (-9, {"first"})


def test_a_close_of_what_was_only_read_changes_nothing(tmp_path: Path) -> None:
    whole, _ = traced(CLOSES, tmp_path / "whole")
    first, last = (place for place, call in enumerate(whole.calls) if name_of(call) == "mkdir")
    between = whole.calls[first:last]
    closed = [bool(call & QUIET) for call in between if name_of(call) == "close"]
    assert closed == [True, True, False, False]
    assert [name_of(between[place]) for place in changing(between)] == ["mkdir", "openat", "close", "pipe2", "close"]


def test_threads_are_traced_and_signals_reach_the_program(tmp_path: Path) -> None:
    whole, made = traced(THREAD, tmp_path / "whole")
    assert (whole.status, made) == (-10, {"thread"})
    assert [name_of(call) for call in whole.calls].count("mkdir") == 1
