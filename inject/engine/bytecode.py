"""The compiled program as data: kept between runs, bound to this run's maps when loaded.

A kept file that is damaged, stale, or writable by another user is rebuilt.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Optional, Union

from inject.store import loads, write_file

INSTRUCTION = struct.Struct("<BBhi")
LOAD_64 = 0x18
"""BPF_LD | BPF_DW | BPF_IMM: the two-slot load of a 64-bit constant (include/uapi/linux/bpf.h)."""
PSEUDO_MAP_FD, PSEUDO_MAP_VALUE, PSEUDO_BTF_ID = 1, 2, 3
"""Source register of a constant that is a map, the address of a map's memory at an offset, or a kernel variable."""
CALL = 0x85
"""BPF_JMP | BPF_CALL; the source register says of what: 0 a helper, 2 a kfunc (BPF_PSEUDO_KFUNC_CALL)."""
OVERRIDE_RETURN = 58
"""The helper bpf_override_return()."""
WORDS_AT = 8
"""The helper bpf_get_smp_processor_id(), for which override.bpf.c calls words_at()."""
LARGEST = 4 << 20
"""Bytes of a kept file that are read at most."""


@dataclass(frozen=True)
class Bytecode:
    """Programs by name; their map loads carry an index into ``maps`` instead of a descriptor."""

    programs: Mapping[str, bytes]
    maps: tuple[str, ...]

    def bind(
        self,
        program: str,
        descriptors: Mapping[str, int],
        numbers: Mapping[int, int],
        addresses: Mapping[int, tuple[int, int]],
        variables: Mapping[int, int] = MappingProxyType({}),
    ) -> bytes:
        """Instructions of ``program`` for the maps at ``descriptors``.

        A constant among ``numbers`` is replaced by its value there, one among ``addresses`` by
        the address at an offset into the map with that descriptor, one among ``variables`` by the
        address of the kernel's variable with that BTF id. Raises ValueError if a load names a
        map that does not exist.
        """
        code = bytearray(self.programs[program])
        for at, source, value in _constants(code):
            if source == PSEUDO_MAP_FD:
                if not 0 <= value < len(self.maps):
                    raise ValueError(f"map {value} of {len(self.maps)}")
                _put(code, at, descriptors[self.maps[value]])
            elif value in numbers:
                _put(code, at, numbers[value])
            elif value in addresses:
                descriptor, offset = addresses[value]
                _put(code, at, descriptor | offset << 32)
                code[at + 1] |= PSEUDO_MAP_VALUE << 4
            elif value in variables:
                _put(code, at, variables[value])
                code[at + 1] |= PSEUDO_BTF_ID << 4
        return bytes(code)


def unbind(programs: Mapping[str, bytes], descriptors: Mapping[str, int]) -> Bytecode:
    """Freshly compiled ``programs``, with the compiler's map descriptors made into indexes."""
    names = tuple(descriptors)
    index = {descriptor: position for position, descriptor in enumerate(descriptors.values())}
    free: dict[str, bytes] = {}
    for name, instructions in programs.items():
        code = bytearray(instructions)
        for at, source, value in _constants(code):
            if source == PSEUDO_MAP_FD:
                _put(code, at, index[value])
        free[name] = bytes(code)
    return Bytecode(free, names)


def with_kfunc(code: bytes, number: int, index: int) -> bytes:
    """``code`` with a call of the kfunc ``number`` in place of each call of bpf_override_return().

    ``number`` is an id of the BTF that the program is loaded with at ``index``.
    """
    return _calling(code, OVERRIDE_RETURN, number, index)


def with_cast(code: bytes, number: int) -> bytes:
    """``code`` with a call of vmlinux's kfunc ``number``, bpf_rdonly_cast(), in place of each call of words_at()."""
    return _calling(code, WORDS_AT, number, 0)


def _calling(code: bytes, helper: int, number: int, index: int) -> bytes:
    changed = bytearray(code)
    for at in _instructions(code, CALL):
        _, registers, _, immediate = INSTRUCTION.unpack_from(changed, at)
        if not registers and immediate == helper:
            INSTRUCTION.pack_into(changed, at, CALL, 2 << 4, index, number)
    return bytes(changed)


def _constants(code: bytearray) -> Iterator[tuple[int, int, int]]:
    """(offset, source register, value) of every 64-bit constant load."""
    for at in _instructions(code[: -INSTRUCTION.size], LOAD_64):  # the last one has no second half
        _, registers, _, low = INSTRUCTION.unpack_from(code, at)
        high = INSTRUCTION.unpack_from(code, at + 8)[3]
        yield at, registers >> 4, (low & 0xFFFFFFFF) | (high & 0xFFFFFFFF) << 32


def _instructions(code: Union[bytes, bytearray], opcode: int) -> Iterator[int]:
    """Offsets of the instructions with that opcode, which is not 0, as that of a LOAD_64's second half is."""
    opcodes = code[:: INSTRUCTION.size]
    at = opcodes.find(opcode)
    while at >= 0:
        yield at * INSTRUCTION.size
        at = opcodes.find(opcode, at + 1)


def _put(code: bytearray, at: int, value: int) -> None:
    struct.pack_into("<I", code, at + 4, value & 0xFFFFFFFF)
    struct.pack_into("<I", code, at + 12, value >> 32)


# ---------------------------------------------------------------- kept on disk


def cache_key(source: str, *facts: str) -> str:
    """File name for what the bytecode depends on: program text, bcc's version, the kernel's build id."""
    digest = hashlib.sha256(source.encode())
    for fact in facts:
        digest.update(b"\0" + fact.encode())
    return digest.hexdigest()[:32]


def load(directory: Path, key: str) -> Optional[Bytecode]:
    """The kept bytecode; None if there is none, or none to be trusted."""
    try:
        # O_NONBLOCK: do not wait for the writer of a fifo.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(directory / f"{key}.bpf", flags)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not _private(status) or not _private(directory.stat()) or not stat.S_ISREG(status.st_mode):
            return None
        raw = _read(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return parse(raw)


def parse(raw: bytes) -> Optional[Bytecode]:
    """The bytecode in a file that :func:`keep` wrote; None for anything else."""
    digest, _, body = raw.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    try:
        data = loads(body)
        programs = {name: base64.b64decode(code, validate=True) for name, code in data["programs"].items()}
        maps = data["maps"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(maps, list) or not all(isinstance(name, str) for name in maps):
        return None
    return Bytecode(programs, tuple(maps))


def _read(descriptor: int) -> bytes:
    """Up to LARGEST bytes."""
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(LARGEST)


def _private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def keep(directory: Path, key: str, bytecode: Bytecode) -> None:
    """Write it for the next run, atomically; a disk that refuses costs only the time saved."""
    programs = {name: base64.b64encode(code).decode() for name, code in bytecode.programs.items()}
    body = json.dumps({"programs": programs, "maps": bytecode.maps}).encode()
    digest = hashlib.sha256(body).hexdigest().encode()
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(directory / f"{key}.bpf", digest + b"\n" + body)
