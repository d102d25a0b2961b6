"""BPF instructions that load 64-bit constants: written, and found again."""

from __future__ import annotations

import struct

from inject.engine import bytecode
from inject.engine.bytecode import INSTRUCTION, LOAD_64


def load_64(value: int, source: int = 0) -> bytes:
    """The two slots of a 64-bit constant."""
    low, high = struct.unpack("<ii", struct.pack("<Q", value))
    return INSTRUCTION.pack(LOAD_64, source << 4 | 1, 0, low) + INSTRUCTION.pack(0, 0, 0, high)


def constants(code: bytes) -> list[int]:
    """Every 64-bit constant that ``code`` loads."""
    return [value for _, _, value in bytecode._constants(bytearray(code))]
