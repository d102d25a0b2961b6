"""The counters and latest injections of a trial, read from the memory of its guest.

What a kernel dies of reaches no port: the guest has no time to report it. Nothing in that
memory is trusted, nor is what the guest said of where it is.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Callable, Optional

from inject.engine import abi
from inject.engine.decode import Decoder
from inject.engine.events import STRIDE
from inject.engine.ring import HEADER
from inject.fleet.host import Remains
from inject.model.event import EngineMemory, Injection
from inject.model.text import printable
from inject.model.verdict import Counts
from inject.vm.gdb.symbols import Symbols

MOST = 100
"""Injections that are read, the latest ones."""

ReadKernel = Callable[[int, int], bytes]
"""As many bytes at a kernel address; raises InjectError."""

_LOWEST = 1 << 63
"""Kernel addresses are from here on (Documentation/arch/x86/x86_64/mm.rst)."""


class Moved:
    """Names of functions of a kernel that was moved at boot: its ``_stext`` is at ``text``."""

    def __init__(self, symbols: Optional[Symbols], text: int) -> None:
        start = symbols.address("_stext") if symbols is not None else None
        self._symbols = symbols if start is not None and text else None
        self._by = text - (start or 0)

    def name(self, address: int) -> str:
        """``vfs_write+0x45``; the number if no function is known there."""
        found = self._symbols.function(address - self._by) if self._symbols is not None else None
        return f"{found[0]}+{address - self._by - found[1]:#x}" if found else f"{address:#x}"


def remains_of(memory: EngineMemory, read: ReadKernel, symbols: Optional[Symbols]) -> Remains:
    """What is left of the trial; raises ValueError if it cannot be true, InjectError if it cannot be read."""
    if not 0 < len(memory.functions) <= abi.SLOTS:
        raise ValueError(f"{len(memory.functions)} faults")
    tallies = _read(read, memory.tallies, len(memory.functions) * abi.TALLY.size)
    counts = tuple(_counts(tallies, slot * abi.TALLY.size) for slot in range(len(memory.functions)))
    (end,) = struct.unpack("<Q", _read(read, memory.produced, 8))
    held = (end - memory.begin) // STRIDE
    if held < 0 or (end - memory.begin) % STRIDE:
        raise ValueError(f"{end - memory.begin} bytes of events")
    size = min(held, MOST) * STRIDE
    records = _read(read, memory.data + (end - size) % abi.EVENTS_BYTES, size) if size else b""
    decoder = Decoder(Moved(symbols, memory.text), memory.functions)
    found = (_injection(decoder, counts, records, at) for at in range(0, size, STRIDE))
    return Remains(counts, tuple(injection for injection in found if injection is not None))


def _read(read: ReadKernel, address: int, size: int) -> bytes:
    if not _LOWEST <= address <= (1 << 64) - size:
        raise ValueError(f"{address:#x} is not a kernel address")
    data = read(address, size)
    if len(data) != size:
        raise ValueError(f"{len(data)} of {size} bytes")
    return data


def _counts(tallies: bytes, at: int) -> Counts:
    seen, spared, matched, _, injected, lost, unread = abi.TALLY.unpack_from(tallies, at)
    if not lost <= injected <= matched <= seen:
        raise ValueError(f"{injected} injections in {matched} of {seen} calls")
    return Counts(seen, matched, injected, spared, lost, unread)


def _injection(decoder: Decoder, counts: tuple[Counts, ...], records: bytes, at: int) -> Optional[Injection]:
    """The event of the record at ``at``; None for one that was not written to its end, or that cannot be true."""
    (length,) = struct.unpack_from("<I", records, at)
    _, ordinal, value, slot, _, _, used, _, _ = abi.EVENT_HEAD.unpack_from(records, at + HEADER)
    if length != abi.EVENT.size or slot >= len(counts) or used > 8 * abi.FRAMES:
        return None
    if value not in decoder.functions[slot].values or not 0 < ordinal <= counts[slot].matched:
        return None
    found = decoder.injection(records, at + HEADER)
    return replace(found, comm=printable(found.comm))
