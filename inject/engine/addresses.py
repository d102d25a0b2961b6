"""Kernel addresses of the engine's counters and events.

A small program runs once and writes them down. /proc/self/pagemap would say in which physical
pages they are, but a kernel without CONFIG_PROC_PAGE_MONITOR has none.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from typing import NamedTuple, Optional

from inject.engine.abi import ARRAY, MMAPABLE
from inject.engine.bytecode import INSTRUCTION, LOAD_64, PSEUDO_MAP_FD, PSEUDO_MAP_VALUE
from inject.engine.maps import Maps
from inject.engine.syscall import bpf, load_program, new_descriptor
from inject.errors import InjectError
from inject.kernel.btf import Btf

MAP_CREATE, TEST_RUN = 0, 10
"""enum bpf_cmd, include/uapi/linux/bpf.h"""
RAW_TRACEPOINT = 17
"""BPF_PROG_TYPE_RAW_TRACEPOINT, which BPF_PROG_TEST_RUN runs since Linux 5.10"""
LOAD, STORE, MOVE, EXIT = 0x79, 0x7B, 0xB7, 0x95
"""Opcodes: a load and a store of 64 bits, a constant into a register, the end."""
FOUND = struct.Struct("=QQ")


class Addresses(NamedTuple):
    """Addresses in the kernel. ``produced`` and ``data`` are the ring buffer's position and content."""

    tallies: int
    produced: int
    data: int


def addresses(maps: Maps, btf: Btf) -> Optional[Addresses]:
    """Where the kernel has the memory of ``maps``; None if it does not say."""
    if maps.where is not None:
        return Addresses(*maps.where)
    try:
        buffer = btf.member("bpf_ringbuf_map", "rb")
        produced, data = (btf.member("bpf_ringbuf", name) for name in ("producer_pos", "data"))
        with contextlib.ExitStack() as stack:
            attributes = struct.pack("=IIIII", ARRAY, 4, FOUND.size, 1, MMAPABLE)
            answer = new_descriptor(MAP_CREATE, attributes)
            stack.callback(os.close, answer)
            code = program(maps.descriptors["tallies"], maps.descriptors["events"], buffer, answer)
            loaded = load_program(RAW_TRACEPOINT, code, "addresses")
            stack.callback(os.close, loaded)
            memory = stack.enter_context(mmap.mmap(answer, mmap.PAGESIZE))
            bpf(TEST_RUN, struct.pack("=I68x", loaded))
            tallies, ring = FOUND.unpack_from(memory)
    except (InjectError, OSError):
        return None
    found = Addresses(tallies, ring + produced, ring + data)
    maps.where = found
    return found


def program(tallies: int, events: int, buffer: int, answer: int) -> bytes:
    """Instructions that write two addresses to the map ``answer``: of the tallies, and of struct bpf_ringbuf.

    ``buffer`` is the offset of the pointer to it in struct bpf_ringbuf_map (kernel/bpf/ringbuf.c, v6.12).
    """
    pack = INSTRUCTION.pack
    return b"".join(
        [
            pack(LOAD_64, 1 | PSEUDO_MAP_VALUE << 4, 0, tallies) + bytes(8),
            pack(LOAD_64, 2 | PSEUDO_MAP_FD << 4, 0, events) + bytes(8),
            pack(LOAD, 2 | 2 << 4, buffer, 0),
            pack(LOAD_64, 3 | PSEUDO_MAP_VALUE << 4, 0, answer) + bytes(8),
            pack(STORE, 3 | 1 << 4, 0, 0),
            pack(STORE, 3 | 2 << 4, 8, 0),
            pack(MOVE, 0, 0, 0),
            pack(EXIT, 0, 0, 0),
        ]
    )
