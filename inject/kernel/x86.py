"""x86-64 instructions, as far as it takes to follow a value through registers: length, operands, targets.

Opcodes and operands are those of the Intel SDM, volume 2, appendix A (opcode maps). Kernel code
has no x87 and few vector instructions: of those only length and addresses count.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

RAX, RCX, RDX, RSP, RDI = 0, 1, 2, 4, 7


class Effect(enum.Enum):
    """What an instruction means for a value in a register."""

    OTHER = enum.auto()
    COPY = enum.auto()
    """``target`` gets the value of ``source``, perhaps a narrower part of it."""
    OFFSET = enum.auto()
    """``target`` gets ``source`` plus ``value``."""
    TEST = enum.auto()
    """``test source,source``."""
    COMPARE = enum.auto()
    """``cmp $value,source``."""
    BITS = enum.auto()
    """``test $value,source``."""
    FLAGS = enum.auto()
    """setcc or cmovcc with ``condition``."""
    BRANCH = enum.auto()
    """jcc with ``condition`` to ``target``."""
    JUMP = enum.auto()
    CALL = enum.auto()
    """Direct or indirect."""
    RETURN = enum.auto()
    STOP = enum.auto()
    """Nothing known follows: an indirect jump, a trap, bytes that are no instruction."""


class Instruction(NamedTuple):
    """One instruction. ``reads`` and ``writes`` are sets of registers, bit 0 RAX.

    The ``target`` of a call, jump or branch counts from the end of the instruction.
    """

    length: int
    effect: Effect
    reads: int = 0
    writes: int = 0
    source: int = 0
    target: int = 0
    value: int = 0
    condition: int = 0
    wide: bool = False
    """64 bits."""


class _Operands(NamedTuple):
    """A ModRM byte with what belongs to it."""

    end: int
    memory: bool
    reg: int
    rm: int
    """The register operand; of a memory operand its base, or -1."""
    address: int
    """The set of registers in a memory operand's address."""
    offset: int
    indexed: bool


_PREFIXES = frozenset(b"\x66\x67\xf2\xf3\xf0\x2e\x36\x3e\x26\x64\x65")
_IMM8 = frozenset([*range(0x70, 0x80), 0x6A, 0x6B, 0x80, 0x82, 0x83, 0xA8, *range(0xB0, 0xB8), 0xC0, 0xC1, 0xC6, 0xCD])
_IMM8_MORE = frozenset([*range(0xE0, 0xE8), 0xEB, *range(0x04, 0x40, 8)])
_IMM32 = frozenset([0x68, 0x69, 0x81, 0xA9, 0xC7, 0xE8, 0xE9, *range(0x05, 0x40, 8)])
_MODRM = frozenset(
    [
        *(row + low for row in range(0, 0x40, 8) for low in range(4)),
        *(0x63, 0x69, 0x6B, *range(0x80, 0x90), 0xC0, 0xC1, 0xC6, 0xC7, *range(0xD0, 0xD4), *range(0xD8, 0xE0)),
        *(0xF6, 0xF7, 0xFE, 0xFF),
    ]
)
_TWO_PLAIN = frozenset(
    [5, 6, 7, 8, 9, 0xB, *range(0x30, 0x38), 0x77, *range(0x80, 0x90), 0xA0, 0xA1, 0xA2, 0xA8, 0xA9, 0xAA]
    + list(range(0xC8, 0xD0))
)
"""Of the two-byte opcodes those without ModRM."""
_TWO_IMM8 = frozenset([0x70, 0x71, 0x72, 0x73, 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6])
_STOP = Instruction(1, Effect.STOP)
_PLAIN = frozenset({Effect.OTHER, Effect.COPY, Effect.TEST, Effect.BITS, Effect.FLAGS})
"""What bytes after ModRM and SIB do not change."""
_LONG = frozenset(b"\x0f\xc4\xc5\x62")
"""Opcodes of more than one byte."""


def _signed(code: bytes, at: int, size: int) -> int:
    return int.from_bytes(code[at : at + size], "little", signed=True)


def _operands(code: bytes, at: int, rex: int) -> _Operands:
    """The ModRM byte at ``at``, its SIB byte and displacement; IndexError at the end of the code."""
    byte = code[at]
    mode, reg, low = byte >> 6, byte >> 3 & 7 | (rex & 4) << 1, byte & 7
    at += 1
    if mode == 3:
        return _Operands(at, False, reg, low | (rex & 1) << 3, 0, 0, False)
    base, address, indexed = low | (rex & 1) << 3, 0, False
    if low == 4:
        sib = code[at]
        at += 1
        index = sib >> 3 & 7 | (rex & 2) << 2
        if index != 4:
            address, indexed = 1 << index, True
        base = sib & 7 | (rex & 1) << 3
        if mode == 0 and sib & 7 == 5:
            return _Operands(at + 4, True, reg, -1, address, _signed(code, at, 4), indexed)
    elif mode == 0 and low == 5:  # relative to the instruction's end
        return _Operands(at + 4, True, reg, -1, 0, _signed(code, at, 4), False)
    size = (0, 1, 4)[mode]
    return _Operands(at + size, True, reg, base, address | 1 << base, _signed(code, at, size), indexed)


class Disassembler:
    """Instructions of one piece of code; it knows again those whose first bytes it has seen.

    Prefixes, opcode, ModRM and SIB decide everything but targets and numbers, and most instructions have
    no more than four bytes of them.
    """

    def __init__(self, code: bytes) -> None:
        self.code = code
        self._known: dict[bytes, Instruction] = {}

    def at(self, offset: int) -> Instruction:
        """The instruction at ``offset``; STOP at the end of the code or where none begins."""
        key = self.code[offset : offset + KEY]
        found = self._known.get(key)
        if found is None:
            found = decode(self.code, offset)
            if len(key) == KEY and (found.length <= KEY or (found.effect in _PLAIN and _few_prefixes(key))):
                self._known[key] = found
        return found


KEY = 4


def _few_prefixes(key: bytes) -> bool:
    """True if prefixes and opcode have two bytes at most, so that ModRM and SIB are among the first four."""
    if key[0] in _PREFIXES:
        return key[1] not in _PREFIXES and not 0x40 <= key[1] <= 0x4F and key[1] not in _LONG
    if 0x40 <= key[0] <= 0x4F:
        return key[1] not in _LONG
    return key[0] not in _LONG or (key[0] == 0x0F and key[1] not in (0x38, 0x3A))


def decode(code: bytes, at: int) -> Instruction:
    """The instruction at offset ``at`` of ``code``; STOP at the end of the code or where none begins."""
    try:
        return _decode(code, at)
    except IndexError:
        return _STOP


def _decode(code: bytes, start: int) -> Instruction:
    at, rex, narrow, repeated = start, 0, False, False
    op = code[at]
    while op in _PREFIXES:
        narrow |= op == 0x66
        repeated |= op in (0xF2, 0xF3)
        at += 1
        if at - start > 14:
            return _STOP
        op = code[at]
    if 0x40 <= op <= 0x4F:
        rex = op
        at += 1
        op = code[at]
    at += 1
    if op == 0x0F:
        return _two_bytes(code, start, at, rex, narrow)
    if op in (0xC4, 0xC5, 0x62):
        return _vector(code, start, at, op)
    if op not in _MODRM:
        return _plain(code, start, at, op, rex, narrow)
    found = _operands(code, at, rex)
    end = found.end
    immediate = 0
    if op in _IMM8 or (op == 0xF6 and found.reg & 7 < 2):
        immediate, end = _signed(code, end, 1), end + 1
    elif op in _IMM32 or (op == 0xF7 and found.reg & 7 < 2):
        size = 2 if narrow else 4
        immediate, end = _signed(code, end, size), end + size
    return _with_operands(op, found, immediate, end - start, rex)


def _register(number: int, byte: bool, rex: int) -> int:
    """``number`` as a register; without REX the bytes 4 to 7 are the second ones of the first four."""
    return number & 3 if byte and not rex and number < 8 else number


def _with_operands(op: int, found: _Operands, immediate: int, length: int, rex: int) -> Instruction:
    """A one-byte opcode with ModRM."""
    byte = not op & 1 and op not in (0x63, 0x69, 0x8D, 0x8F)
    wide = bool(rex & 8)
    reg = _register(found.reg, byte, rex)
    rm = -1 if found.memory else _register(found.rm, byte, rex)
    one, other, base = 1 << reg, 0 if rm < 0 else 1 << rm, found.address
    if op < 0x40:
        return _arithmetic(op, length, one, other, base)
    if op in (0x88, 0x89):
        if rm < 0:
            return Instruction(length, Effect.OTHER, one | base)
        return Instruction(length, Effect.COPY, 0, other, reg, rm, wide=wide)
    if op in (0x8A, 0x8B, 0x63):
        if rm < 0:
            return Instruction(length, Effect.OTHER, base, one)
        return Instruction(length, Effect.COPY, 0, one, rm, reg, wide=wide)
    if op in (0x84, 0x85):
        if one == other:
            return Instruction(length, Effect.TEST, one, source=reg, wide=wide)
        return Instruction(length, Effect.OTHER, one | other | base)
    if op == 0x8D:
        if found.rm >= 0 and not found.indexed:
            return Instruction(length, Effect.OFFSET, 0, one, found.rm, reg, found.offset, wide=wide)
        return Instruction(length, Effect.OTHER, base, one)
    if op in (0x80, 0x81, 0x83):
        return _by_immediate(found.reg & 7, length, rm, base, immediate, wide)
    if op in (0x69, 0x6B):
        return Instruction(length, Effect.OTHER, other | base, one)
    if op in (0xC6, 0xC7, 0x8F):
        return Instruction(length, Effect.OTHER, base, other)
    if op in (0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF):
        return Instruction(length, Effect.OTHER, base)
    if op in (0xF6, 0xF7, 0xFE, 0xFF):
        return _group(op, found.reg & 7, length, other, base)
    if op in (0x86, 0x87):
        return Instruction(length, Effect.OTHER, one | other | base, one | other)
    return Instruction(length, Effect.OTHER, other | base, other)  # shifts


def _arithmetic(op: int, length: int, one: int, other: int, base: int) -> Instruction:
    """add, or, adc, sbb, and, sub, xor, cmp between a register and a register or memory."""
    row, forward = op >> 3, bool(op & 2)
    if row == 7:
        return Instruction(length, Effect.OTHER, one | other | base)
    if one == other and row in (3, 5, 6):  # sbb, sub and xor of a register with itself do not depend on it
        return Instruction(length, Effect.OTHER, 0, one)
    return Instruction(length, Effect.OTHER, one | other | base, one if forward else other)


def _by_immediate(row: int, length: int, rm: int, base: int, immediate: int, wide: bool) -> Instruction:
    """The same with a number."""
    if rm < 0:
        return Instruction(length, Effect.OTHER, base)
    if row == 7:
        return Instruction(length, Effect.COMPARE, 1 << rm, source=rm, value=immediate, wide=wide)
    constant = (row == 1 and immediate == -1) or (row == 4 and immediate == 0)  # or $-1, and $0
    return Instruction(length, Effect.OTHER, 0 if constant else 1 << rm, 1 << rm)


def _group(op: int, row: int, length: int, other: int, base: int) -> Instruction:
    """Opcodes F6, F7, FE and FF, which the ModRM byte tells apart."""
    if op in (0xF6, 0xF7):
        if row < 2:
            return Instruction(length, Effect.BITS if other else Effect.OTHER, other | base)
        if row < 4:
            return Instruction(length, Effect.OTHER, other | base, other)
        return Instruction(length, Effect.OTHER, other | base | 1 << RAX, 1 << RAX | 1 << RDX)
    if row in (2, 3):
        return Instruction(length, Effect.CALL, other | base)
    if row in (4, 5):
        return Instruction(length, Effect.STOP, other | base)
    return Instruction(length, Effect.OTHER, other | base, other if row < 2 else 0)


def _plain(code: bytes, start: int, at: int, op: int, rex: int, narrow: bool) -> Instruction:
    """A one-byte opcode without ModRM."""
    end, immediate = at, 0
    if 0xB8 <= op <= 0xBF:
        end += 8 if rex & 8 else 2 if narrow else 4
    elif op in _IMM8 or op in _IMM8_MORE:
        immediate, end = _signed(code, at, 1), at + 1
    elif op in _IMM32:
        size = 2 if narrow and op not in (0xE8, 0xE9) else 4
        immediate, end = _signed(code, at, size), at + size
    elif 0xA0 <= op <= 0xA3:
        end += 8
    elif op in (0xC2, 0xCA):
        end += 2
    elif op == 0xC8:
        end += 3
    if end > len(code):
        return _STOP
    length, accumulator = end - start, 1 << RAX
    number = op & 7 | (rex & 1) << 3
    if op == 0xE8:
        return Instruction(length, Effect.CALL, target=immediate)
    if op in (0xE9, 0xEB):
        return Instruction(length, Effect.JUMP, target=immediate)
    if 0x70 <= op <= 0x7F:
        return Instruction(length, Effect.BRANCH, target=immediate, condition=op & 15)
    if op in (0xC2, 0xC3, 0xCB, 0xCF):
        return Instruction(length, Effect.RETURN)
    if op == 0x3D or op == 0x3C:
        return Instruction(length, Effect.COMPARE, accumulator, source=RAX, value=immediate, wide=bool(rex & 8))
    if op < 0x40:
        constant = op & 0xF8 == 8 and immediate == -1
        return Instruction(length, Effect.OTHER, 0 if constant else accumulator, accumulator)
    if 0x50 <= op <= 0x5F:
        return Instruction(length, Effect.OTHER, *((1 << number, 0) if op < 0x58 else (0, 1 << number)))
    if 0x90 <= op <= 0x97:
        both = accumulator | 1 << number
        return Instruction(length, Effect.OTHER, *((both, both) if number else (0, 0)))
    if op == 0x98:
        return Instruction(length, Effect.COPY, 0, accumulator, RAX, RAX)
    if 0xB0 <= op <= 0xBF:
        return Instruction(length, Effect.OTHER, 0, 1 << _register(number, op < 0xB8, rex))
    return _implied(op, length)


def _implied(op: int, length: int) -> Instruction:
    """Opcodes whose operands are implied."""
    accumulator = 1 << RAX
    if op in (0xA8, 0xA9):
        return Instruction(length, Effect.BITS, accumulator)
    if op in (0x99, 0xA2, 0xA3, 0xAA, 0xAB, 0xAE, 0xAF, 0x9E, 0xE6, 0xE7, 0xEE, 0xEF):
        return Instruction(length, Effect.OTHER, accumulator, 1 << RDX if op == 0x99 else 0)
    if op in (0xA0, 0xA1, 0xAC, 0xAD, 0x9F, 0xE4, 0xE5, 0xEC, 0xED):
        return Instruction(length, Effect.OTHER, 0, accumulator)
    if op in (0xCC, 0xF1, 0xEA, 0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61, 0x9A):
        return Instruction(length, Effect.STOP)
    return Instruction(length, Effect.OTHER)


def _vector(code: bytes, start: int, at: int, op: int) -> Instruction:
    """An instruction with a VEX or EVEX prefix: only its length and the registers of its address count."""
    size = {0xC5: 1, 0xC4: 2, 0x62: 3}[op]
    first = code[at]
    opcode = code[at + size]
    if opcode == 0x77 and op == 0xC5:
        return Instruction(at + size + 1 - start, Effect.OTHER)
    rex = 0 if op == 0xC5 else (~first >> 5 & 7)
    found = _operands(code, at + size + 1, rex)
    table = 1 if op == 0xC5 else first & (31 if op == 0xC4 else 7)
    byte = table == 3 or (table == 1 and opcode in _TWO_IMM8)
    if op == 0x62 and found.memory and code[at + size + 1] >> 6 == 2:
        return Instruction(found.end + byte - start, Effect.OTHER, found.address)
    return Instruction(found.end + byte - start, Effect.OTHER, found.address)


def _two_bytes(code: bytes, start: int, at: int, rex: int, narrow: bool) -> Instruction:
    """An opcode after 0F."""
    op = code[at]
    at += 1
    if op in (0x38, 0x3A):
        found = _operands(code, at + 1, rex)
        return Instruction(found.end + (op == 0x3A) - start, Effect.OTHER, found.address)
    if op in _TWO_PLAIN:
        return _two_plain(code, start, at, op, rex)
    found = _operands(code, at, rex)
    length = found.end + (op in _TWO_IMM8) - start
    byte = op in (0xB0, 0xB6, 0xBE, 0xC0) or 0x90 <= op <= 0x9F
    rm = -1 if found.memory else _register(found.rm, byte, rex)
    one, other, base = 1 << found.reg, 0 if rm < 0 else 1 << rm, found.address
    if 0x40 <= op <= 0x4F:
        return Instruction(length, Effect.FLAGS, other | base, condition=op & 15)
    if 0x90 <= op <= 0x9F:
        return Instruction(length, Effect.FLAGS, base, other, condition=op & 15)
    if op in (0xB6, 0xB7, 0xBE, 0xBF):
        if rm < 0:
            return Instruction(length, Effect.OTHER, base, one)
        return Instruction(length, Effect.COPY, 0, one, rm, found.reg)
    if op in (0xB0, 0xB1):
        return Instruction(length, Effect.OTHER, one | other | base | 1 << RAX, 1 << RAX)
    if op in (0xA3, 0xA4, 0xA5, 0xAB, 0xAC, 0xAD, 0xB3, 0xBB, 0xC0, 0xC1):
        return Instruction(length, Effect.OTHER, one | other | base, other)
    if op == 0xAF:
        return Instruction(length, Effect.OTHER, one | other | base, one)
    if op in (0xB8, 0xBC, 0xBD):
        return Instruction(length, Effect.OTHER, other | base, one)
    if op == 0xBA:
        return Instruction(length, Effect.OTHER, other | base)
    if op == 0xC7:  # cmpxchg16b; in a register rdrand
        return Instruction(length, Effect.OTHER, base | (1 << RAX if found.memory else 0), other)
    if op in (0xB9, 0xFF):
        return Instruction(length, Effect.STOP)
    if op == 0x0D or 0x18 <= op <= 0x1F:  # prefetches and no-ops
        return Instruction(length, Effect.OTHER)
    if op in (0x6E, 0x7E, 0x00, 0x01):
        return Instruction(length, Effect.OTHER, base | (other if op == 0x6E else 0), 0)
    return Instruction(length, Effect.OTHER, base)


def _two_plain(code: bytes, start: int, at: int, op: int, rex: int) -> Instruction:
    """An opcode after 0F without ModRM."""
    accumulator, data = 1 << RAX, 1 << RDX
    if 0x80 <= op <= 0x8F:
        end = at + 4
        if end > len(code):
            return _STOP
        return Instruction(end - start, Effect.BRANCH, target=_signed(code, at, 4), condition=op & 15)
    length = at - start
    if op == 0x0B:
        return Instruction(length, Effect.STOP)
    if op == 0xA2:
        return Instruction(length, Effect.OTHER, accumulator | 1 << RCX, accumulator | 1 << RCX | data | 8)
    if op in (0x31, 0x32, 0x33):
        return Instruction(length, Effect.OTHER, 0, accumulator | data)
    if op == 0x30:
        return Instruction(length, Effect.OTHER, accumulator | data | 1 << RCX)
    if op >= 0xC8:
        both = 1 << (op & 7 | (rex & 1) << 3)
        return Instruction(length, Effect.OTHER, both, both)
    return Instruction(length, Effect.OTHER)
