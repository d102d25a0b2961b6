"""One direct write(2) whose memory is never contiguous: vector.py FILE PAGES.

Every element of the vector is the same page, so that no two neighbours can be merged
and a bio is full after BIO_MAX_VECS (256) pages whatever memory looks like.
"""

from __future__ import annotations

import mmap
import os
import sys

PAGE = 4096


def main(file: str, pages: str) -> int:
    """The exit code: 0 if all was written, 1 with the error's text otherwise."""
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
