"""What the recordings on one kernel share: its symbols, read once."""

from __future__ import annotations

from functools import cached_property

from inject.kernel.kernel import Kernel
from inject.kernel.text_symbols import TextSymbols
from inject.kernel.types import Types
from inject.record.families import Families


class Survey:
    """Symbols and families of one kernel, read when first asked for: the modules must be loaded by then."""

    def __init__(self, kernel: Kernel, types: Types) -> None:
        self._kernel = kernel
        self._types = types

    @cached_property
    def symbols(self) -> TextSymbols:
        """All text symbols."""
        return TextSymbols(self._kernel.symbols.text())

    @cached_property
    def families(self) -> Families:
        """The families of its functions."""
        return Families(self._kernel, self._types, self.symbols)
