"""Direct writes from a buffer that is a mapping: own_buffer.py TARGET SOURCE SIZE.

Maps SOURCE and writes it to TARGET with O_DIRECT, all in one pwrite(2). With TARGET and
SOURCE the same file the pages of the buffer must be faulted in while the very write
keeps page faults of that file out.
"""

from __future__ import annotations

import mmap
import os
import sys


def main(target: str, source: str, size: str) -> int:
    """The exit code: 0 if all was written, 1 with the error's text otherwise."""
    length = int(size)
    reading = os.open(source, os.O_RDWR)
    buffer = mmap.mmap(reading, length)
    writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o644)
    try:
        written = os.pwrite(writing, buffer, 0)
    except OSError as error:
        print(error.strerror)
        return 1
    print(f"wrote {written}")
    return 0 if written == length else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
