"""Fate of an injected error, from the return values of the functions in its call chain. Pure.

A function is judged by its return value alone, read by the type that BTF gives it. An
error that travels in memory (a field of the inode, a bio's status) is not seen until
a function returns it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from inject.kernel.btf import Result
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.errnos import errno_name
from inject.model.errorpath import ErrorPath, Fate, Frame
from inject.model.point import FaultPoint
from inject.propagation.values import MAX_ERRNO, Carries, ErrorNames, Reading, error_names, injected, read

INTERRUPTS = re.compile(r"asm_(sysvec_\w+|common_interrupt|exc_nmi)|common_interrupt_return")
WRAPPER = re.compile(r"__(?:x64|ia32|arm64|do|se)_(?:compat_)?sys_(\w+)")
SYSTEM_CALL = re.compile(
    rf"{WRAPPER.pattern}|do_syscall_64|entry_SYSCALL_\w+|x64_sys_call|do_int80_\w+|do_fast_syscall_32|el0_svc\w*"
)
"""The system call's own function, whose return value is its result, and the kernel's entry code above it."""
ON_THE_WAY_OUT = re.compile(r"syscall_exit_to_user_mode\w*|exit_to_user_mode\w*|task_work_run|do_exit|do_group_exit")
"""What these call runs after a system call, or when a task ends: no system call returns its result."""


class Above(enum.Enum):
    """End of a call chain."""

    SYSTEM_CALL = "system call"
    NO_CALL = "no system call"
    """A kernel thread, an interrupt, a page fault, or work after a system call: user space gets no result."""


def surroundings(functions: Sequence[str]) -> tuple[int, Above]:
    """Number of ``functions``, innermost first, that belong to the path, and what is above them."""
    for index, name in enumerate(functions):
        if INTERRUPTS.fullmatch(name):
            return index, Above.NO_CALL  # the functions above were only interrupted
        if ON_THE_WAY_OUT.fullmatch(name):
            return index + 1, Above.NO_CALL
        if SYSTEM_CALL.fullmatch(name):
            return index, Above.SYSTEM_CALL
    return len(functions), Above.NO_CALL


@dataclass(frozen=True)
class Climb:
    """Stack trace of one injection: the functions above the failed one, with their return values."""

    fault: int
    function: str
    injected: Reading
    frames: tuple[tuple[str, Reading], ...]
    above: Above
    call: str = ""
    """The system call at the top of the path; "" if there is none."""
    result: Optional[int] = None
    """What the system call returned; None if it did not return while the fault was armed."""


def path_of(climb: Climb) -> ErrorPath:
    """The path with the error's fate."""
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
    """Turns what the kernel reported about one injection into an error path, by the types in BTF."""

    def __init__(self, kernel: Kernel, types: Types) -> None:
        self._kernel = kernel
        self._types = types
        self._names: dict[str, ErrorNames] = {}

    def error_path(
        self, point: FaultPoint, fault: int, written: str, value: int, path: Sequence[tuple[str, Optional[int]]],
        call: str, result: Optional[int],
    ) -> ErrorPath:  # fmt: skip
        """The path of the error ``written`` (``value``, 64 bits), injected at ``point`` by fault number ``fault``.

        ``path`` has ``symbol+0xoff`` and the value that was returned to that place, ``point``'s own
        function first; ``call`` is the system call that ended with ``result``, "" and None if none did.
        """
        names = self._error_names(point.module)
        functions = [symbol.partition("+")[0] for symbol, _ in path[1:]]
        kept, above = surroundings(functions)
        came_back = [value for _, value in path[2:]] + [None]
        frames = tuple(
            (name, read(self._result(name, point.module), raw, names)) for name, raw in zip(functions[:kept], came_back)
        )
        error = injected(value - (1 << 64) if value >> 63 else value, written, names)
        if above is Above.NO_CALL:
            call, result = "", None
        elif not call:
            call = next((found[1] for found in map(WRAPPER.fullmatch, [point.function, *functions]) if found), "?")
        return path_of(Climb(fault, point.function, error, frames, above, call, result))

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
    if climb.above is Above.NO_CALL:
        ended = _first(climb.frames[last + 1 :], (Carries.SUCCESS,))
        if ended:
            return Fate.SWALLOWED, "", ended
        return Fate.UNSEEN, "", climb.frames[last][0] if carried else climb.function
    if climb.result is None:
        return Fate.BLOCKED, "", ""
    if -MAX_ERRNO <= climb.result < 0:
        seen = errno_name(-climb.result) or str(-climb.result)
        known = (climb.frames[index][1].errno for index in carried)
        first = climb.injected.errno or next((errno for errno in known if errno), "")
        return (Fate.PROPAGATED if first in ("", seen) else Fate.TRANSLATED), seen, ""
    return Fate.SWALLOWED, "", _first(climb.frames[last + 1 :], (Carries.SUCCESS, Carries.NOTHING))


def _first(frames: Sequence[tuple[str, Reading]], what: Sequence[Carries]) -> str:
    return next((name for name, reading in frames if reading.carries in what), "")
