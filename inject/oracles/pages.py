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


@dataclass(frozen=True)
class Held:
    """Numbers of pages."""

    lost: int
    """Allocated for the page cache by mm/, less those that are in it: only differences mean something."""
    pinned: int
    """Pinned for I/O by pin_user_pages() (mm/gup.c)."""

    def more_than(self, before: Held) -> str:
        """What is held now and was not before, in words; "" if nothing is."""
        if self.lost > before.lost:
            return f"{_pages(self.lost - before.lost)} of the page cache in no file and not freed: a lost reference"
        if self.pinned > before.pinned:
            return f"{_pages(self.pinned - before.pinned)} of user space still pinned for I/O that is over"
        return ""


def held(root: Path = Path("/")) -> Optional[Held]:
    """The pages that are held right now; None if the kernel does not count them (lib/alloc_tag.c, mm/vmstat.c).

    CPUs keep references to pages in batches (mm/swap.c) and differences of counters (mm/vmstat.c): both are
    collected first.
    """
    _collect(root)
    try:
        sites = (root / "proc/allocinfo").read_text()
        lines = (root / "proc/vmstat").read_text().splitlines()
    except OSError:
        return None
    sizes = [int(match[1]) for match in map(_ALLOCINFO.match, sites.splitlines()) if match]
    count = {name: int(value) for name, value in (line.split() for line in lines)}
    try:
        cached = count["nr_file_pages"] - count["nr_shmem"]
        pinned = count["nr_foll_pin_acquired"] - count["nr_foll_pin_released"]
    except KeyError:
        return None
    return Held(sum(sizes) // _PAGE - cached, pinned) if sum(sizes) else None


def _collect(root: Path) -> None:
    """Have the CPUs give up what they keep.

    BLKFLSBUF calls lru_add_drain_all() (block/bdev.c, invalidate_bdev()), here on the device of the root
    filesystem, whose clean metadata is read again; vmstat_refresh() (mm/vmstat.c) adds up the counters.
    """
    with contextlib.suppress(OSError):
        number = (root / ".").stat().st_dev
        name = (root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
        handle = os.open(root / "dev" / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, _BLKFLSBUF, 0)
        finally:
            os.close(handle)
    with contextlib.suppress(OSError):
        (root / "proc/sys/vm/stat_refresh").read_bytes()


def _pages(number: int) -> str:
    return "1 page" if number == 1 else f"{number} pages"
