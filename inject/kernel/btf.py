"""Names, types, offsets and enumerators of the running kernel, read by libbpf.

libbpf does the parsing; here its ``struct btf_type`` is only looked at, as the
inline helpers of <bpf/btf.h> (btf_kind, btf_members, ...) do for C callers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

from inject.errors import CannotRun, InjectError

# include/uapi/linux/btf.h, BTF_KIND_*
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, PROTO = range(1, 14)
VAR, FLOAT, TYPE_TAG, ENUM64 = 14, 16, 18, 19
MODIFIERS = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)
POINTER_SIZE = 8
NESTING = 32
"""Modifiers or anonymous members followed at most, so that damaged BTF cannot make inject hang."""


class RawType(ctypes.Structure):
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


class Triple(ctypes.Structure):
    """struct btf_member (name, type, offset), btf_enum64 (name, low, high) and btf_array."""

    _fields_ = [("first", ctypes.c_uint32), ("second", ctypes.c_uint32), ("third", ctypes.c_uint32)]


class Pair(ctypes.Structure):
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
    """Return type of a function: ``kind`` is void, int, unsigned, bool, pointer, enum or other.

    ``size`` in bytes; ``name`` that of the outermost typedef (``vm_fault_t``) or the
    type itself. A small struct that begins with a pointer counts as one, with ``structure``: its
    first half comes back in the same register.
    """

    kind: str
    size: int = 0
    name: str = ""
    structure: bool = False


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

    Raises CannotRun if the kernel has no BTF or libbpf is missing.
    """

    def __init__(self, root: Path = Path("/"), module: str = "", base: Optional[Btf] = None) -> None:
        self._library: Any = base._library if base else _library()
        self._base = base
        where = root / "sys/kernel/btf" / (module or "vmlinux")
        if not os.access(where, os.R_OK):
            raise CannotRun(
                f"{where} cannot be read, so parameter and error names are unknown",
                "the kernel needs CONFIG_DEBUG_INFO_BTF=y",
            )
        self._where = where
        self._prepare()

    def _prepare(self) -> None:
        """Read the file; a subclass may wait until it is needed."""
        assert self.count

    @cached_property
    def _btf(self) -> Any:
        """What libbpf made of the file: that takes 28 million instructions for a vmlinux of 6.12."""
        path = os.fsencode(self._where)
        if self._base:
            parsed = self._library.btf__parse_split(path, self._base._btf)
        else:
            parsed = self._library.btf__parse(path, None)
        if _failed(parsed):
            raise CannotRun(f"libbpf cannot read {self._where}", "a newer libbpf may: apt-get install libbpf1")
        return parsed

    @cached_property
    def count(self) -> int:
        """Number of types, those of the base included."""
        return int(self._library.btf__type_cnt(self._btf))

    def close(self) -> None:
        """Give the memory back; nothing may be asked afterwards."""
        if self.__dict__.get("_btf"):
            self._library.btf__free(self._btf)
            self._btf = None

    # ------------------------------------------------------------ types as libbpf has them

    def type(self, type_id: int) -> tuple[RawType, int]:
        """The type and the address of what follows it."""
        address = self._library.btf__type_by_id(self._btf, type_id)
        if _failed(address):
            raise InjectError(f"the kernel's BTF has no type {type_id}")
        return RawType.from_address(address), address + ctypes.sizeof(RawType)

    def _name(self, offset: int) -> str:
        name = self._library.btf__name_by_offset(self._btf, offset)
        return name.decode(errors="replace") if name else ""

    def _find(self, name: str, kind: int) -> int:
        found = int(self._library.btf__find_by_name_kind(self._btf, name.encode(), kind))
        return max(found, 0)

    def function(self, name: str) -> int:
        """Type id of the function ``name``; 0 if there is none."""
        return self._find(name, FUNC)

    def struct(self, name: str) -> int:
        """Type id of ``struct name``; 0 if there is none."""
        return self._find(name, STRUCT)

    def variable(self, name: str) -> int:
        """Type id of the per-CPU variable ``name``; 0 if there is none."""
        return max(0, self._find(name, VAR))

    def plain(self, type_id: int) -> tuple[int, RawType, int]:
        """``type_id`` without typedefs and qualifiers: its id, type and entries' address."""
        for _ in range(NESTING):
            if type_id == 0:
                return 0, RawType(), 0
            found, entries = self.type(type_id)
            if found.kind not in MODIFIERS:
                return type_id, found, entries
            type_id = found.size
        raise InjectError("the kernel's BTF nests qualifiers without end")

    def spelling(self, type_id: int) -> str:
        """The type in C's spelling, close enough to be recognised."""
        stars = ""
        for _ in range(NESTING):
            if type_id == 0:
                return f"void {stars}".strip()
            found, _entries = self.type(type_id)
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
        """The prototype of ``function``, None if BTF does not have it."""
        found = self._find(function, FUNC)
        if not found:
            return None
        func, _ = self.type(found)
        proto, entries = self.type(func.size)
        pairs = [Pair.from_address(entries + 8 * i) for i in range(proto.entries)]
        parameters = tuple(Parameter(self._name(p.first), p.second, self.spelling(p.second)) for p in pairs)
        return Prototype(function, parameters, self.spelling(proto.size))

    def result(self, function: str) -> Optional[Result]:
        """Return type of ``function``; None if BTF does not have it."""
        found = self._find(function, FUNC)
        if not found:
            return None
        func, _ = self.type(found)
        proto, _ = self.type(func.size)
        return self.result_of(proto.size)

    def result_of(self, type_id: int) -> Result:
        """A function's result of this type; 0 is void."""
        if type_id == 0:
            return Result("void")
        _, plain, entries = self.plain(type_id)
        outer, _ = self.type(type_id)
        whole = plain.kind in (STRUCT, UNION)
        return Result(*self._register(plain, entries), self._name(outer.name), whole)

    def _register(self, plain: RawType, entries: int) -> tuple[str, int]:
        """Kind and size of what the return register holds."""
        if plain.kind == INT:
            encoding = ctypes.c_uint32.from_address(entries).value >> 24  # BTF_INT_SIGNED 1, BTF_INT_BOOL 4
            return ("bool" if encoding & 4 else "int" if encoding & 1 else "unsigned"), plain.size
        if plain.kind == PTR:
            return "pointer", POINTER_SIZE
        if plain.kind in (ENUM, ENUM64):
            return "enum", plain.size
        if plain.kind == STRUCT and plain.entries and plain.size <= 2 * POINTER_SIZE:
            _, first, _ = self.plain(Triple.from_address(entries).second)
            if first.kind == PTR:
                return "pointer", POINTER_SIZE
        return "other", POINTER_SIZE

    # ------------------------------------------------------------ enumerators

    def _enumerators(self, type_id: int) -> Iterator[tuple[str, int]]:
        found, entries = self.type(type_id)
        for i in range(found.entries):
            if found.kind == ENUM:
                pair = Pair.from_address(entries + 8 * i)
                value = pair.second - (1 << 32) if found.flag and pair.second >> 31 else pair.second
                yield self._name(pair.first), value
            else:
                triple = Triple.from_address(entries + 12 * i)
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
        """The value of ``name`` in the first enum that has it; walks over all types."""
        for type_id in range(self._base.count if self._base else 1, self.count):
            found, _ = self.type(type_id)
            if found.kind in (ENUM, ENUM64):
                for other, value in self._enumerators(type_id):
                    if other == name:
                        return value
        return None

    # ------------------------------------------------------------ members

    def size_of(self, type_id: int) -> int:
        """Bytes of a value of the type; 0 if it has no size, or is an array."""
        plain, found, _ = self.plain(type_id)
        if not plain or found.kind in (FUNC, PROTO, FWD, ARRAY):
            return 0
        return POINTER_SIZE if found.kind == PTR else int(found.size)

    def find_member(self, struct_id: int, name: str, depth: int) -> Optional[tuple[int, int, int]]:
        """Type, bit offset and bit-field width (0: none) of a member, anonymous ones searched too."""
        found, entries = self.type(struct_id)
        for i in range(found.entries):
            member = Triple.from_address(entries + 12 * i)
            offset = member.third & 0xFFFFFF if found.flag else member.third
            width = member.third >> 24 if found.flag else 0
            own = self._name(member.first)
            if own == name:
                return member.second, offset, width
            if not own and depth < NESTING:
                plain, inner_type, _ = self.plain(member.second)
                if inner_type.kind in (STRUCT, UNION):
                    inner = self.find_member(plain, name, depth + 1)
                    if inner:
                        return inner[0], inner[1] + offset, inner[2]
        return None

    def member(self, struct: str, name: str) -> int:
        """Offset in bytes of a member of ``struct``; raises InjectError if there is none."""
        found = self._find(struct, STRUCT)
        member = self.find_member(found, name, 0) if found else None
        if member is None:
            raise InjectError(f"this kernel's struct {struct} has no {name}")
        return member[1] // 8

    def integer(self, name: str) -> tuple[int, bool]:
        """Size in bytes and signedness of an integer type, a typedef of one or an enum; unknown: 8, unsigned."""
        kind = ENUM if name.startswith("enum ") else 0
        plain = name.partition(" ")[2] if kind else name
        found = self._find(plain, kind) if kind else self._find(plain, INT) or self._find(plain, TYPEDEF)
        _, type_, entries = self.plain(found)
        if type_.kind not in (INT, ENUM, ENUM64):
            return POINTER_SIZE, False
        if type_.kind != INT:
            return int(type_.size), type_.flag
        return int(type_.size), bool(ctypes.c_uint32.from_address(entries).value >> 24 & 1)

    def members(self, type_id: int, depth: int = 0) -> list[str]:
        """Names of the members of a struct, a union or what a pointer points to."""
        plain, found, entries = self.plain(type_id)
        if found.kind == PTR and depth < NESTING:
            return self.members(found.size, depth + 1)
        names: list[str] = []
        if found.kind not in (STRUCT, UNION):
            return names
        for i in range(found.entries):
            member = Triple.from_address(entries + 12 * i)
            name = self._name(member.first)
            if name:
                names.append(name)
            elif depth < NESTING:
                names.extend(self.members(member.second, depth + 1))
        return names
