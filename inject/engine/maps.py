"""The BPF maps of one program text.

Tables are found by key. Areas are memory that the program and inject share: the
program has their address in its code, so that it looks nothing up.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Mapping
from typing import Any, Optional

from inject.engine.abi import AREAS, ARRAY, MMAPABLE, TABLES, Area, Table
from inject.engine.bcc import Bcc, failed
from inject.engine.syscall import bpf
from inject.errors import CannotRun

LOOKUP_AND_DELETE_BATCH = 25
"""enum bpf_cmd, include/uapi/linux/bpf.h"""
BATCH_ATTRIBUTES = struct.Struct("<QQQQIIQQ")
"""union bpf_attr of the BPF_MAP_*_BATCH commands (include/uapi/linux/bpf.h)."""
BATCH = 2048
"""Entries that are read at once."""


class Maps:
    """All ``tables`` and ``areas``, made in the kernel. Raises CannotRun if the kernel refuses one."""

    def __init__(self, bcc: Bcc, tables: Mapping[str, Table] = TABLES, areas: Mapping[str, Area] = AREAS) -> None:
        self._lib = bcc.lib
        self._tables = tables
        self._areas = areas
        self.descriptors: dict[str, int] = {}
        self.where: Optional[tuple[int, ...]] = None
        """What engine/addresses.py found of them: it stays true."""
        self._memory: dict[str, mmap.mmap] = {}
        try:
            for name, table in tables.items():
                self._create(name, table)
            for name, area in areas.items():
                size = area.layout.size * area.length
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
        """Release them; the kernel keeps them for programs that are still loaded."""
        for memory in self._memory.values():
            memory.close()
        self._memory.clear()
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors.clear()

    def addresses(self, slot: int) -> dict[int, tuple[int, int]]:
        """By each area's mark: the map's descriptor and the offset of rule ``slot``'s part."""
        return {
            area.mark: (self.descriptors[name], area.layout.size * slot if area.each else 0)
            for name, area in self._areas.items()
        }

    # ------------------------------------------------------------ areas

    def read(self, area: str, slot: int = 0) -> bytes:
        """The part of rule ``slot`` in ``area``, copied at once: the kernel goes on counting there."""
        size = self._areas[area].layout.size
        return self._memory[area][slot * size : (slot + 1) * size]

    def write(self, area: str, value: bytes, slot: int = 0, offset: int = 0) -> None:
        """Put ``value`` into the part of rule ``slot``, ``offset`` bytes from its start."""
        at = slot * self._areas[area].layout.size + offset
        self._memory[area][at : at + len(value)] = value

    # ------------------------------------------------------------ tables

    def update(self, table: str, key: bytes, value: bytes) -> None:
        """Set ``key`` to ``value``; raises CannotRun if the kernel refuses."""
        if self._lib.bpf_update_elem(self.descriptors[table], _buffer(key), _buffer(value), 0):
            raise failed(f"cannot write BPF map {table}")

    def lookup(self, table: str, key: bytes) -> bytes:
        """The value of ``key``; raises CannotRun if there is none."""
        value = ctypes.create_string_buffer(self._tables[table].value)
        if self._lib.bpf_lookup_elem(self.descriptors[table], _buffer(key), value):
            raise failed(f"cannot read BPF map {table}")
        return value.raw

    def clear(self, table: str) -> None:
        """Delete every key of a hash."""
        for key in self.keys(table):
            self._lib.bpf_delete_elem(self.descriptors[table], _buffer(key))

    def drain(self, table: str) -> list[tuple[bytes, bytes]]:
        """All keys and values of a hash, which are deleted; raises CannotRun if the kernel cannot do that at once.

        Linux can since 5.6 (__htab_map_lookup_and_delete_batch(), kernel/bpf/hashtab.c).
        """
        key, value, most = self._tables[table].key, self._tables[table].value, self._tables[table].entries
        count = min(most, BATCH)
        keys, values = ctypes.create_string_buffer(count * key), ctypes.create_string_buffer(count * value)
        position = ctypes.c_uint32()
        found: list[tuple[bytes, bytes]] = []
        for turn in range(2 * (most // count) + 2):  # each but the last fills at least half
            where = ctypes.addressof(position)
            request = bytearray(
                BATCH_ATTRIBUTES.pack(
                    where if turn else 0,
                    where,
                    ctypes.addressof(keys),
                    ctypes.addressof(values),
                    count,
                    self.descriptors[table],
                    0,
                    0,
                )
            )
            more = True
            try:
                bpf(LOOKUP_AND_DELETE_BATCH, request)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise CannotRun(f"cannot read BPF map {table}: {error.strerror}", "it needs Linux 5.6") from None
                more = False
            got = BATCH_ATTRIBUTES.unpack(request)[4]
            memory, beside = memoryview(keys), memoryview(values)
            found += [
                (bytes(memory[n * key : (n + 1) * key]), bytes(beside[n * value : (n + 1) * value])) for n in range(got)
            ]
            if not more:
                break
        return found

    def keys(self, table: str) -> list[bytes]:
        """All keys of a hash."""
        size, most = self._tables[table].key, self._tables[table].entries
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
