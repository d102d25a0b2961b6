"""Calls that must succeed although their function is error-injectable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class NoFail:
    """Some calls of ``function`` must succeed: ``why``, and where the kernel says so.

    Either calls whose ``parameter`` has ``flag`` set, an enumerator that with ``is_bit``
    names the bit's number; or calls below the function ``below``, in kernels that have it.
    """

    function: str
    why: str
    source: str
    parameter: str = ""
    flag: str = ""
    is_bit: bool = False
    below: str = ""
    macro: Optional[int] = None
    """Value of ``flag`` in kernels in which it is a macro, which BTF does not keep; None: in none."""

    @property
    def calls(self) -> str:
        """The calls, in words."""
        return f"calls below {self.below}()" if self.below else f"calls with {self.flag} in {self.parameter}"
