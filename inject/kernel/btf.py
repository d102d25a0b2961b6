"""Names, types, offsets and enumerators of the running kernel, read by libbpf.

libbpf does the parsing; here its ``struct btf_type`` is only looked at, as the
inline helpers of <bpf/btf.h> (btf_kind, btf_members, ...) do for C callers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Optional

from inject.errors import CannotRun, InjectError

# include/uapi/linux/btf.h, BTF_KIND_*
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, PROTO = range(1, 14)
FLOAT, TYPE_TAG, ENUM64 = 16, 18, 19
MODIFIERS = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)
POINTER_SIZE = 8
REGISTER_BITS = 64
REGISTERS = 6
"""Registers in which arguments come; only what is in them can be tested."""
NESTING = 32
"""Modifiers or anonymous members followed at most, so that damaged BTF cannot hang us."""


class _Type(ctypes.Structure):
    _fields_ = [("name", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size", ctypes.c_uint32)]

    @property
    def kind(self) -> int:
        return int(self.info >> 24 & 0x1F)

    @property
    def entries(self) -> int:
        return int(self.info & 0xFFFF)

    @property
    def flag(self) -> bool:
        return bool(self.info >> 31)


class _Triple(ctypes.Structure):
    """struct btf_member (name, type, offset), btf_enum64 (name, low, high) and btf_array."""

    _fields_ = [("first", ctypes.c_uint32), ("second", ctypes.c_uint32), ("third", ctypes.c_uint32)]


class _Pair(ctypes.Structure):
    """struct btf_param (name, type) and btf_enum (name, value)."""

    _fields_ = [("first", ctypes.c_uint32), ("second", ctypes.c_uint32)]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a function: its name, BTF type id and C spelling."""

    name: str
    type_id: int
    spelling: str


@dataclass(frozen=True)
class Prototype:
    """A function as BTF describes it."""

    function: str
    parameters: tuple[Parameter, ...]
    returns: str

    def __str__(self) -> str:
        return f"{self.returns} {self.function}({', '.join(f'{p.spelling} {p.name}' for p in self.parameters)})"


@dataclass(frozen=True)
class Result:
    """What a function returns: ``kind`` is void, int, unsigned, bool, pointer, enum or other.

    ``size`` in bytes; ``name`` that of the outermost typedef (``vm_fault_t``) or the
    type itself. A small struct that begins with a pointer counts as one: it comes
    back in the same register.
    """

    kind: str
    size: int = 0
    name: str = ""


@dataclass(frozen=True)
class Access:
    """How to get at a value: argument register ``argument``, then one load per offset.

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
    """Whether an address is one of user space."""


def _library() -> Any:
    for name in ("libbpf.so.1", "libbpf.so.0"):
        try:
            library = ctypes.CDLL(name, use_errno=True)
            break
        except OSError:
            continue
    else:
        raise CannotRun("libbpf is not installed", "apt-get install libbpf1")
    library.btf__parse.restype = ctypes.c_void_p
    library.btf__parse.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    library.btf__parse_split.restype = ctypes.c_void_p
    library.btf__parse_split.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    library.btf__find_by_name_kind.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
    library.btf__type_by_id.restype = ctypes.c_void_p
    library.btf__type_by_id.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.btf__name_by_offset.restype = ctypes.c_char_p
    library.btf__name_by_offset.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.btf__type_cnt.argtypes = [ctypes.c_void_p]
    library.btf__free.argtypes = [ctypes.c_void_p]
    library.libbpf_set_print.argtypes = [ctypes.c_void_p]
    library.libbpf_set_print(None)
    return library


def _failed(pointer: Optional[int]) -> bool:
    """libbpf.so.0 returned errors as pointers, libbpf.so.1 returns NULL."""
    return not pointer or pointer > (1 << 64) - 4096


class Btf:
    """The types of vmlinux (``module`` "") or of one loaded module on top of it.

    Raises CannotRun where the kernel has no BTF or libbpf is missing.
    """

    def __init__(self, root: Path = Path("/"), module: str = "", base: Optional[Btf] = None) -> None:
        self._library: Any = base._library if base else _library()
        self._btf: Any = None
        self._base = base
        where = root / "sys/kernel/btf" / (module or "vmlinux")
        if not os.access(where, os.R_OK):
            raise CannotRun(
                f"{where} cannot be read, so parameter and error names are unknown",
                "the kernel needs CONFIG_DEBUG_INFO_BTF=y",
            )
        path = os.fsencode(where)
        if base:
            self._btf = self._library.btf__parse_split(path, base._btf)
        else:
            self._btf = self._library.btf__parse(path, None)
        if _failed(self._btf):
            raise CannotRun(f"libbpf cannot read {where}", "a newer libbpf may: apt-get install libbpf1")
        self.count = int(self._library.btf__type_cnt(self._btf))
        self._first = base.count if base else 1

    def close(self) -> None:
        """Give the memory back; nothing may be asked afterwards."""
        if self._btf:
            self._library.btf__free(self._btf)
            self._btf = None

    # ------------------------------------------------------------ raw access

    def _type(self, type_id: int) -> tuple[_Type, int]:
        """The type and the address of what follows it."""
        address = self._library.btf__type_by_id(self._btf, type_id)
        if _failed(address):
            raise InjectError(f"the kernel's BTF has no type {type_id}")
        return _Type.from_address(address), address + ctypes.sizeof(_Type)

    def _name(self, offset: int) -> str:
        name = self._library.btf__name_by_offset(self._btf, offset)
        return name.decode(errors="replace") if name else ""

    def _find(self, name: str, kind: int) -> int:
        found = int(self._library.btf__find_by_name_kind(self._btf, name.encode(), kind))
        return max(found, 0)

    def _plain(self, type_id: int) -> tuple[int, _Type, int]:
        """``type_id`` without typedefs and qualifiers: its id, type and entries' address."""
        for _ in range(NESTING):
            if type_id == 0:
                return 0, _Type(), 0
            found, entries = self._type(type_id)
            if found.kind not in MODIFIERS:
                return type_id, found, entries
            type_id = found.size
        raise InjectError("the kernel's BTF nests qualifiers without end")

    def spelling(self, type_id: int) -> str:
        """The type as C spells it, near enough to be recognised."""
        stars = ""
        for _ in range(NESTING):
            if type_id == 0:
                return f"void {stars}".strip()
            found, _entries = self._type(type_id)
            if found.kind == PTR:
                stars, type_id = "*" + stars, found.size
            elif found.kind in (CONST, VOLATILE, RESTRICT, TYPE_TAG):
                type_id = found.size
            else:
                word = {STRUCT: "struct ", UNION: "union ", ENUM: "enum ", ENUM64: "enum ", FWD: "struct "}
                name = self._name(found.name) or "(...)"
                return f"{word.get(found.kind, '')}{name} {stars}".strip()
        return "?"

    # ------------------------------------------------------------ functions

    def prototype(self, function: str) -> Optional[Prototype]:
        """The prototype of ``function``, None where BTF does not have it."""
        found = self._find(function, FUNC)
        if not found:
            return None
        func, _ = self._type(found)
        proto, entries = self._type(func.size)
        pairs = [_Pair.from_address(entries + 8 * i) for i in range(proto.entries)]
        parameters = tuple(Parameter(self._name(p.first), p.second, self.spelling(p.second)) for p in pairs)
        return Prototype(function, parameters, self.spelling(proto.size))

    def result(self, function: str) -> Optional[Result]:
        """What ``function`` returns, None where BTF does not have it."""
        found = self._find(function, FUNC)
        if not found:
            return None
        func, _ = self._type(found)
        proto, _ = self._type(func.size)
        if proto.size == 0:
            return Result("void")
        _, plain, entries = self._plain(proto.size)
        outer, _ = self._type(proto.size)
        return Result(*self._register(plain, entries), self._name(outer.name))

    def _register(self, plain: _Type, entries: int) -> tuple[str, int]:
        """Kind and size of what stands in the return register."""
        if plain.kind == INT:
            encoding = ctypes.c_uint32.from_address(entries).value >> 24  # BTF_INT_SIGNED 1, BTF_INT_BOOL 4
            return ("bool" if encoding & 4 else "int" if encoding & 1 else "unsigned"), plain.size
        if plain.kind == PTR:
            return "pointer", POINTER_SIZE
        if plain.kind in (ENUM, ENUM64):
            return "enum", plain.size
        if plain.kind == STRUCT and plain.entries and plain.size <= 2 * POINTER_SIZE:
            _, first, _ = self._plain(_Triple.from_address(entries).second)
            if first.kind == PTR:
                return "pointer", POINTER_SIZE
        return "other", POINTER_SIZE

    # ------------------------------------------------------------ enumerators

    def _enumerators(self, type_id: int) -> Iterator[tuple[str, int]]:
        found, entries = self._type(type_id)
        for i in range(found.entries):
            if found.kind == ENUM:
                pair = _Pair.from_address(entries + 8 * i)
                value = pair.second - (1 << 32) if found.flag and pair.second >> 31 else pair.second
                yield self._name(pair.first), value
            else:
                triple = _Triple.from_address(entries + 12 * i)
                value = triple.second | triple.third << 32
                yield self._name(triple.first), value - (1 << 64) if found.flag and value >> 63 else value

    def enum(self, name_or_id: str | int) -> dict[str, int]:
        """Names and values of one enum, by its tag or type id; {} if there is none."""
        if isinstance(name_or_id, str):
            found = self._find(name_or_id, ENUM) or self._find(name_or_id, ENUM64)
        else:
            found = name_or_id
        return dict(self._enumerators(found)) if found else {}

    def enumerator(self, name: str) -> Optional[int]:
        """The value of ``name`` in whatever enum has it; a walk over all types."""
        for type_id in range(self._first, self.count):
            found, _ = self._type(type_id)
            if found.kind in (ENUM, ENUM64):
                for other, value in self._enumerators(type_id):
                    if other == name:
                        return value
        return None

    # ------------------------------------------------------------ paths

    def access(self, function: str, path: str) -> Access:
        """Where ``path`` (``bio.bi_iter.bi_size``) of a call of ``function`` is found.

        Raises InjectError naming the candidates when a step does not exist.
        """
        prototype = self.prototype(function)
        if prototype is None:
            raise InjectError(f"the kernel's BTF does not describe {function}", "its arguments cannot be tested")
        first, *steps = path.split(".")
        names = [parameter.name for parameter in prototype.parameters]
        if first not in names:
            raise InjectError(f"{function} has no parameter {first}", candidates(first, names))
        argument = names.index(first)
        register = self._first_register(prototype, argument)
        if register is None:
            raise InjectError(
                f"{first} is parameter {argument + 1} of {function} and comes on the stack",
                f"only what comes in the {REGISTERS} registers can be tested",
            )
        return self._walk(register, prototype.parameters[argument].type_id, steps, path)

    def _first_register(self, prototype: Prototype, argument: int) -> Optional[int]:
        """Which register ``argument`` begins in, counted from 0; None for the stack.

        As the x86-64 psABI passes parameters (3.2.3): what has up to 16 bytes takes one
        register or two, if so many are left; larger or packed structures take none.
        """
        used = 0
        first: Optional[int] = None
        for parameter in prototype.parameters[: argument + 1]:
            plain, found, _ = self._plain(parameter.type_id)
            size = POINTER_SIZE if found.kind == PTR else max(int(found.size), 1)
            needed = -(-size // POINTER_SIZE)
            first = None
            if needed <= 2 and used + needed <= REGISTERS and self._aligned(plain, 0):
                first, used = used, used + needed
        return first

    def _aligned(self, type_id: int, depth: int) -> bool:
        """Whether every member stands where its size wants it: a packed structure may say no."""
        plain, found, entries = self._plain(type_id)
        if found.kind not in (STRUCT, UNION) or depth >= NESTING:
            return True
        for i in range(found.entries):
            member = _Triple.from_address(entries + 12 * i)
            if found.flag and member.third >> 24:
                continue  # a bit field
            inner, inner_type, _ = self._plain(member.second)
            scalar = inner_type.kind in (INT, PTR, ENUM, ENUM64)
            if scalar and (member.third & 0xFFFFFF) % (self._size(inner) * 8):
                return False
            if not self._aligned(inner, depth + 1):
                return False
        return True

    def _walk(self, register: int, type_id: int, steps: list[str], path: str) -> Access:
        offsets: list[int] = []
        bit, width = 0, 0
        inside = False  # whether bit counts from an object in memory, or from the register
        for step in steps:
            plain, found, _ = self._plain(type_id)
            if found.kind == PTR:
                if inside:
                    offsets.append(bit // 8)
                else:
                    register += bit // REGISTER_BITS
                bit, inside = 0, True
                plain, found, _ = self._plain(found.size)
            if found.kind not in (STRUCT, UNION):
                raise InjectError(f"{self.spelling(type_id)} has no members, so {path} cannot be followed at {step}")
            member = self._member(plain, step, 0)
            if member is None:
                raise InjectError(f"{self.spelling(plain)} has no member {step}", candidates(step, self.members(plain)))
            type_id, bit, width = member[0], bit + member[1], member[2]
        size, bits, signed, text, enum_id = self._value(type_id, width, inside, path)
        if not inside:
            return Access(register + bit // REGISTER_BITS, (), size, bit % REGISTER_BITS, bits, signed, text, enum_id)
        start, size = _window(bit, bits, size, path)
        return Access(register, (*offsets, start), size, bit - start * 8, bits, signed, text, enum_id)

    def _value(self, type_id: int, width: int, inside: bool, path: str) -> tuple[int, int, bool, bool, int]:
        """Of what a path ends at: bytes, bits, whether it is signed, a string, and of which enum."""
        plain, found, entries = self._plain(type_id)
        if found.kind == ARRAY:  # a char array in memory: its address is the string
            array = _Triple.from_address(entries)
            if not inside or self._size(array.first) != 1:
                raise InjectError(f"{path} is an array", "name one of its members")
            raise InjectError(f"{path} is an embedded string", "only strings behind a pointer can be tested")
        if found.kind not in (INT, PTR, ENUM, ENUM64):
            raise InjectError(f"{path} is a {self.spelling(type_id)}, not a value", candidates("", self.members(plain)))
        size = POINTER_SIZE if found.kind == PTR else int(found.size)
        if size > POINTER_SIZE:
            raise InjectError(f"{path} has {size} bytes", f"values of up to {POINTER_SIZE} bytes can be tested")
        encoding = ctypes.c_uint32.from_address(entries).value if found.kind == INT else 0
        signed = bool((encoding >> 24) & 1) if found.kind == INT else found.flag and found.kind != PTR
        text = found.kind == PTR and self._size(found.size) == 1
        enum_id = plain if found.kind in (ENUM, ENUM64) else 0
        return size, width or size * 8, signed, text, enum_id

    def _size(self, type_id: int) -> int:
        plain, found, _ = self._plain(type_id)
        if not plain or found.kind in (FUNC, PROTO, FWD, ARRAY):
            return 0
        return POINTER_SIZE if found.kind == PTR else int(found.size)

    def _member(self, struct_id: int, name: str, depth: int) -> Optional[tuple[int, int, int]]:
        """Type, bit offset and bit-field width (0: none) of a member, anonymous ones searched too."""
        found, entries = self._type(struct_id)
        for i in range(found.entries):
            member = _Triple.from_address(entries + 12 * i)
            offset = member.third & 0xFFFFFF if found.flag else member.third
            width = member.third >> 24 if found.flag else 0
            own = self._name(member.first)
            if own == name:
                return member.second, offset, width
            if not own and depth < NESTING:
                plain, inner_type, _ = self._plain(member.second)
                if inner_type.kind in (STRUCT, UNION):
                    inner = self._member(plain, name, depth + 1)
                    if inner:
                        return inner[0], inner[1] + offset, inner[2]
        return None

    def member(self, struct: str, name: str) -> int:
        """Offset in bytes of a member of ``struct``; raises InjectError where it is not there."""
        found = self._find(struct, STRUCT)
        member = self._member(found, name, 0) if found else None
        if member is None:
            raise InjectError(f"this kernel's struct {struct} has no {name}")
        return member[1] // 8

    def integer(self, name: str) -> tuple[int, bool]:
        """Size in bytes and signedness of an integer type, a typedef of one or an enum; unknown: 8, unsigned."""
        kind = ENUM if name.startswith("enum ") else 0
        plain = name.partition(" ")[2] if kind else name
        found = self._find(plain, kind) if kind else self._find(plain, INT) or self._find(plain, TYPEDEF)
        _, type_, entries = self._plain(found)
        if type_.kind not in (INT, ENUM, ENUM64):
            return POINTER_SIZE, False
        if type_.kind != INT:
            return int(type_.size), type_.flag
        return int(type_.size), bool(ctypes.c_uint32.from_address(entries).value >> 24 & 1)

    def members(self, type_id: int, depth: int = 0) -> list[str]:
        """Names that a path may go on with from a struct, union or pointer to one."""
        plain, found, entries = self._plain(type_id)
        if found.kind == PTR and depth < NESTING:
            return self.members(found.size, depth + 1)
        names: list[str] = []
        if found.kind not in (STRUCT, UNION):
            return names
        for i in range(found.entries):
            member = _Triple.from_address(entries + 12 * i)
            name = self._name(member.first)
            if name:
                names.append(name)
            elif depth < NESTING:
                names.extend(self.members(member.second, depth + 1))
        return names


def _window(bit: int, bits: int, size: int, path: str) -> tuple[int, int]:
    """Byte offset and size of the load that holds ``bits`` bits from ``bit`` on.

    A plain member is loaded as it stands, aligned or packed. A bit field is loaded
    through its storage unit, or where it crosses one, from its first byte on.
    """
    unit, first = bit // 8 // size * size, bit // 8
    for start, length in ((unit, size), (first, size), (first, POINTER_SIZE)):
        if bit - start * 8 + bits <= length * 8:
            return start, length
    raise InjectError(f"{path} is a bit field across nine bytes", "choose another member")


def candidates(wrong: str, names: list[str]) -> str:
    """What to write instead of ``wrong``: the names that look like it, or the first dozen; "" if there are none."""
    close = get_close_matches(wrong, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"it has {shown}" if names else ""
