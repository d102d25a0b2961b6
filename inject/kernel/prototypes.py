"""The functions of one BTF, all at once: to find one name libbpf looks at every type, too slow for 60,000 names.

One walk over the raw types (Documentation/bpf/btf.rst) notes where the functions and their
prototypes are. What their types are called and what they return libbpf's types say, each once.
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from typing import Optional

from inject.errors import InjectError
from inject.kernel.btf import ARRAY, ENUM, ENUM64, FUNC, INT, PROTO, STRUCT, UNION, VAR, Btf, Result

DATASEC, DECL_TAG = 15, 17
LIMIT = 64 << 20
"""Bytes of one BTF that are read at most; a distribution's vmlinux has about 6 MB."""

_HEADER = struct.Struct("<HBBIIIII")
_FIXED = {INT: 1, ARRAY: 3, VAR: 1, DECL_TAG: 1}
_EACH = {STRUCT: 3, UNION: 3, ENUM: 2, PROTO: 2, DATASEC: 3, ENUM64: 3}
"""Words after the three of each type: a fixed number, or so many for each member."""


class Prototypes:
    """Prototypes of the functions of vmlinux (``module`` "") or of a module, by name.

    ``btf`` is that BTF, opened by libbpf. Raises InjectError if the file is damaged.
    """

    def __init__(self, root: Path, btf: Btf, module: str = "", base: Optional[Prototypes] = None) -> None:
        self._btf = btf
        self._base = base
        self._spelled: dict[int, str] = {}
        self._results: dict[int, Result] = {}
        self._functions: dict[str, int] = {}
        self._protos: dict[int, int] = {}
        self.types_end = 0
        """Id of the first type of a module on top of this."""
        where = root / "sys/kernel/btf" / (module or "vmlinux")
        try:
            with where.open("rb") as file:
                data = file.read(LIMIT)
            self._read(data)
        except (OSError, struct.error, IndexError, ValueError):
            raise InjectError(f"{where} cannot be read or is damaged") from None

    def _read(self, data: bytes) -> None:
        _, _, _, length, types, types_size, strings, strings_size = _HEADER.unpack_from(data)
        if length + max(types + types_size, strings + strings_size) > len(data):
            raise ValueError("cut off")
        self._words = array("I", data[length + types : length + types + types_size])
        self._strings = data[length + strings : length + strings + strings_size]
        self._first_string = self._base.strings_end if self._base else 0
        words, at = self._words, 0
        type_id: int = self._base.types_end if self._base else 1
        functions, protos = self._functions, self._protos
        fixed, each = _FIXED.get, _EACH.get
        while at < len(words):
            info = words[at + 1]
            kind = info >> 24 & 31
            if kind == FUNC:
                functions[self._string(words[at])] = words[at + 2]
                at += 3
            else:
                if kind == PROTO:
                    protos[type_id] = at
                at += 3 + fixed(kind, 0) + each(kind, 0) * (info & 0xFFFF)
            type_id += 1
        self.types_end = type_id

    @property
    def strings_end(self) -> int:
        """Offset of the first string of a module on top of this."""
        return self._first_string + len(self._strings)

    def _string(self, offset: int) -> str:
        if offset < self._first_string:
            return self._base._string(offset) if self._base else ""
        start = offset - self._first_string
        return self._strings[start : self._strings.index(0, start)].decode(errors="replace")

    def __contains__(self, function: str) -> bool:
        return function in self._functions

    def names(self) -> tuple[str, ...]:
        """The names of all functions."""
        return tuple(self._functions)

    def result(self, function: str) -> Optional[Result]:
        """Return type of ``function``; None if this BTF does not have it."""
        found = self._proto(function)
        if found is None:
            return None
        words, at = found
        type_id = words[at + 2]
        if type_id not in self._results:
            self._results[type_id] = self._btf.result_of(type_id)
        return self._results[type_id]

    def text(self, function: str) -> str:
        """The prototype of ``function`` as Prototype spells it; "" if this BTF does not have it."""
        found = self._proto(function)
        if found is None:
            return ""
        words, at = found
        pairs = range(at + 3, at + 3 + 2 * (words[at + 1] & 0xFFFF), 2)
        parameters = (f"{self._spelling(words[pair + 1])} {self._string(words[pair])}" for pair in pairs)
        return f"{self._spelling(words[at + 2])} {function}({', '.join(parameters)})"

    def _proto(self, function: str) -> Optional[tuple[array[int], int]]:
        """Where the prototype of ``function`` is; a module may share one with vmlinux."""
        type_id = self._functions.get(function)
        if type_id is None:
            return None
        at = self._protos.get(type_id)
        if at is not None:
            return self._words, at
        at = self._base._protos.get(type_id) if self._base is not None else None
        return (self._base._words, at) if self._base is not None and at is not None else None

    def _spelling(self, type_id: int) -> str:
        if type_id not in self._spelled:
            self._spelled[type_id] = self._btf.spelling(type_id)
        return self._spelled[type_id]
