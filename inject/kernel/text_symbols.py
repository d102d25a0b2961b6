"""All text symbols at once: names for thousands of addresses that are the same in every boot of one kernel."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property

from inject.kernel.symbols import KernelSymbol

Line = tuple[int, str, str, str]
"""Address, kind, name and module."""


class TextSymbols:
    """The text symbols of one moment of a kernel (Kallsyms.text()).

    Symbols of one name in one object are told apart by their order there, ``name``, ``name#2`` and so on, since
    vmlinux or a module is loaded as a whole. Of several names at one address a global one counts, then
    the first of the alphabet.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = sorted(lines, key=lambda line: (line[0], line[1].islower(), line[2]))

    @cached_property
    def _named(self) -> dict[str, list[Line]]:
        found: dict[str, list[Line]] = {}
        for line in self._lines:
            found.setdefault(line[2], []).append(line)
        return found

    @cached_property
    def _starts(self) -> dict[int, tuple[str, str]]:
        """Name and module of the first symbol at each address."""
        found: dict[int, tuple[str, str]] = {}
        often: dict[tuple[str, str], int] = {}
        last = 0
        for address, _, name, module in self._lines:
            key = (name, module)
            often[key] = number = often.get(key, 0) + 1
            if address != last:
                found[address] = (f"{name}#{number}" if number > 1 else name, module)
            last = address
        return found

    @cached_property
    def _addresses(self) -> list[int]:
        return list(self._starts)

    def named(self, name: str) -> list[KernelSymbol]:
        """All symbols called ``name``."""
        return _symbols(self._named.get(name, ()))

    def matching(self, pattern: str) -> list[KernelSymbol]:
        """Symbols whose whole name matches the regular expression."""
        wanted = re.compile(pattern)
        return _symbols(line for name, some in self._named.items() if wanted.fullmatch(name) for line in some)

    def of_module(self, module: str) -> list[KernelSymbol]:
        """Symbols of a loaded module."""
        return _symbols(line for line in self._lines if line[3] == module)

    def names_at(self, address: int) -> list[str]:
        """All names of the function at ``address``."""
        return self._at.get(address, [])

    @cached_property
    def _at(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for address, _, name, _ in self._lines:
            found.setdefault(address, []).append(name)
        return found

    def frame(self, address: int) -> str:
        """``bch2_write+0x45 [bcachefs]`` for an address that a call returns to; the number if no symbol is below it.

        The call is before that address, at the end of a function perhaps.
        """
        index = bisect_right(self._addresses, address - 1)
        if not index:
            return hex(address)
        start = self._addresses[index - 1]
        name, module = self._starts[start]
        return f"{name}+{address - start:#x}" + (f" [{module}]" if module else "")


def _symbols(lines: Iterable[Line]) -> list[KernelSymbol]:
    return [KernelSymbol(name, address, kind, module) for address, kind, name, module in lines]
