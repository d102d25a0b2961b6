"""Reads damaged files in a child process, which may take neither for ever nor all memory."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.scenario import load_all
from tests.fuzz.damage import damaged

EACH = 10.0
"""CPU seconds that the reader may take for one file; nearly all take milliseconds."""

STALLED = 300
"""Seconds after which a child that uses no CPU hangs."""

MEMORY = 1 << 30
"""Bytes of address space that the reader may add to what the child has at its start."""

_LINE = re.compile(r"[^\n]+:\d+:\d+: [^\n]+")


@dataclass(frozen=True)
class Found:
    """A file that the reader does not stand: its seed, and what happened."""

    seed: str
    what: str


def check(path: Path) -> None:
    """Read the file; raises AssertionError if the answer is neither scenarios nor printable lines with a place."""
    scenarios, errors = load_all([path])
    assert scenarios or errors, "neither scenarios nor errors"
    for error in errors:
        assert _LINE.fullmatch(str(error)) and str(error).isprintable(), f"not one printable line: {error!r}"
    assert all(one.faults and one.run for one in scenarios)


def hunt(
    seed: str, originals: Sequence[bytes], *, files: int = 1 << 62, seconds: float = 1e9
) -> tuple[int, list[Found]]:
    """Read ``files`` damaged files, for ``seconds`` at most: how many were read, and those that went wrong."""
    until = time.monotonic() + seconds
    read, found = 0, []
    while read < files and time.monotonic() < until:
        last, wrong = _one_child(seed, originals, read, files, until)
        read = last + 1
        if wrong is not None:
            found.append(wrong)
    return read, found


def _one_child(
    seed: str, originals: Sequence[bytes], first: int, files: int, until: float
) -> tuple[int, Optional[Found]]:
    """Read from file number ``first`` on in one child: the last number it began, and what was wrong with that."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        _read_all(seed, originals, first, files, until, writer)
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
    return last, Found(f"{seed}/{last}", what)


def _seconds(pid: int) -> float:
    """CPU seconds that a process has used; 0.0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read_all(seed: str, originals: Sequence[bytes], first: int, files: int, until: float, writer: int) -> None:
    """The child: writes the number of each file before it reads it, and after a ``!`` what went wrong."""
    code = 1
    try:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "f.yaml")
            for number in range(first, files):
                if time.monotonic() >= until:
                    break
                os.write(writer, b"%d\n" % number)
                path.write_bytes(damaged(f"{seed}/{number}", originals))
                check(path)
        code = 0
    except BaseException:
        os.write(writer, b"!" + traceback.format_exc()[-4000:].encode(errors="replace"))
    finally:
        os._exit(code)
