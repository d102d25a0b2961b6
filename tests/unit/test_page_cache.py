"""A file that is read for a check is as cached afterwards as before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from inject.oracles import page_cache
from inject.oracles.page_cache import PAGE, absent, cached_pages, resident, unchanged

PAGES = 40


@pytest.fixture
def handle() -> Iterator[int]:
    """A synced file on a disk, with an odd size, nothing of it cached."""
    for directory in ("/var/tmp", str(Path(__file__).parent)):
        path = Path(directory) / f"inject-page-cache-{os.getpid()}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        path.unlink()
        os.write(fd, os.urandom(PAGES * PAGE - 100))
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if not any(resident(fd, PAGES)):
            yield fd
            os.close(fd)
            return
        os.close(fd)
    pytest.skip("no filesystem here drops clean pages")


def read(fd: int, first: int = 0, pages: int = PAGES) -> None:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # no readahead
    os.pread(fd, pages * PAGE, first * PAGE)


def cached(fd: int) -> set[int]:
    return {number for number, page in enumerate(resident(fd, PAGES)) if page & 1}


@pytest.fixture(params=["cachestat", "mincore"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "mincore":
        monkeypatch.setattr(page_cache, "cached_pages", lambda *_: None)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("before", [set(), {0}, {39}, {3, 4, 5, 20}, set(range(PAGES))])
def test_as_cached_as_before(handle: int, before: set[int]) -> None:
    for page in before:
        read(handle, page, 1)
    assert cached(handle) == before
    with unchanged(handle, PAGES * PAGE - 100):
        read(handle)
        assert cached(handle) == set(range(PAGES))
    assert cached(handle) == before


def test_cachestat_counts_pages(handle: int) -> None:
    if cached_pages(handle, PAGES) is None:
        pytest.skip("this kernel has no cachestat(2)")
    assert cached_pages(handle, PAGES) == 0
    read(handle, 3, 2)
    assert cached_pages(handle, PAGES) == 2


def test_runs_of_absent_pages() -> None:
    assert absent(b"") == []
    assert absent(b"\1\1") == []
    assert absent(b"\0\0\1\0") == [(0, 2 * PAGE), (3 * PAGE, PAGE)]


def test_an_empty_file_has_nothing_to_drop(handle: int) -> None:
    with unchanged(handle, 0):
        pass
    assert page_cache.uncached(handle, 0) == []
