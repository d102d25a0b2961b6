"""Reads damaged data in a child process, which may take neither for ever nor all memory."""

from __future__ import annotations

import os
import resource
import select
import signal
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tests.fuzz.damage import damaged
from tests.fuzz.target import Target

EACH = 10.0
"""CPU seconds that a reader may take for one file; nearly all take milliseconds."""

STALLED = 300
"""Seconds after which a child that uses no CPU hangs."""

MEMORY = 1 << 30
"""Bytes of address space that a reader may add to what the child has at its start."""


@dataclass(frozen=True)
class Found:
    """What a target does not stand: its seed, and what happened."""

    target: str
    seed: str
    what: str


def hunt(target: Target, seed: str, *, files: int = 1 << 62, seconds: float = 1e9) -> tuple[int, list[Found]]:
    """Give ``target`` so many damaged ``files``, for ``seconds`` at most: how many it got, and what went wrong."""
    until = time.monotonic() + seconds
    read, found = 0, []
    while read < files and time.monotonic() < until:
        last, wrong = _one_child(target, seed, read, files, until)
        read = last + 1
        if wrong is not None:
            found.append(wrong)
    return read, found


def _one_child(target: Target, seed: str, first: int, files: int, until: float) -> tuple[int, Optional[Found]]:
    """Read from file number ``first`` on in one child: the last number it began, and what was wrong with that."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        _read_all(target, seed, first, files, until, writer)
    os.close(writer)
    last, rest, timed_out = first, b"", False
    began, waited = 0.0, 0
    while True:
        ready, _, _ = select.select([reader], [], [], 1.0)
        if not ready:
            waited += 1
            timed_out = _seconds(pid) - began > EACH or waited > STALLED
            if timed_out:
                break
            continue
        data = os.read(reader, 1 << 16)
        if not data:
            break
        began, waited = _seconds(pid), 0
        rest += data
        if b"!" not in rest and b"\n" in rest:
            whole, _, rest = rest.rpartition(b"\n")
            last = int(whole.rpartition(b"\n")[2])
    numbers, _, said = rest.partition(b"!")
    last = int(numbers.split()[-1]) if numbers.split() else last
    if timed_out:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not timed_out and status == 0:
        return last, None
    what = (
        f"took more than {EACH:g} s of the CPU, or hung"
        if timed_out
        else said.decode(errors="replace") or f"ended with {status}"
    )
    return last, Found(target.name, f"{seed}/{last}", what)


def _seconds(pid: int) -> float:
    """CPU seconds that a process has used; 0.0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read_all(target: Target, seed: str, first: int, files: int, until: float, writer: int) -> None:
    """The child: writes the number of each file before it reads it, and after a ``!`` what went wrong."""
    code = 1
    try:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        originals = target.originals()
        with tempfile.TemporaryDirectory() as folder:
            for number in range(first, files):
                if time.monotonic() >= until:
                    break
                os.write(writer, b"%d\n" % number)
                target.check(damaged(f"{seed}/{number}", originals), Path(folder))
        code = 0
    except BaseException:
        os.write(writer, b"!" + traceback.format_exc()[-4000:].encode(errors="replace"))
    finally:
        os._exit(code)
