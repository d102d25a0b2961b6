"""Direct writes against buffered reads and writes of the same range: racers.py FILE ROUNDS.

One process writes whole blocks directly, one writes them through the page cache, and one
reads them both ways. If buffered and direct reads of a block differ after all processes have
ended, the page cache holds a stale page. The processes count the errors that an injected
fault causes, and continue.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys

BLOCK = 4096
BLOCKS = 64


def write(path: str, rounds: int, direct: bool, byte: int) -> int:
    """Write every block ``rounds`` times and return the number of failed writes."""
    buffer = mmap.mmap(-1, BLOCK)
    buffer.write(bytes([byte]) * BLOCK)
    handle = os.open(path, os.O_RDWR | (os.O_DIRECT if direct else 0))
    refused = 0
    for _ in range(rounds):
        for block in range(BLOCKS):
            try:
                os.pwrite(handle, buffer, block * BLOCK)
            except OSError:
                refused += 1
    os.close(handle)
    return refused


def read(path: str, rounds: int) -> None:
    """Read all of it, directly and through the page cache."""
    buffer = mmap.mmap(-1, BLOCK * BLOCKS)
    for flags in (0, os.O_DIRECT) * rounds:
        handle = os.open(path, os.O_RDONLY | flags)
        try:
            os.preadv(handle, [buffer], 0)
        except OSError as error:
            print(f"read: {error.strerror}")
        os.close(handle)


def disagreement(path: str) -> str:
    """First block that buffered and direct reads show differently, or "" if none."""
    views = []
    for flags in (0, os.O_DIRECT):
        buffer = mmap.mmap(-1, BLOCK * BLOCKS)
        handle = os.open(path, os.O_RDONLY | flags)
        fcntl.flock(handle, fcntl.LOCK_SH)
        os.preadv(handle, [buffer], 0)
        os.close(handle)
        views.append(bytes(buffer))
    for block in range(BLOCKS):
        cached, stored = (view[block * BLOCK : (block + 1) * BLOCK] for view in views)
        if cached != stored:
            return f"block {block}: cached {cached[:1]!r}, on disk {stored[:1]!r}"
    return ""


def main(path: str, rounds: str) -> int:
    """Exit code: 0 if all ways of reading agree at the end."""
    count = int(rounds)
    children = []
    for work in (
        lambda: print("direct writes refused:", write(path, count, True, ord("d"))),
        lambda: print("buffered writes refused:", write(path, count, False, ord("b"))),
        lambda: read(path, count * 4),
    ):
        child = os.fork()
        if not child:
            work()
            sys.stdout.flush()
            os._exit(0)
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    words = disagreement(path)
    print(words or "all ways of reading agree")
    return 1 if words or any(ends) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
