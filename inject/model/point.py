"""Error-injectable functions, and the values that they may return."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_ERRNO = 4095
"""include/linux/err.h, v5.18 to v6.16"""


class ErrorType(enum.Enum):
    """Error type of an error-injectable function (include/asm-generic/error-injection.h)."""

    NULL = "NULL"
    ERRNO = "ERRNO"
    ERRNO_NULL = "ERRNO_NULL"
    TRUE = "TRUE"


LEGAL_WORDS = {
    ErrorType.ERRNO: "a negative errno such as -ENOMEM",
    ErrorType.ERRNO_NULL: "a negative errno such as -ENOMEM, or NULL",
    ErrorType.NULL: "NULL",
    ErrorType.TRUE: "true",
}
"""The legal values of each type in words."""


def legal(value: int, error_type: ErrorType) -> bool:
    """True if a function of ``error_type`` may return ``value`` (kernel/fail_function.c, adjust_error_retval())."""
    is_errno = -MAX_ERRNO <= value < 0
    if error_type is ErrorType.ERRNO:
        return is_errno
    if error_type is ErrorType.ERRNO_NULL:
        return is_errno or value == 0
    if error_type is ErrorType.NULL:
        return value == 0
    return value == 1


def possible(value: int) -> bool:
    """True if a function of some error type may return ``value``."""
    return any(legal(value, error_type) for error_type in ErrorType)


@dataclass(frozen=True)
class FaultPoint:
    """A function in the kernel's error-injection list.

    ``address`` is 0 if the kernel hides addresses. ``names`` are all symbols
    at that address, ``function`` among them. ``module`` is "" for vmlinux.
    """

    function: str
    error_type: ErrorType
    module: str = ""
    address: int = 0
    names: tuple[str, ...] = ()
