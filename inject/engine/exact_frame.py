"""One frame of a stack trace: `vfs_write+0x45`, the address that a call returns to."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from inject.errors import InjectError
from inject.kernel.kernel import Kernel
from inject.kernel.symbols import KernelSymbol

_FRAME = re.compile(r"(\w[\w.]*)(?:#([0-9]+))?\+0x([0-9a-f]+)(?: \[(\w+)\])?", re.ASCII)


class ExactFrame(NamedTuple):
    """As a recorded point has it (kernel/text_symbols.py)."""

    name: str
    number: int
    """Which symbol of that name in that object, by address, from 1."""
    offset: int
    module: str

    @staticmethod
    def parse(text: str) -> Optional[ExactFrame]:
        """The frame that ``text`` writes; None if it is no frame."""
        match = _FRAME.fullmatch(text)
        return match and ExactFrame(match[1], int(match[2] or 1), int(match[3], 16), match[4] or "")

    def symbol(self, kernel: Kernel) -> KernelSymbol:
        """The function that it is in; raises InjectError if this kernel has none such."""
        named = (symbol for symbol in kernel.symbols.named(self.name) if symbol.module == self.module)
        found = sorted(named, key=lambda symbol: symbol.address)
        if not 1 <= self.number <= len(found):
            where = f"the module {self.module}" if self.module else "vmlinux"
            which = f"symbol {self.number} called {self.name}" if self.number > 1 else f"symbol {self.name}"
            raise InjectError(
                f"no {which} is in {where}",
                kernel.modules.absent(self.module)
                if self.module and self.module not in kernel.modules.loaded()
                else "an exact frame is one of the kernel in which it was recorded: record again",
            )
        return found[self.number - 1]
