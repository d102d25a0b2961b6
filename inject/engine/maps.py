"""The BPF maps of one engine, as override.bpf.c declares or expects them.

Tables are found by key. Areas are memory that the program and we both see: the
program has their address in its code, so that it looks nothing up.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from inject.engine.planner import MOST_SLOTS, RULE_SIZE
from inject.engine.return_trace import BEGIN
from inject.errors import CannotRun

HASH, ARRAY, LPM_TRIE, RINGBUF = 1, 2, 11, 27
"""enum bpf_map_type, include/uapi/linux/bpf.h"""
NO_PREALLOC, MMAPABLE = 1, 1 << 10
"""BPF_F_NO_PREALLOC, BPF_F_MMAPABLE"""
RING_BYTES = 4 << 20


class Table(NamedTuple):
    """What bpf(2) is told; sizes in bytes."""

    kind: int
    key: int
    value: int
    entries: int
    flags: int = 0


TABLES: Mapping[str, Table] = {
    "globs": Table(ARRAY, 4, 2064, 64),
    "paths": Table(LPM_TRIE, 16, 8, 65536, NO_PREALLOC),
    "devices": Table(HASH, 4, 4, 64),
    "results": Table(HASH, 8, 8, 4096),
    "events": Table(RINGBUF, 0, 0, RING_BYTES),
    "live": Table(HASH, 4, 8, 4096, NO_PREALLOC),
    "trails": Table(HASH, 8, BEGIN.size, 4096, NO_PREALLOC),
    "blank": Table(ARRAY, 4, BEGIN.size, 1),
    "steps": Table(RINGBUF, 0, 0, RING_BYTES // 2),
}
"""Those that the program names."""


class Area(NamedTuple):
    """``mark`` stands for the address in override.bpf.c; ``size`` is in bytes, for each rule if ``each``."""

    mark: int
    size: int
    each: bool = True


AREAS: Mapping[str, Area] = {
    "control": Area(0x510751075101, 40, each=False),
    "spent": Area(0x510751075102, 8, each=False),
    "rules": Area(0x510751075103, RULE_SIZE),
    "tallies": Area(0x510751075104, 48),
    "unfollowed": Area(0x510751075105, 8),
}


class Maps:
    """All of them, made in the kernel; ``lib`` is libbcc. Raises CannotRun when the kernel refuses one."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        self.descriptors: dict[str, int] = {}
        self._memory: dict[str, mmap.mmap] = {}
        try:
            for name, table in TABLES.items():
                self._create(name, table)
            for name, area in AREAS.items():
                size = area.size * (MOST_SLOTS if area.each else 1)
                descriptor = self._create(name, Table(ARRAY, 4, size, 1, MMAPABLE))
                self._memory[name] = mmap.mmap(descriptor, size + -size % mmap.PAGESIZE)
        except OSError as error:
            self.close()
            raise CannotRun(
                f"cannot map the engine's memory: {error.strerror}", "it needs Linux 5.5 or newer"
            ) from None
        except BaseException:
            self.close()
            raise

    def _create(self, name: str, table: Table) -> int:
        descriptor = int(self._lib.bcc_create_map(table.kind, name[:15].encode(), *table[1:]))
        if descriptor < 0:
            raise failed(f"cannot create BPF map {name}")
        self.descriptors[name] = descriptor
        return descriptor

    def close(self) -> None:
        """Let go of them; the kernel keeps them for programs that are still loaded."""
        for memory in self._memory.values():
            memory.close()
        self._memory.clear()
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors.clear()

    def addresses(self, slot: int) -> dict[int, tuple[int, int]]:
        """For each area's mark the map's descriptor and the offset of what rule ``slot`` has there."""
        return {
            area.mark: (self.descriptors[name], area.size * slot if area.each else 0) for name, area in AREAS.items()
        }

    # ------------------------------------------------------------ areas

    def read(self, area: str, slot: int = 0) -> bytes:
        """What rule ``slot`` has in ``area``, copied at once: the kernel goes on counting there."""
        size = AREAS[area].size
        return self._memory[area][slot * size : (slot + 1) * size]

    def write(self, area: str, value: bytes, slot: int = 0, offset: int = 0) -> None:
        """Put ``value`` into it, ``offset`` bytes from the start."""
        at = slot * AREAS[area].size + offset
        self._memory[area][at : at + len(value)] = value

    # ------------------------------------------------------------ tables

    def update(self, table: str, key: bytes, value: bytes) -> None:
        """Raises CannotRun when the kernel refuses."""
        if self._lib.bpf_update_elem(self.descriptors[table], _buffer(key), _buffer(value), 0):
            raise failed(f"cannot write BPF map {table}")

    def lookup(self, table: str, key: bytes) -> bytes:
        """Raises CannotRun when ``key`` is not there."""
        value = ctypes.create_string_buffer(TABLES[table].value)
        if self._lib.bpf_lookup_elem(self.descriptors[table], _buffer(key), value):
            raise failed(f"cannot read BPF map {table}")
        return value.raw

    def clear(self, table: str) -> None:
        """Delete every key of a hash or trie."""
        for key in self.keys(table):
            self._lib.bpf_delete_elem(self.descriptors[table], _buffer(key))

    def keys(self, table: str) -> list[bytes]:
        """Those of a hash or trie."""
        size, most = TABLES[table].key, TABLES[table].entries
        keys: list[bytes] = []
        key = ctypes.create_string_buffer(size)
        if self._lib.bpf_get_first_key(self.descriptors[table], key, size) < 0:
            return keys
        while len(keys) < most:
            keys.append(key.raw[:size])
            following = ctypes.create_string_buffer(size)
            if self._lib.bpf_get_next_key(self.descriptors[table], key, following) < 0:
                break
            key = following
        return keys


def _buffer(data: bytes) -> Any:
    return ctypes.create_string_buffer(data, len(data))


def failed(what: str) -> CannotRun:
    """``what`` could not be done, for the reason that the last call into libbcc left."""
    number = ctypes.get_errno()
    return CannotRun(f"{what}: {os.strerror(number)}", "`inject doctor` lists what the engine needs")
