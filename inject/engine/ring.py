"""A BPF ring buffer, read from its memory: no call into a library for each record.

The layout is that of kernel/bpf/ringbuf.c: a page with the consumer's position, a page
with the producer's, then the data, mapped twice in a row so that no record is broken.
"""

from __future__ import annotations

import mmap
import threading

HEADER = 8
"""Bytes before a record: its length with two flags, and an offset that only the kernel needs."""
BUSY, DISCARDED = 1 << 31, 1 << 30
"""BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT (include/uapi/linux/bpf.h)."""


class Ring:
    """The ring buffer map ``descriptor`` with ``size`` bytes of data. One thread at a time may take."""

    def __init__(self, descriptor: int, size: int) -> None:
        page = mmap.PAGESIZE
        self._size = size
        self._consumer = mmap.mmap(descriptor, page)
        self._rest = mmap.mmap(descriptor, page + 2 * size, prot=mmap.PROT_READ, offset=page)
        self._position = memoryview(self._consumer).cast("Q")
        self._words = memoryview(self._rest).cast("I")
        self._produced = memoryview(self._rest)[:8].cast("Q")
        self._fence = threading.Lock()

    def close(self) -> None:
        """Release the memory."""
        for view in (self._position, self._words, self._produced):
            view.release()
        self._consumer.close()
        self._rest.close()

    @property
    def produced(self) -> int:
        """Bytes that the kernel has put into the buffer since it was made."""
        return self._produced[0]

    def take(self) -> list[bytes]:
        """The records that are complete, oldest first; never waits."""
        words, mask = self._words, self._size - 1
        at, end = self._position[0], self._produced[0]
        found = []
        while at < end:
            start = mmap.PAGESIZE + (at & mask)
            word = words[start >> 2]
            if word & BUSY:
                break
            length = word & ~DISCARDED
            if not word & DISCARDED:
                found.append((start + HEADER, length))
            at += HEADER + (length + 7 & ~7)
        with self._fence:  # a record's content is read after the word that says it is complete
            records = [self._rest[start : start + length] for start, length in found]
        self._position[0] = at
        return records

    def take_equal(self, length: int) -> bytes:
        """Records that all have ``length`` bytes, a multiple of 8: in one piece, headers included.

        Takes some hundred instructions for a record; take() takes thousands.
        """
        stride = HEADER + length
        at, end = self._position[0], self._produced[0]
        first = mmap.PAGESIZE + (at & self._size - 1)
        past = first + (end - at) // stride * stride
        headers = self._words[first >> 2 : past >> 2 : stride >> 2].tolist()
        count = len(headers)
        if headers.count(length) != count:
            count = next(number for number, word in enumerate(headers) if word != length)
        size = count * stride
        with self._fence:
            records = self._rest[first : first + size]
        self._position[0] = at + size
        return records
