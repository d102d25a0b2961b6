"""Functions that can be failed, and the values that they may return."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_ERRNO = 4095
"""include/linux/err.h, v5.18 to v6.16"""

NUMBERS = (-(1 << 63), (1 << 64) - 1)
"""Least and greatest number of 64 bits, signed or not."""


class ErrorType(enum.Enum):
    """Error type of a function: what a failed call returns.

    The first four are the kernel's (include/asm-generic/error-injection.h), the others those of functions that
    are not marked ALLOW_ERROR_INJECTION, by their prototype.
    """

    NULL = "NULL"
    ERRNO = "ERRNO"
    ERRNO_NULL = "ERRNO_NULL"
    TRUE = "TRUE"
    BOOL = "BOOL"
    """Either word may be the failure."""
    NUMBER = "NUMBER"
    """An unsigned number or an enum: which value is a failure only its callers know."""


KERNEL_TYPES = {one.name: one for one in (ErrorType.NULL, ErrorType.ERRNO, ErrorType.ERRNO_NULL, ErrorType.TRUE)}
"""The types of the kernel's list."""


LEGAL_WORDS = {
    ErrorType.ERRNO: "a negative errno such as -ENOMEM",
    ErrorType.ERRNO_NULL: "a negative errno such as -ENOMEM, or NULL",
    ErrorType.NULL: "NULL",
    ErrorType.TRUE: "true",
    ErrorType.BOOL: "true or false",
    ErrorType.NUMBER: "a number, or a name such as VM_FAULT_OOM or BLK_STS_IOERR",
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
    if error_type is ErrorType.NUMBER:
        return NUMBERS[0] <= value <= NUMBERS[1]
    return value == 1 or (error_type is ErrorType.BOOL and value == 0)


def possible(value: int) -> bool:
    """True if a function of some error type of the kernel's may return ``value``."""
    return any(legal(value, error_type) for error_type in KERNEL_TYPES.values())


@dataclass(frozen=True)
class FaultPoint:
    """A function that can be failed.

    ``address`` is 0 if the kernel hides addresses. ``names`` are all symbols
    at that address, ``function`` among them. ``module`` is "" for vmlinux.
    ``marked`` is true if the function is in the kernel's error-injection list
    (ALLOW_ERROR_INJECTION); else its type is that of its prototype.
    """

    function: str
    error_type: ErrorType
    module: str = ""
    address: int = 0
    names: tuple[str, ...] = ()
    marked: bool = True
