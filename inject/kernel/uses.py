"""What the code after a call does with the result: the tests of a caller, read from its machine code.

The value is followed through registers, along both sides of every branch, until it is tested or
gone. A value that is only stored in memory counts as used, not as tested: what is read back
later is not followed.
"""

from __future__ import annotations

import enum
import re

from inject.kernel.x86 import RAX, Disassembler, Effect, Instruction

STEPS = 48
"""Instructions after a call that are looked at, on all sides of its branches."""
SIDES = 12
"""Branches that are followed."""

CALLER_SAVED = 0b0000_1111_1100_0111
"""Registers that a call may change: RAX, RCX, RDX, RSI, RDI, R8 to R11 (x86-64 psABI, 3.2.1)."""
ARGUMENTS = 0b0000_0011_1100_0110
"""RDI, RSI, RDX, RCX, R8, R9."""

ERR = (0xFFFFF000, 0xFFFFF001, 0xFFFFFFFF_FFFFF000, 0xFFFFFFFF_FFFFF001)
"""What IS_ERR compares with: MAX_ERRNO is 4095 (include/linux/err.h)."""
_SIGNED = frozenset((8, 9, 12, 13, 14, 15))
"""Conditions s, ns, l, ge, le, g."""
_EQUAL = frozenset((4, 5))


class Use(enum.IntFlag):
    """What callers do with a result. None of these: they ignore it."""

    IGNORED = 0
    IS_ERR = 1
    """Compared with -4095, as IS_ERR() does."""
    ZERO = 2
    """Compared with 0: NULL, or no error."""
    NEGATIVE = 4
    """Tested for being negative."""
    COMPARED = 8
    """Compared with another number, or single bits tested."""
    RETURNED = 16
    """Passed on to the caller's own caller."""
    USED = 32
    """Stored, passed as an argument, computed with or followed as an address."""


CHECKS = Use.IS_ERR | Use.ZERO | Use.NEGATIVE | Use.COMPARED
LOOKS = CHECKS | Use.RETURNED | Use.USED

# The walk goes over hundreds of thousands of calls, and IntFlag's operators cost more than the rest of a step.
_IGNORED, _IS_ERR, _ZERO, _NEGATIVE, _COMPARED, _RETURNED, _USED = 0, 1, 2, 4, 8, 16, 32
_SURE = _IS_ERR | _NEGATIVE


_SOON = re.compile(
    rb"(?P<e>(?:[\x48\x49]\x89[\xc0-\xc7])?\x48\x3d[\x00\x01]\xf0\xff\xff)"
    rb"|(?:\x41?\x89[\xc0-\xc7])?\x85\xc0(?:(?P<n>[\x78\x79\x7c-\x7f]|\x0f[\x88\x89\x8c-\x8f])"
    rb"|(?P<z>[\x74\x75]|\x0f[\x84\x85]))"
    rb"|\x84\xc0(?P<b>[\x74\x75]|\x0f[\x84\x85])"
    rb"|(?P<i>\x31\xc0|\xb8|\xe8|\x48\xc7\xc0|\x48?\x8b[\x03\x05-\x07\x43\x45-\x47\x83\x85-\x87])"
)
"""The most frequent forms, right after the call: half of all calls need no look at single instructions.

cmp $-4095,%rax; test %eax,%eax with js, jl, jg and the like, or with je, jne, perhaps after a copy to another
register; test %al,%al; and xor %eax,%eax, mov to %eax, another call, which end the result unseen.
"""
_SOON_USES = {"e": _IS_ERR, "n": _NEGATIVE, "z": _ZERO, "b": _ZERO, "i": _IGNORED}


class _Value:
    """One result on its way: the registers that hold it, and those that hold it with something added."""

    __slots__ = ("at", "held", "offset", "shifted")

    def __init__(self, at: int, held: int, shifted: int = 0, offset: int = 0) -> None:
        self.at = at
        self.held = held
        self.shifted = shifted
        self.offset = offset


def after_call(code: Disassembler, at: int, *, void: bool) -> int:
    """What the code at offset ``at`` of ``code``, which follows a call, does with the call's result: flags of Use.

    ``void`` says that the function around it returns nothing, so that leaving the result in its
    register passes nothing on.
    """
    soon = _SOON.match(code.code, at)
    if soon:
        return _SOON_USES[soon.lastgroup or "i"]
    return walk(code, at, void=void)


def walk(code: Disassembler, at: int, *, void: bool) -> int:
    """The same, by a look at each instruction."""
    found, steps, size = _IGNORED, 0, len(code.code)
    todo, seen = [_Value(at, 1 << RAX)], {at}
    while todo:
        value = todo.pop()
        while value.held | value.shifted:
            steps += 1
            if steps > STEPS:
                return found or (_USED if value.held & ~CALLER_SAVED else _IGNORED)
            here = code.at(value.at)
            effect = here.effect
            value.at += here.length
            if effect is Effect.OTHER:
                if here.reads & (value.held | value.shifted):
                    found |= _USED
                value.held &= ~here.writes
                value.shifted &= ~here.writes
                continue
            if effect is Effect.BRANCH:
                target = value.at + here.target
                if target not in seen and len(seen) < SIDES and 0 <= target < size:
                    seen.add(target)
                    todo.append(_Value(target, value.held, value.shifted, value.offset))
                continue
            use, on = _step(code, value, here, void)
            found |= use
            if not on:
                break
        if found & _SURE:
            break
    return found


def _step(code: Disassembler, value: _Value, here: Instruction, void: bool) -> tuple[int, bool]:
    """One instruction: what it does with the value, and whether to go on after it."""
    held, effect = value.held, here.effect
    if effect is Effect.COPY:
        _move(value, here)
        return _IGNORED, True
    if effect is Effect.TEST:
        return _tested(code, value, here) if here.reads & held else (_IGNORED, True)
    if effect is Effect.COMPARE:
        return _compared(code, value, here) if here.reads & (held | value.shifted) else (_IGNORED, True)
    if effect is Effect.BITS:
        return (_COMPARED if here.reads & held else _IGNORED), True
    if effect is Effect.OFFSET:
        return _shifted(value, here), True
    if effect is Effect.CALL:
        passed = (held | value.shifted) & (ARGUMENTS | here.reads)
        value.held &= ~CALLER_SAVED
        value.shifted &= ~CALLER_SAVED
        return (_USED if passed else _IGNORED), True
    if effect is Effect.RETURN:
        return (_RETURNED if held >> RAX & 1 and not void else _IGNORED), False
    if effect is Effect.JUMP:
        value.at += here.target
        return _IGNORED, 0 <= value.at < len(code.code)
    if effect is Effect.STOP:
        return (_USED if here.reads & held else _IGNORED), False
    value.held &= ~here.writes  # setcc, cmovcc
    return (_USED if here.reads & held else _IGNORED), True


def _move(value: _Value, here: Instruction) -> None:
    """Follow a copy between registers."""
    target = 1 << here.target
    held, shifted = value.held >> here.source & 1, value.shifted >> here.source & 1
    value.held = value.held | target if held else value.held & ~target
    value.shifted = value.shifted | target if shifted else value.shifted & ~target


def _shifted(value: _Value, here: Instruction) -> int:
    """Follow an lea: IS_ERR_OR_NULL compares what is one less; anything else is an address to be used."""
    target = 1 << here.target
    held = value.held >> here.source & 1
    value.held &= ~target
    value.shifted &= ~target
    if held and here.value in (-1, 0xFFF, 0x1000):
        value.shifted |= target
        value.offset = here.value
        return _IGNORED
    return _USED if held else _IGNORED


def _tested(code: Disassembler, value: _Value, here: Instruction) -> tuple[int, bool]:
    condition = _condition(code, value.at)
    if condition in _SIGNED:
        return _NEGATIVE, False
    # A pointer that is not NULL may still be tested by IS_ERR.
    return _ZERO, here.wide and condition in _EQUAL


def _compared(code: Disassembler, value: _Value, here: Instruction) -> tuple[int, bool]:
    if here.reads & value.shifted:
        return (_IS_ERR | _ZERO if value.offset == -1 else _IS_ERR), False
    if here.wide and here.value & 0xFFFFFFFF_FFFFFFFF in ERR:
        return _IS_ERR, False
    if here.value == 0:
        return (_NEGATIVE if _condition(code, value.at) in _SIGNED else _ZERO), True
    return _COMPARED, True


def _condition(code: Disassembler, at: int) -> int:
    """The condition of the next instruction that has one, a few instructions on; -1 if there is none."""
    for _ in range(4):
        here = code.at(at)
        if here.effect in (Effect.BRANCH, Effect.FLAGS):
            return here.condition
        at += here.length
    return -1
