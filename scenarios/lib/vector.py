"""One direct write(2) from memory that is not contiguous: vector.py FILE PAGES.

Every element of the vector is the same page, so the kernel cannot merge neighbours, and
a bio is always full after BIO_MAX_VECS (256) pages.
"""

from __future__ import annotations

import mmap
import os
import sys

PAGE = 4096


def main(file: str, pages: str) -> int:
    """Exit code: 0 if everything was written; otherwise print the error and return 1."""
    page = mmap.mmap(-1, PAGE)
    page.write(b"a" * PAGE)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o644)
    try:
        written = os.pwritev(handle, [page] * int(pages), 0)
    except OSError as error:
        print(error.strerror)
        return 1
    print(f"wrote {written}")
    return 0 if written == PAGE * int(pages) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
