"""The way from a function's argument to a value: which register, which loads, which bits."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Optional

from inject.errors import InjectError
from inject.kernel.btf import (
    ARRAY,
    ENUM,
    ENUM64,
    INT,
    NESTING,
    POINTER_SIZE,
    PTR,
    STRUCT,
    UNION,
    Btf,
    Prototype,
    Triple,
)
from inject.model.text import either, listed, near

REGISTER_BITS = 64
REGISTERS = 6
"""Registers that hold arguments; only what is in them can be tested."""


@dataclass(frozen=True)
class Access:
    """Loads of a value: argument register ``argument``, then one load per offset.

    All loads but the last read a pointer; the last reads ``size`` bytes, of which (or
    of the register) ``bits`` from bit ``shift`` on are the value. ``text`` says that the value is the
    address of a NUL-terminated string.
    """

    argument: int
    offsets: tuple[int, ...]
    size: int
    shift: int
    bits: int
    signed: bool
    text: bool
    enum_id: int = 0
    user: bool = False
    """Whether it is an address of user space."""


def access_to(btf: Btf, function: str, path: str) -> Access:
    """Access to ``path`` (``bio.bi_iter.bi_size``) of a call of ``function``.

    Raises InjectError naming the candidates when a step does not exist.
    """
    prototype = btf.prototype(function)
    if prototype is None:
        raise InjectError(f"the kernel's BTF does not describe {function}", "its arguments cannot be tested")
    first, *steps = path.split(".")
    names = [parameter.name for parameter in prototype.parameters]
    if first not in names:
        raise InjectError(f"{function} has no parameter {first}", candidates(first, names))
    argument = names.index(first)
    register = _first_register(btf, prototype, argument)
    if register is None:
        raise InjectError(
            f"{first} is parameter {argument + 1} of {function} and comes on the stack",
            f"only what comes in the {REGISTERS} registers can be tested",
        )
    return walk(btf, register, prototype.parameters[argument].type_id, steps, path)


def _first_register(btf: Btf, prototype: Prototype, argument: int) -> Optional[int]:
    """First register of ``argument``, counted from 0; None for the stack.

    As the x86-64 psABI passes parameters (3.2.3): values of up to 16 bytes take one
    register or two, if as many are left; larger or packed structures take none.
    """
    used = 0
    first: Optional[int] = None
    for parameter in prototype.parameters[: argument + 1]:
        plain, found, _ = btf.plain(parameter.type_id)
        size = POINTER_SIZE if found.kind == PTR else max(int(found.size), 1)
        needed = -(-size // POINTER_SIZE)
        first = None
        if needed <= 2 and used + needed <= REGISTERS and _aligned(btf, plain, 0):
            first, used = used, used + needed
    return first


def _aligned(btf: Btf, type_id: int, depth: int) -> bool:
    """True if every member is aligned to its size; false for some packed structures."""
    plain, found, entries = btf.plain(type_id)
    if found.kind not in (STRUCT, UNION) or depth >= NESTING:
        return True
    for i in range(found.entries):
        member = Triple.from_address(entries + 12 * i)
        if found.flag and member.third >> 24:
            continue  # a bit field
        inner, inner_type, _ = btf.plain(member.second)
        scalar = inner_type.kind in (INT, PTR, ENUM, ENUM64)
        if scalar and (member.third & 0xFFFFFF) % (btf.size_of(inner) * 8):
            return False
        if not _aligned(btf, inner, depth + 1):
            return False
    return True


def walk(btf: Btf, register: int, type_id: int, steps: list[str], path: str) -> Access:
    """Follow members ``steps`` from a value of type ``type_id`` in ``register``; ``path`` is for messages."""
    offsets: list[int] = []
    bit, width = 0, 0
    inside = False  # whether bit counts from an object in memory, or from the register
    for step in steps:
        plain, found, _ = btf.plain(type_id)
        if found.kind == PTR:
            if inside:
                offsets.append(bit // 8)
            else:
                register += bit // REGISTER_BITS
            bit, inside = 0, True
            plain, found, _ = btf.plain(found.size)
        if found.kind not in (STRUCT, UNION):
            raise InjectError(f"{btf.spelling(type_id)} has no members, so {path} cannot be followed at {step}")
        member = btf.find_member(plain, step, 0)
        if member is None:
            raise InjectError(f"{btf.spelling(plain)} has no member {step}", candidates(step, btf.members(plain)))
        type_id, bit, width = member[0], bit + member[1], member[2]
    size, bits, signed, text, enum_id = _value(btf, type_id, width, inside, path)
    if not inside:
        return Access(register + bit // REGISTER_BITS, (), size, bit % REGISTER_BITS, bits, signed, text, enum_id)
    start, size = _window(bit, bits, size, path)
    return Access(register, (*offsets, start), size, bit - start * 8, bits, signed, text, enum_id)


def _value(btf: Btf, type_id: int, width: int, inside: bool, path: str) -> tuple[int, int, bool, bool, int]:
    """Value at the end of a path: bytes, bits, signed, string, and its enum."""
    plain, found, entries = btf.plain(type_id)
    if found.kind == ARRAY:  # a char array in memory: its address is the string
        array = Triple.from_address(entries)
        if not inside or btf.size_of(array.first) != 1:
            raise InjectError(f"{path} is an array", "name one of its members")
        raise InjectError(f"{path} is an embedded string", "only strings behind a pointer can be tested")
    if found.kind not in (INT, PTR, ENUM, ENUM64):
        raise InjectError(f"{path} is a {btf.spelling(type_id)}, not a value", candidates("", btf.members(plain)))
    size = POINTER_SIZE if found.kind == PTR else int(found.size)
    if size > POINTER_SIZE:
        raise InjectError(f"{path} has {size} bytes", f"values of up to {POINTER_SIZE} bytes can be tested")
    encoding = ctypes.c_uint32.from_address(entries).value if found.kind == INT else 0
    signed = bool((encoding >> 24) & 1) if found.kind == INT else found.flag and found.kind != PTR
    text = found.kind == PTR and btf.size_of(found.size) == 1
    enum_id = plain if found.kind in (ENUM, ENUM64) else 0
    return size, width or size * 8, signed, text, enum_id


def _window(bit: int, bits: int, size: int, path: str) -> tuple[int, int]:
    """Byte offset and size of the load that holds ``bits`` bits from ``bit`` on.

    A plain member is loaded as it is, aligned or packed. A bit field is loaded
    through its storage unit or, if it crosses one, from its first byte on.
    """
    unit, first = bit // 8 // size * size, bit // 8
    for start, length in ((unit, size), (first, size), (first, POINTER_SIZE)):
        if bit - start * 8 + bits <= length * 8:
            return start, length
    raise InjectError(f"{path} is a bit field across nine bytes", "choose another member")


def candidates(wrong: str, names: list[str]) -> str:
    """Hint with the names similar to ``wrong``, or the first dozen; "" if there are none."""
    close = near(wrong, names)
    if close:
        return f"did you mean {either(close)}?"
    return f"it has {listed(names, 12)}" if names else ""
