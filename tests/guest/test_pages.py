"""Pages that the kernel lost: the leak check sees one that a pipe holds, and those that a ring pins."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
from dataclasses import replace

import pytest

from inject.oracles.leaks import Leaks, allocated
from inject.oracles.pages import held
from tests.support.workbench import guest_only

pytestmark = [guest_only, pytest.mark.test_kernel]

KINDS = ("bcachefs", "btrfs", "ext4", "xfs")
SIZE = {"xfs": 300 << 20}
_SETUP, _REGISTER, _BUFFERS = 425, 427, 0
"""Numbers of io_uring_setup(2) and io_uring_register(2), and its opcode (include/uapi/linux/io_uring.h)."""


@contextlib.contextmanager
def spliced(file):
    """The first page of ``file`` in a pipe, which keeps it, and the folio around it, when the file is gone."""
    reading, writing = os.pipe()
    try:
        with file.open("rb") as source:
            assert os.splice(source.fileno(), writing, 4096) == 4096
        yield
    finally:
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def pinned(pages):
    """Anonymous pages that an io_uring pins as a fixed buffer."""
    libc = ctypes.CDLL(None, use_errno=True)
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE)
    memory.write(b"x" * len(memory))
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ring = libc.syscall(_SETUP, 1, ctypes.create_string_buffer(120))
    assert ring >= 0, os.strerror(ctypes.get_errno())
    vector = (ctypes.c_size_t * 2)(start, len(memory))
    try:
        assert libc.syscall(_REGISTER, ring, _BUFFERS, vector, 1) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        os.close(ring)


@pytest.mark.parametrize("kind", KINDS)
def test_leaks_bite_on_a_page_that_is_in_no_file(place, kind, monkeypatch):
    monkeypatch.setattr("inject.oracles.leaks.QUIET", 2.0)
    before, quiet = held(), allocated(kind)
    assert before is not None
    with place.fixture(kind, size=SIZE.get(kind, 128 << 20)) as fixture:
        context, oracle = replace(place.context(fixture), pages=before, allocated=quiet), Leaks()
        (fixture.mountpoint / "file").write_bytes(bytes(1 << 20))
        oracle.before(context)
        with spliced(fixture.mountpoint / "file"):
            fixture.umount()
            complaint = oracle.after(context)
        assert complaint is not None
        assert re.search(r": \d+ pages? of the page cache in no file and not freed", complaint.detail), complaint
        assert oracle.after(context) is None


def test_leaks_bite_on_pages_that_stay_pinned(place, monkeypatch):
    monkeypatch.setattr("inject.oracles.leaks.QUIET", 2.0)
    before = held()
    assert before is not None
    with place.fixture("ext4") as fixture:
        context, oracle = replace(place.context(fixture), pages=before), Leaks()
        oracle.before(context)
        fixture.umount()
        with pinned(3):
            complaint = oracle.after(context)
        assert complaint is not None
        assert "3 pages of user space still pinned" in complaint.detail
        assert oracle.after(context) is None
