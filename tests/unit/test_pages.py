"""Pages that are held, from what the kernel prints; and what is more than before."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from inject.oracles.pages import Held, held

SITES = """allocinfo - version: 1.0
#     <size>  <calls> <tag info>
       40960       10 mm/filemap.c:1951 func:__filemap_get_folio
        8192        2 mm/readahead.c:260 func:page_cache_ra_unbounded
      409600      100 mm/shmem.c:1770 func:shmem_alloc_folio
"""
COUNTS = """nr_file_pages 14
nr_shmem 3
nr_foll_pin_acquired 20
nr_foll_pin_released 15
"""


@pytest.mark.parametrize(
    ("sites", "counts", "found"),
    [
        (SITES, COUNTS, Held(1, 5)),
        (SITES, COUNTS.replace("nr_foll_pin_released 15\n", ""), None),
        (SITES.replace(" mm/f", " fs/f").replace(" mm/r", " fs/r"), COUNTS, None),
        (None, COUNTS, None),
    ],
)
def test_held(tmp_path: Path, sites: Optional[str], counts: str, found: Optional[Held]) -> None:
    (tmp_path / "proc").mkdir()
    if sites is not None:
        (tmp_path / "proc/allocinfo").write_text(sites)
    (tmp_path / "proc/vmstat").write_text(counts)
    assert held(tmp_path) == found


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (Held(-3, 2), ""),
        (Held(-4, 1), ""),
        (Held(-2, 2), "1 page of the page cache in no file and not freed: a lost reference"),
        (Held(-3, 4), "2 pages of user space still pinned for I/O that is over"),
    ],
)
def test_more_than_before(now: Held, words: str) -> None:
    assert now.more_than(Held(-3, 2)) == words
