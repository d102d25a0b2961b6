"""Points that a workload reaches: a function and the whole stack trace of its calls."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A function, and from where it was called.

    ``stack`` are its callers, innermost first, ``symbol+0xoff`` and ``[module]``: the same in every boot of one
    kernel. Two points are the same if function, module and all of ``stack`` are.
    """

    function: str
    module: str
    """"" for vmlinux."""
    stack: tuple[str, ...]
    hits: int = 0
    """Calls with this stack trace."""
    first: int = 0
    """Which call of the function was the first of them, from 1."""
    error_type: str = ""
    """What a failed call returns (point.ErrorType); "" if that is not known."""

    @property
    def where(self) -> tuple[str, str, tuple[str, ...]]:
        """What makes it this point."""
        return self.function, self.module, self.stack

    @property
    def id(self) -> str:
        """A name of 16 digits, a digest of the frames: the same on every machine with this kernel."""
        frames = (named(self.function, self.module), *self.stack)
        return hashlib.sha256("\n".join(frames).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Skipped:
    """A function that was asked for and not recorded, and why: what follows its name in a sentence."""

    function: str
    module: str
    why: str


def named(function: str, module: str) -> str:
    """``bch2_write [bcachefs]``; the kernel prints its symbols like this (%pS, lib/vsprintf.c, v6.12)."""
    return f"{function} [{module}]" if module else function
