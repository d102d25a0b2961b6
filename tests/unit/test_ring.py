"""A ring buffer as the kernel lays it out, in a file: whole records come out, in order, and room is given back."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from inject.engine.ring import BUSY, DISCARDED, Ring

SIZE = mmap.PAGESIZE


class Kernel:
    """The producer's side: what bpf_ringbuf_reserve() and bpf_ringbuf_submit() do."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w+b")
        self.file.truncate(2 * mmap.PAGESIZE + 2 * SIZE)
        self.memory = mmap.mmap(self.file.fileno(), 0)
        self.produced = 0

    def put(self, record: bytes, flags: int = 0) -> int:
        """Place of the record's header."""
        at = 2 * mmap.PAGESIZE + self.produced % SIZE
        whole = (struct.pack("<II", len(record) | flags, 0) + record).ljust(8 + (len(record) + 7 & ~7), b"\0")
        for i, byte in enumerate(whole):  # the second mapping of the same pages
            place = 2 * mmap.PAGESIZE + (self.produced + i) % SIZE
            self.memory[place] = self.memory[place + SIZE] = byte
        self.produced += len(whole)
        self.memory[mmap.PAGESIZE : mmap.PAGESIZE + 8] = struct.pack("<Q", self.produced)
        return at

    def submit(self, at: int) -> None:
        """The record at ``at`` is complete."""
        (word,) = struct.unpack_from("<I", self.memory, at)
        struct.pack_into("<I", self.memory, at, word & ~BUSY)

    @property
    def consumed(self) -> int:
        return int(struct.unpack_from("<Q", self.memory)[0])


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "ring")


@pytest.fixture
def ring(kernel: Kernel) -> Iterator[Ring]:
    made = Ring(kernel.file.fileno(), SIZE)
    yield made
    made.close()


def test_records_of_any_size_in_order(kernel: Kernel, ring: Ring) -> None:
    assert ring.take() == []
    records = [bytes([i % 251]) * i for i in (1, 7, 8, 9, 320)]
    for record in records:
        kernel.put(record)
    assert ring.take() == records
    assert ring.take() == []
    assert kernel.consumed == kernel.produced


def test_a_record_may_lie_across_the_end(kernel: Kernel, ring: Ring) -> None:
    for number in range(3 * SIZE // 328):
        record = struct.pack("<Q", number) * 40
        kernel.put(record)
        assert ring.take() == [record]


def test_one_that_is_being_written_holds_up_those_behind_it(kernel: Kernel, ring: Ring) -> None:
    kernel.put(b"first")
    busy = kernel.put(b"second", BUSY)
    kernel.put(b"third")
    assert ring.take() == [b"first"]
    assert ring.take() == []
    kernel.submit(busy)
    assert ring.take() == [b"second", b"third"]


def test_one_that_was_given_up_is_left_out(kernel: Kernel, ring: Ring) -> None:
    kernel.put(b"first", DISCARDED)
    kernel.put(b"second")
    kernel.put(b"third", DISCARDED)
    assert ring.take() == [b"second"]
    assert kernel.consumed == kernel.produced


def test_equal_records_in_one_piece(kernel: Kernel, ring: Ring) -> None:
    assert ring.take_equal(320) == b""
    number = 0
    for count in (1, 7, 0, 12, 11, 12):
        records = [struct.pack("<Q", number + i) * 40 for i in range(count)]
        for record in records:
            kernel.put(record)
        whole = ring.take_equal(320)
        assert [whole[at + 8 : at + 328] for at in range(0, len(whole), 328)] == records
        assert kernel.consumed == kernel.produced
        number += count


def test_equal_records_end_where_one_is_being_written(kernel: Kernel, ring: Ring) -> None:
    kernel.put(bytes(320))
    busy = kernel.put(bytes(320), BUSY)
    kernel.put(bytes(320))
    assert len(ring.take_equal(320)) == 328
    assert ring.take_equal(320) == b""
    kernel.submit(busy)
    assert len(ring.take_equal(320)) == 2 * 328
