"""Where an error went: what the frames of a call path returned, and what became of the error. Pure.

A frame is judged by its return value alone, read by the type that BTF gives its
function. An error that travels in memory (a field of the inode, a bio's status) is
not seen until somebody returns it.
"""

from __future__ import annotations

import enum
import errno as errno_names
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from inject.engine.planner import Types
from inject.errors import CannotRun
from inject.kernel.btf import Result
from inject.kernel.kernel import Kernel
from inject.model.errnos import ERRNOS, KERNEL_ERRNOS
from inject.model.errorpath import ErrorPath, Fate, Frame
from inject.model.point import FaultPoint

MAX_ERRNO = 4095
"""include/linux/err.h"""
PRIVATE = 2048
"""BCH_ERR_START, fs/bcachefs/errcode.h: the filesystem's own codes, known by their parents to others."""
NOT_SEEN = "?"
VOID = "void"

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
"""BLK_STS_* and the errno it stands for (include/linux/blk_types.h; block/blk-core.c, blk_errors)."""

FAULTS = {0x1: ("OOM", "ENOMEM"), 0x2: ("SIGBUS", "EFAULT"), 0x10: ("HWPOISON", "EFAULT")} | {
    0x20: ("HWPOISON_LARGE", "EFAULT"),
    0x40: ("SIGSEGV", "EFAULT"),
}
"""VM_FAULT_* that are errors, and their errno (include/linux/mm.h, vm_fault_to_errno)."""

INTERRUPTS = re.compile(r"asm_(sysvec_\w+|common_interrupt|exc_nmi)|common_interrupt_return")
WRAPPER = re.compile(r"__(?:x64|ia32|arm64|do|se)_(?:compat_)?sys_(\w+)")
SYSTEM_CALL = re.compile(
    rf"{WRAPPER.pattern}|do_syscall_64|entry_SYSCALL_\w+|x64_sys_call|do_int80_\w+|do_fast_syscall_32|el0_svc\w*"
)
"""The call itself, whose value is its result, and what leads to it."""
ON_THE_WAY_OUT = re.compile(r"syscall_exit_to_user_mode\w*|exit_to_user_mode\w*|task_work_run|do_exit|do_group_exit")
"""Below these no system call is given the result: deferred work of a call that is over, or a task's end."""


class Carries(enum.Enum):
    """What a return value says of the error."""

    ERROR = "error"
    SUCCESS = "success"
    NOTHING = "nothing"
    """void: it cannot say."""
    UNKNOWN = "unknown"
    """Not seen, or a value such as false or NULL that each function means in its own way."""


@dataclass(frozen=True)
class Reading:
    """A return value as text, and the errno it stands for ("" for none, or none that is known)."""

    text: str
    carries: Carries
    errno: str = ""


UNSEEN = Reading(NOT_SEEN, Carries.UNKNOWN)


@dataclass(frozen=True)
class ErrorNames:
    """Names of error codes: errno's, and a filesystem's own with the code that each belongs to."""

    private: Mapping[int, str] = field(default_factory=dict)
    parents: Mapping[int, int] = field(default_factory=dict)

    def reading(self, code: int) -> Reading:
        """What ``-code`` is."""
        return Reading(f"-{self._name(code)}", Carries.ERROR, self._class(code))

    def _name(self, code: int) -> str:
        return self.private.get(code) or _errno(code) or str(code)

    def _class(self, code: int) -> str:
        for _ in range(len(self.parents) + 1):
            parent = self.parents.get(code, 0)
            if code < PRIVATE or not parent:
                break
            code = parent
        if code < PRIVATE:
            return _errno(code)
        word = self.private.get(code, "").replace("BCH_ERR_", "", 1).partition("_")[0].upper()
        return word if word in ERRNOS else ""


def _errno(code: int) -> str:
    kernel = {number: name for name, number in KERNEL_ERRNOS.items()}
    return errno_names.errorcode.get(code) or kernel.get(code, "")


def error_names(kernel: Kernel, types: Types, module: str = "") -> ErrorNames:
    """As this kernel has them: the filesystem's own from BTF, their parents from its memory."""
    try:
        codes = types.of(module).enum("bch_errcode")
    except CannotRun:
        return ErrorNames()
    private = {code: name for name, code in codes.items() if PRIVATE < code < codes.get("BCH_ERR_MAX", MAX_ERRNO)}
    if not private:
        return ErrorNames()
    tables = kernel.addresses("bch2_errcode_parents")
    count = max(private) - PRIVATE + 1
    raw = kernel.memory(tables[0], 4 * count) if len(tables) == 1 else b""
    parents = struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
    return ErrorNames(private, {PRIVATE + index: parent for index, parent in enumerate(parents)})


# ---------------------------------------------------------------- one value


def read(result: Optional[Result], raw: Optional[int], names: ErrorNames) -> Reading:
    """The 64 bits that a function of return type ``result`` left; None for what is not known."""
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
    errors = [(name, errno) for bit, (name, errno) in FAULTS.items() if value & bit]
    if errors:
        return Reading("|".join(f"VM_FAULT_{name}" for name, _ in errors), Carries.ERROR, errors[0][1])
    return Reading(f"vm_fault {value:#x}" if value else "0", Carries.SUCCESS)


def _block_status(value: int) -> Reading:
    if not value:
        return Reading("BLK_STS_OK", Carries.SUCCESS)
    name, errno = BLOCK_STATUS.get(value, (str(value), "EIO"))
    return Reading(f"BLK_STS_{name}", Carries.ERROR, errno)


def injected(value: int, written: str, names: ErrorNames) -> Reading:
    """What the failed function was made to return."""
    if -MAX_ERRNO <= value < 0:
        return replace(names.reading(-value), text=written)
    return Reading(written, Carries.ERROR)


# ---------------------------------------------------------------- the whole path


class Above(enum.Enum):
    """What a call path ends in."""

    SYSTEM_CALL = "system call"
    NOBODY = "nobody"
    """A kernel thread, an interrupt, a page fault, work after a system call: nobody is given a result."""


def surroundings(functions: Sequence[str]) -> tuple[int, Above]:
    """How many of ``functions``, innermost first, belong to the path, and what is above them."""
    for index, name in enumerate(functions):
        if INTERRUPTS.fullmatch(name):
            return index, Above.NOBODY  # what lies further up was only interrupted
        if ON_THE_WAY_OUT.fullmatch(name):
            return index + 1, Above.NOBODY
        if SYSTEM_CALL.fullmatch(name):
            return index, Above.SYSTEM_CALL
    return len(functions), Above.NOBODY


@dataclass(frozen=True)
class Climb:
    """One injection's way up as it was seen: the functions above the failed one with what each returned."""

    fault: int
    function: str
    injected: Reading
    frames: tuple[tuple[str, Reading], ...]
    above: Above
    call: str = ""
    """The system call that the path leads to; "" where there is none."""
    result: Optional[int] = None
    """What it returned; None where it did not while armed."""


def follow(climb: Climb) -> ErrorPath:
    """What became of the error."""
    fate, errno, where = _fate(climb)
    return ErrorPath(
        fault=climb.fault,
        function=climb.function,
        returned=climb.injected.text,
        fate=fate,
        errno=errno,
        where=where,
        call=climb.call,
        result=climb.result,
        frames=tuple(Frame(name, reading.text) for name, reading in climb.frames),
    )


class Reader:
    """Reads what the kernel saw of one injection by the types that BTF gives."""

    def __init__(self, kernel: Kernel, types: Types) -> None:
        self._kernel = kernel
        self._types = types
        self._names: dict[str, ErrorNames] = {}

    def error_path(
        self, point: FaultPoint, fault: int, written: str, value: int, path: Sequence[tuple[str, Optional[int]]],
        call: str, result: Optional[int],
    ) -> ErrorPath:  # fmt: skip
        """Where the error ``written`` (``value``, 64 bits) of fault number ``fault`` at ``point`` went.

        ``path`` are ``symbol+0xoff`` with what came back there, ``point``'s own
        function first; ``call`` the system call that ended with ``result``, "" and None if none.
        """
        names = self._error_names(point.module)
        functions = [symbol.partition("+")[0] for symbol, _ in path[1:]]
        kept, above = surroundings(functions)
        came_back = [value for _, value in path[2:]] + [None]
        frames = tuple(
            (name, read(self._result(name, point.module), raw, names)) for name, raw in zip(functions[:kept], came_back)
        )
        error = injected(value - (1 << 64) if value >> 63 else value, written, names)
        if above is Above.NOBODY:
            call, result = "", None
        elif not call:
            call = next((found[1] for found in map(WRAPPER.fullmatch, [point.function, *functions]) if found), "?")
        return follow(Climb(fault, point.function, error, frames, above, call, result))

    def _result(self, function: str, module: str) -> Optional[Result]:
        return self._types.result(function) or (self._types.result(function, module) if module else None)

    def _error_names(self, module: str) -> ErrorNames:
        if module not in self._names:
            self._names[module] = error_names(self._kernel, self._types, module)
        return self._names[module]


def _fate(climb: Climb) -> tuple[Fate, str, str]:
    """Fate, the errno that user space saw, and the function where the error was lost."""
    carried = [index for index, (_, reading) in enumerate(climb.frames) if reading.carries is Carries.ERROR]
    last = carried[-1] if carried else -1
    if climb.above is Above.NOBODY:
        ended = _first(climb.frames[last + 1 :], (Carries.SUCCESS,))
        if ended:
            return Fate.SWALLOWED, "", ended
        return Fate.UNSEEN, "", climb.frames[last][0] if carried else climb.function
    if climb.result is None:
        return Fate.BLOCKED, "", ""
    if -MAX_ERRNO <= climb.result < 0:
        seen = _errno(-climb.result) or str(-climb.result)
        known = (climb.frames[index][1].errno for index in carried)
        first = climb.injected.errno or next((errno for errno in known if errno), "")
        return (Fate.PROPAGATED if first in ("", seen) else Fate.TRANSLATED), seen, ""
    return Fate.SWALLOWED, "", _first(climb.frames[last + 1 :], (Carries.SUCCESS, Carries.NOTHING))


def _first(frames: Sequence[tuple[str, Reading]], what: Sequence[Carries]) -> str:
    return next((name for name, reading in frames if reading.carries in what), "")


def describe(path: ErrorPath) -> str:
    """The fate in one line: ``propagated: write(2) failed with ENOSPC``."""
    call = f"{path.call}(2)"
    if path.fate is Fate.PROPAGATED:
        return f"propagated: {call} failed with {path.errno}"
    if path.fate is Fate.TRANSLATED:
        return f"translated: {call} failed with {path.errno}"
    if path.fate is Fate.BLOCKED:
        return f"blocked: still in {call} when the fault was disarmed"
    if path.fate is Fate.UNSEEN:
        top = path.frames[-1].function if path.frames else path.function
        return f"unseen: last carried by {path.where}; no system call is above {top}"
    returned = next((frame.returned for frame in path.frames if frame.function == path.where), "")
    by = f" in {path.where}, which returned {returned}" if returned not in ("", VOID) else f" in {path.where} (void)"
    part = ", a part of the work" if re.fullmatch(r"[1-9]\d*", returned) and path.result not in (None, 0) else ""
    end = f"; {call} returned {path.result}" if path.call else ""
    return f"swallowed{by if path.where else ''}{part}{end}"


def grouped(paths: Sequence[ErrorPath], most: int) -> tuple[ErrorPath, ...]:
    """Each different path once, the most frequent first, with its count; ``most`` of them."""
    counts: dict[ErrorPath, int] = {}
    for path in paths:
        key = replace(path, count=1)
        counts[key] = counts.get(key, 0) + path.count
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return tuple(replace(path, count=count) for path, count in ordered[:most])


def lines(path: ErrorPath) -> list[str]:
    """The path for a reader: the failed function first, the system call last."""
    rows = [(path.function, f"{path.returned} (injected)"), *((f.function, f.returned) for f in path.frames)]
    if path.call:
        result = NOT_SEEN if path.result is None else str(path.result)
        rows.append((f"{path.call}(2)", f"-{path.errno}" if path.errno else result))
    width = max(len(name) for name, _ in rows)
    times = f" ({path.count} times)" if path.count > 1 else ""
    return [describe(path) + times, *(f"  {name:<{width}}  {value}" for name, value in rows)]
