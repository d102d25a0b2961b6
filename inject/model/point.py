"""What a kernel offers: functions that may be failed, and what they may return."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ErrorType(enum.Enum):
    """What a tagged function may be made to return (include/asm-generic/error-injection.h)."""

    NULL = "NULL"
    ERRNO = "ERRNO"
    ERRNO_NULL = "ERRNO_NULL"
    TRUE = "TRUE"


@dataclass(frozen=True)
class FaultPoint:
    """A function in the kernel's error-injection list.

    ``address`` is 0 where the kernel hides addresses. ``names`` are all symbols
    at that address, ``function`` among them. ``module`` is "" for vmlinux.
    """

    function: str
    error_type: ErrorType
    module: str = ""
    address: int = 0
    names: tuple[str, ...] = ()
