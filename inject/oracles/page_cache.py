"""Reading a file and leaving its page cache as it was: what was not cached before is dropped afterwards.

What the kernel keeps of names, inodes and extents cannot be restored for one file.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Optional

PAGE = mmap.PAGESIZE

MOST_PAGES = 1 << 20
"""Pages of one file that are looked at; a larger file stays as the check leaves it."""

_CACHESTAT = 451
"""Number of cachestat(2), Linux 6.5, on every architecture but alpha."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_FAILED = ctypes.c_void_p(-1).value

Range = tuple[int, int]
"""Offset and length in bytes, in whole pages."""


@contextlib.contextmanager
def unchanged(handle: int, size: int) -> Iterator[None]:
    """Drop what the block reads into the page cache of the file, of ``size`` bytes; its data must be synced."""
    ranges = uncached(handle, size)
    try:
        yield
    finally:
        for offset, length in ranges:
            os.posix_fadvise(handle, offset, length, os.POSIX_FADV_DONTNEED)


def uncached(handle: int, size: int) -> list[Range]:
    """Ranges of the file that are not cached; [] if the kernel does not say, or above MOST_PAGES."""
    pages = -(-size // PAGE)
    if not 0 < pages <= MOST_PAGES:
        return []
    cached = cached_pages(handle, pages)
    if cached == 0:
        return [(0, pages * PAGE)]
    if cached == pages:
        return []
    return absent(resident(handle, pages))


def absent(vector: Sequence[int]) -> list[Range]:
    """Runs of pages whose bit 0 is not set, as mincore(2) gives it."""
    ranges: list[Range] = []
    for number, page in enumerate(vector):
        if page & 1:
            continue
        offset, length = ranges[-1] if ranges else (0, 0)
        if ranges and offset + length == number * PAGE:
            ranges[-1] = (offset, length + PAGE)
        else:
            ranges.append((number * PAGE, PAGE))
    return ranges


def cached_pages(handle: int, pages: int) -> Optional[int]:
    """How many of the first ``pages`` are cached, by cachestat(2); None if the kernel does not have it."""
    where = (ctypes.c_uint64 * 2)(0, pages * PAGE)
    found = (ctypes.c_uint64 * 5)()  # struct cachestat, include/uapi/linux/mman.h
    if _LIBC.syscall(ctypes.c_long(_CACHESTAT), handle, ctypes.byref(where), ctypes.byref(found), 0):
        return None
    return int(found[0])


def resident(handle: int, pages: int) -> bytes:
    """One byte for each page, by mincore(2), bit 0 set if it is cached; b"" if the file cannot be mapped."""
    length = ctypes.c_size_t(pages * PAGE)
    vector = (ctypes.c_ubyte * pages)()
    address = _LIBC.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, handle, ctypes.c_long(0))
    if address == _FAILED:
        return b""
    try:
        return b"" if _LIBC.mincore(ctypes.c_void_p(address), length, vector) else bytes(vector)
    finally:
        _LIBC.munmap(ctypes.c_void_p(address), length)
