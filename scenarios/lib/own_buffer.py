"""Direct writes from a buffer that is a mapping: own_buffer.py TARGET SOURCE SIZE [ROUNDS].

Maps SOURCE and writes it to TARGET with O_DIRECT, all in one pwrite(2). With TARGET and
SOURCE the same file the pages of the buffer must be faulted in while the very write
keeps page faults of that file out. With ROUNDS two processes do so that many times, one
of them the other way round, both with their pages not in memory; errors are counted.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator


def write(target: str, source: str, length: int, rounds: int = 1) -> Iterator[OSError | int]:
    """What each of ``rounds`` writes returned: an error, or how much was written."""
    reading = os.open(source, os.O_RDWR)
    writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o644)
    for _ in range(rounds):
        with mmap.mmap(reading, length) as buffer:
            try:
                yield os.pwrite(writing, buffer, 0)
            except OSError as error:
                yield error
        if rounds > 1:
            os.posix_fadvise(reading, 0, 0, os.POSIX_FADV_DONTNEED)


def both(target: str, source: str, length: int, rounds: int) -> int:
    """The exit code: 0 when both writers came to their end."""
    children = []
    for one, other in ((target, source), (source, target)):
        child = os.fork()
        if not child:
            results = list(write(one, other, length, rounds))
            refused = sum(result != length for result in results)
            print(f"{refused} of {rounds} writes refused", flush=True)
            os._exit(0)
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    print("both are done")
    return 1 if any(ends) else 0


def main(target: str, source: str, size: str, rounds: str = "") -> int:
    """The exit code: 0 if all was written, 1 with the error's text otherwise."""
    if rounds:
        return both(target, source, int(size), int(rounds))
    for result in write(target, source, int(size)):
        if isinstance(result, OSError):
            print(result.strerror)
            return 1
        print(f"wrote {result}")
    return 0 if result == int(size) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
