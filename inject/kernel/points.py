"""Error-injectable functions: the kernel's list, and why a function is not in it."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun
from inject.kernel.config import KernelConfig
from inject.kernel.files import DEBUGFS, MOUNT_DEBUGFS
from inject.kernel.modules import Modules
from inject.kernel.symbols import Kallsyms
from inject.model.point import KERNEL_TYPES, FaultPoint
from inject.model.text import either, listed, near

_LINE = re.compile(r"^(\S+)(?: \[(\S+)\])?\t(\w+)$", re.MULTILINE)


class NoList(CannotRun):
    """This kernel keeps no list of error-injectable functions: it was built without one."""


class Points:
    """The error-injectable functions of the kernel below ``root``."""

    def __init__(self, root: Path, symbols: Kallsyms, modules: Modules, config: KernelConfig) -> None:
        self._root = root
        self._symbols = symbols
        self._modules = modules
        self._config = config

    @cached_property
    def all(self) -> tuple[FaultPoint, ...]:
        """The error-injection list by name (lib/error-inject.c, ei_seq_show: name, tab, type).

        Raises CannotRun, with the fix, when the list cannot be read.
        """
        where = self._root / f"{DEBUGFS}/error_injection/list"
        try:
            text = where.read_text()
        except FileNotFoundError:
            raise self._no_list() from None
        except PermissionError:
            raise CannotRun(
                "the list of error-injectable functions is readable by root only", "run with sudo"
            ) from None
        except OSError as error:
            raise CannotRun(f"cannot read {where}: {error.strerror}", MOUNT_DEBUGFS) from None
        lines = sorted(_LINE.findall(text))  # by name and module
        return tuple(
            FaultPoint(name, KERNEL_TYPES[kind], module) for name, module, kind in lines if kind in KERNEL_TYPES
        )

    def _no_list(self) -> CannotRun:
        if self._config.options and not self._config.has("CONFIG_FUNCTION_ERROR_INJECTION"):
            return NoList(
                "this kernel was built without CONFIG_FUNCTION_ERROR_INJECTION",
                "build it with CONFIG_FUNCTION_ERROR_INJECTION=y and CONFIG_BPF_KPROBE_OVERRIDE=y, "
                "or use `inject vm run --kernel test`, whose kernel has both",
            )
        if not (self._root / DEBUGFS).is_dir() or not any(self._entries()):
            if os.geteuid() and (self._root / DEBUGFS).is_dir():
                return CannotRun("debugfs is readable by root only", "run with sudo")
            return CannotRun("debugfs is not mounted", MOUNT_DEBUGFS)
        return NoList(
            "this kernel has no list of error-injectable functions", "it needs CONFIG_FUNCTION_ERROR_INJECTION=y"
        )

    def _entries(self) -> list[str]:
        try:
            return [entry.name for entry in (self._root / DEBUGFS).iterdir()]
        except OSError:
            return []

    def find(self, function: str) -> FaultPoint:
        """The injectable function called ``function``, by any of its names.

        Raises CannotRun saying why there is none: unknown, only clones exist,
        ambiguous, not error-injectable.
        """
        named = [point for point in self.all if point.function == function]
        symbols = self._symbols.named(function)
        addresses = {symbol.address for symbol in symbols}
        distinct = self._symbols.distinct(symbols)
        if self._symbols.hidden and distinct == 1 and not named:
            raise CannotRun(
                f"{function} is not in the list of error-injectable functions, and the kernel hides the addresses that"
                " would show whether it is another name of one of them",
                self._symbols.show,
            )
        if named and distinct <= 1:
            address = addresses.pop() if addresses else 0
            return self._complete(named[0], function, address)
        if distinct > 1:
            raise CannotRun(
                f"{distinct} functions are called {function}",
                "an ambiguous name cannot be probed: tag a uniquely named function instead",
            )
        if not addresses or addresses == {0}:
            raise CannotRun(f"{function} is not in this kernel", self._suggestion(function))
        found = self._folded(function, addresses.pop())
        if found is None:
            raise CannotRun(
                f"{function} is not error-injectable",
                f"add ALLOW_ERROR_INJECTION({function}, ERRNO) after its body and rebuild the kernel, "
                "or choose one of `inject list`",
            )
        return found

    def listed(self, function: str) -> Optional[FaultPoint]:
        """The function called ``function``, by any of its names; None if it is not in the list, or not this one.

        Raises NoList if there is no list, CannotRun if it cannot be read.
        """
        named = next((point for point in self.all if point.function == function), None)
        symbols = self._symbols.named(function)
        if self._symbols.distinct(symbols) > 1:
            return None
        address = symbols[0].address if symbols else 0
        return self._complete(named, function, address) if named else self._folded(function, address)

    def _folded(self, function: str, address: int) -> Optional[FaultPoint]:
        """The point at ``address``, which has ``function`` as another name; None if there is none."""
        for name in self._symbols.names_at(address):
            for point in self.all:
                if point.function == name:
                    return self._complete(point, function, address)
        return None

    def _complete(self, point: FaultPoint, function: str, address: int) -> FaultPoint:
        names = self._symbols.names_at(address) or (function,)
        return FaultPoint(function, point.error_type, point.module, address, names)

    def _suggestion(self, function: str) -> str:
        """Sentence that says why ``function`` has no symbol, and what to do."""
        clones = self._symbols.clones(function)
        if clones:
            return (
                f"the compiler kept only the clone {clones[0]}, which callers use instead: "
                "mark the function noinline __noclone"
            )
        callers = self._symbols.inlined_into(function)
        if callers:
            return f"the compiler inlined it into {listed(callers)}: mark it noinline"
        unloaded = self._modules.unloaded_with(function)
        if unloaded:
            return unloaded
        known = [point.function for point in self.all]
        close = near(function, known)
        if close:
            return f"did you mean {either(close)}?"
        if callers is None:
            return "it may be inlined, in a module that is not loaded, or misspelt; see `inject list`"
        return "it may be in a module that is not loaded, or misspelt; see `inject list`"
