"""Pages that the kernel has lost: allocated for the page cache and in no file, or pinned with no I/O on them.

A folio with one reference too many is never freed. The unmount takes it out of the page cache, so that
nothing else shows it. Of one filesystem the kernel counts neither; in a guest of inject, where nothing else
runs, the sums over all filesystems must be what they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

_ALLOCINFO = re.compile(r"\s*(\d+)\s+\d+ mm/(?:filemap|readahead)\.c:")
"""Call sites of filemap_alloc_folio() outside filesystems (mm/filemap.c, mm/readahead.c, 6.12)."""

_BLKFLSBUF = 0x1261
_PAGE = os.sysconf("SC_PAGE_SIZE")


TRIES = 20
"""Looks at the numbers until nothing moved during one."""


@dataclass(frozen=True)
class Held:
    """Numbers of pages. They are read one after the other; ``still``: they did not change meanwhile."""

    allocated: int
    """Allocated for the page cache by mm/."""
    cached: int
    """In the page cache of any file. Only differences of ``lost`` mean something."""
    pinned: int
    """Pinned for I/O by pin_user_pages() (mm/gup.c)."""
    still: bool = True

    @property
    def lost(self) -> int:
        """Allocated and in no file."""
        return self.allocated - self.cached

    def more_than(self, before: Held) -> str:
        """What is held now and was not before, in words; "" if nothing is."""
        if self.lost > before.lost:
            return f"{_pages(self.lost - before.lost)} of the page cache in no file and not freed: a lost reference"
        if self.pinned > before.pinned:
            return f"{_pages(self.pinned - before.pinned)} of user space still pinned for I/O that is over"
        return ""

    def __str__(self) -> str:
        return f"pages: {self.allocated} allocated for the page cache, {self.cached} in files, {self.pinned} pinned"


def held(root: Path = Path("/")) -> Optional[Held]:
    """The pages that are held right now; None if the kernel does not count them (lib/alloc_tag.c, mm/vmstat.c).

    CPUs keep references to pages in batches (mm/swap.c) and differences of counters (mm/vmstat.c): both are
    collected first. A page that comes or goes between two of the files would be missing in one of them, so
    the counters are read before and after the call sites.
    """
    _drain(root)
    found = None
    for _ in range(TRIES):
        before, allocated, after = _counters(root), _allocated(root), _counters(root)
        if before is None or not allocated or after is None:
            return None
        found = Held(allocated, *after, still=before == after)
        if found.still:
            break
    return found


def _allocated(root: Path) -> int:
    """Pages that the call sites hold; 0 if the kernel does not count them."""
    try:
        sites = (root / "proc/allocinfo").read_text()
    except OSError:
        return 0
    return sum(int(match[1]) for match in map(_ALLOCINFO.match, sites.splitlines()) if match) // _PAGE


def _counters(root: Path) -> Optional[tuple[int, int]]:
    """Pages in files, and pinned ones, after vmstat_refresh() (mm/vmstat.c) has added up what each CPU counted."""
    with contextlib.suppress(OSError):
        (root / "proc/sys/vm/stat_refresh").read_bytes()
    try:
        lines = (root / "proc/vmstat").read_text().splitlines()
        count = {name: int(value) for name, value in (line.split() for line in lines)}
        return (
            count["nr_file_pages"] - count["nr_shmem"],
            count["nr_foll_pin_acquired"] - count["nr_foll_pin_released"],
        )
    except (OSError, KeyError):
        return None


def _drain(root: Path) -> None:
    """Have the CPUs give up the references that they keep.

    BLKFLSBUF calls lru_add_drain_all() (block/bdev.c, invalidate_bdev()), here on the device of the root
    filesystem, whose clean metadata is read again.
    """
    with contextlib.suppress(OSError):
        number = (root / ".").stat().st_dev
        name = (root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
        handle = os.open(root / "dev" / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, _BLKFLSBUF, 0)
        finally:
            os.close(handle)


def _pages(number: int) -> str:
    return "1 page" if number == 1 else f"{number} pages"
