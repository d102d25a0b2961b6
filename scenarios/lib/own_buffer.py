"""Direct writes from a buffer that is a mapping: own_buffer.py TARGET SOURCE SIZE [ROUNDS].

Maps SOURCE and writes it to TARGET with O_DIRECT in one pwrite(2). If TARGET and SOURCE
are the same file, the kernel must fault in the pages of the buffer while the write blocks
page faults of that file. With ROUNDS, two processes do this ROUNDS times, one with TARGET
and SOURCE swapped, both with their pages not in memory; they count errors.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator


def write(target: str, source: str, length: int, rounds: int = 1) -> Iterator[OSError | int]:
    """Results of ``rounds`` writes: an error, or the number of bytes written."""
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
    """Exit code: 0 if both writers ended normally."""
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
    """Exit code: 0 if everything was written; otherwise print the error and return 1."""
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
