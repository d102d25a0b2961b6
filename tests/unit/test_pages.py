"""Pages that are held, from what the kernel prints; and what is more than before."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from inject.oracles import pages
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
        (SITES, COUNTS, Held(12, 11, 5)),
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
        (Held(7, 10, 2), ""),
        (Held(6, 10, 1), ""),
        (Held(9, 11, 2), "1 page of the page cache in no file and not freed: a lost reference"),
        (Held(5, 8, 4), "2 pages of user space still pinned for I/O that is over"),
    ],
)
def test_more_than_before(now: Held, words: str) -> None:
    assert now.more_than(Held(2, 5, 2)) == words


@pytest.mark.parametrize("moves", [1, pages.TRIES - 1, pages.TRIES])
def test_a_look_during_which_pages_come_or_go_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """As when a page is added after its call site was printed: one look alone would miss it for good."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/allocinfo").write_text(SITES)
    (tmp_path / "proc/vmstat").write_text(COUNTS)
    real, left = Path.read_text, [moves]

    def read_text(path: Path, *words: str) -> str:
        if path.name == "allocinfo" and left[0]:
            left[0] -= 1
            (tmp_path / "proc/vmstat").write_text(COUNTS.replace("14", str(14 + left[0])))
        return real(path, *words)

    monkeypatch.setattr(Path, "read_text", read_text)
    (tmp_path / "proc/vmstat").write_text(COUNTS.replace("14", "99"))
    found = held(tmp_path)
    assert found is not None and found.still == (moves < pages.TRIES)
    assert not found.still or found == Held(12, 11, 5)
