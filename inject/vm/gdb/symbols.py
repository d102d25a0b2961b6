"""A kernel's symbols by its System.map, for a kernel that is not moved at boot (nokaslr)."""

from __future__ import annotations

import bisect
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun

CODE = frozenset("tTwW")
"""nm's letters for functions."""

FARTHEST = 1 << 20
"""Bytes after a symbol at which an address no longer belongs to it: the kernel's largest function is far smaller."""


class Symbols:
    """Names and addresses of the functions in the kernel image; not those of modules."""

    def __init__(self, text: str) -> None:
        found: dict[int, str] = {}
        self._addresses: dict[str, int] = {}
        for line in text.splitlines():
            fields = line.split()
            if len(fields) != 3 or fields[1] not in CODE:
                continue
            address = int(fields[0], 16)
            found.setdefault(address, fields[2])
            self._addresses.setdefault(fields[2], address)
        self._sorted = sorted(found)
        self._names = found

    @staticmethod
    def beside(vmlinux: Path) -> Symbols:
        """The symbols of the build that made ``vmlinux``; raises CannotRun if they cannot be read."""
        path = vmlinux.with_name("System.map")
        try:
            return Symbols(path.read_text())
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise CannotRun(f"cannot read the kernel's symbols in {path}: {why}", "keep System.map beside it") from None

    def address(self, name: str) -> Optional[int]:
        """Address of a function; None if it is unknown."""
        return self._addresses.get(name)

    def function(self, address: int) -> Optional[tuple[str, int]]:
        """The function that holds ``address``, and its beginning."""
        index = bisect.bisect_right(self._sorted, address) - 1
        if index < 0 or address - self._sorted[index] > FARTHEST:
            return None
        start = self._sorted[index]
        return self._names[start], start

    def described(self, address: int) -> str:
        """``bch2_write_iter+0x5dd``, or the bare address if no function is known."""
        found = self.function(address)
        return f"{found[0]}+{address - found[1]:#x}" if found else f"{address:#x}"
