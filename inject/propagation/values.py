"""Return values, read by the types of their functions, and the errors that they stand for.

Only error_names() asks the kernel; the rest is pure.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Optional

from inject.errors import CannotRun
from inject.filesystems import TYPES
from inject.filesystems.base import ErrorCodes
from inject.kernel.btf import Result
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.errnos import ERRNOS, errno_name
from inject.model.errorpath import NOT_SEEN, VOID

MAX_ERRNO = 4095
"""include/linux/err.h"""

BLOCK_STATUS = {
    1: ("NOTSUPP", "EOPNOTSUPP"),
    2: ("TIMEOUT", "ETIMEDOUT"),
    3: ("NOSPC", "ENOSPC"),
    4: ("TRANSPORT", "ENOLINK"),
    5: ("TARGET", "EREMOTEIO"),
    6: ("RESV_CONFLICT", "EBADE"),
    7: ("MEDIUM", "ENODATA"),
    8: ("PROTECTION", "EILSEQ"),
    9: ("RESOURCE", "ENOMEM"),
    10: ("IOERR", "EIO"),
    11: ("DM_REQUEUE", "EREMCHG"),
    12: ("AGAIN", "EAGAIN"),
    13: ("DEV_RESOURCE", "EBUSY"),
    14: ("ZONE_OPEN_RESOURCE", "ETOOMANYREFS"),
    15: ("ZONE_ACTIVE_RESOURCE", "EOVERFLOW"),
    16: ("OFFLINE", "ENODEV"),
    17: ("DURATION_LIMIT", "ETIME"),
    19: ("INVAL", "EINVAL"),
}
"""BLK_STS_* and the errno of each (include/linux/blk_types.h; block/blk-core.c, blk_errors)."""

PAGE_FAULTS = {0x1: ("OOM", "ENOMEM"), 0x2: ("SIGBUS", "EFAULT"), 0x10: ("HWPOISON", "EFAULT")} | {
    0x20: ("HWPOISON_LARGE", "EFAULT"),
    0x40: ("SIGSEGV", "EFAULT"),
}
"""VM_FAULT_* that are errors, and their errno (include/linux/mm.h, vm_fault_to_errno)."""


class Carries(enum.Enum):
    """Meaning of a return value for the error."""

    ERROR = "error"
    SUCCESS = "success"
    NOTHING = "nothing"
    """The function returns void."""
    UNKNOWN = "unknown"
    """The value was not seen, or its meaning depends on the function, as for false and NULL."""


@dataclass(frozen=True)
class Reading:
    """A return value as text, and its errno; "" if it has none, or none is known."""

    text: str
    carries: Carries
    errno: str = ""


UNSEEN = Reading(NOT_SEEN, Carries.UNKNOWN)


@dataclass(frozen=True)
class ErrorNames:
    """Names of error codes: those of errno, and a filesystem's own with their parents."""

    private: Mapping[int, str] = field(default_factory=dict)
    parents: Mapping[int, int] = field(default_factory=dict)
    """The code that each belongs to, at last an errno."""
    codes: Optional[ErrorCodes] = None
    """Which codes ``private`` are; None if there are none."""

    def reading(self, code: int) -> Reading:
        """Read ``-code``."""
        return Reading(f"-{self._name(code)}", Carries.ERROR, self._class(code))

    def _name(self, code: int) -> str:
        return self.private.get(code) or errno_name(code) or str(code)

    def _class(self, code: int) -> str:
        if self.codes is None:
            return errno_name(code)
        for _ in range(len(self.parents) + 1):
            parent = self.parents.get(code, 0)
            if code < self.codes.start or not parent:
                break
            code = parent
        if code < self.codes.start:
            return errno_name(code)
        word = self.private.get(code, "").replace(self.codes.prefix, "", 1).partition("_")[0].upper()
        return errno_name(ERRNOS[word]) if word in ERRNOS else ""


def error_names(kernel: Kernel, types: Types, module: str = "") -> ErrorNames:
    """Error names of this kernel; a filesystem's own come from BTF, their parents from kernel memory."""
    for codes in (kind.errors for kind in TYPES.values() if kind.errors):
        found = _names_of(codes, kernel, types, module)
        if found.private:
            return found
    return ErrorNames()


def _names_of(codes: ErrorCodes, kernel: Kernel, types: Types, module: str) -> ErrorNames:
    try:
        values = types.of(module).enum(codes.enum)
    except CannotRun:
        return ErrorNames()
    private = {code: name for name, code in values.items() if codes.start < code < values.get(codes.end, MAX_ERRNO)}
    if not private:
        return ErrorNames()
    tables = kernel.symbols.addresses(codes.parents)
    count = max(private) - codes.start + 1
    raw = kernel.memory.read(tables[0], 4 * count) if len(tables) == 1 else b""
    parents = struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
    return ErrorNames(private, {codes.start + index: parent for index, parent in enumerate(parents)}, codes)


def read(result: Optional[Result], raw: Optional[int], names: ErrorNames) -> Reading:
    """Read the 64 bits that a function of return type ``result`` returned; None for what is not known."""
    if result is None:
        return UNSEEN if raw is None else Reading(hex(raw), Carries.UNKNOWN)
    if result.kind == "void":
        return Reading(VOID, Carries.NOTHING)
    if raw is None:
        return UNSEEN
    bits = 8 * min(max(result.size, 1), 8)
    value = raw & ((1 << bits) - 1)
    if result.name == "vm_fault_t":
        return _page_fault(value)
    if result.name == "blk_status_t":
        return _block_status(value)
    if result.kind == "bool":
        return Reading("true" if value & 0xFF else "false", Carries.UNKNOWN)
    signed = value - (1 << bits) if value >> (bits - 1) else value
    if -MAX_ERRNO <= signed < 0 and (result.kind in ("int", "pointer") or (result.kind == "unsigned" and bits == 64)):
        return names.reading(-signed)
    if result.kind == "pointer":
        return Reading("a pointer", Carries.SUCCESS) if value else Reading("NULL", Carries.UNKNOWN)
    if result.kind == "int":
        return Reading(str(signed), Carries.SUCCESS)
    return Reading(str(value), Carries.UNKNOWN)


def _page_fault(value: int) -> Reading:
    errors = [(name, errno) for bit, (name, errno) in PAGE_FAULTS.items() if value & bit]
    if errors:
        return Reading("|".join(f"VM_FAULT_{name}" for name, _ in errors), Carries.ERROR, errors[0][1])
    return Reading(f"vm_fault {value:#x}" if value else "0", Carries.SUCCESS)


def _block_status(value: int) -> Reading:
    if not value:
        return Reading("BLK_STS_OK", Carries.SUCCESS)
    name, errno = BLOCK_STATUS.get(value, (str(value), "EIO"))
    return Reading(f"BLK_STS_{name}", Carries.ERROR, errno)


def injected(value: int, written: str, names: ErrorNames) -> Reading:
    """Read the injected value."""
    if -MAX_ERRNO <= value < 0:
        return replace(names.reading(-value), text=written)
    return Reading(written, Carries.ERROR)
