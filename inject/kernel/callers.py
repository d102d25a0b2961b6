"""Callers of functions in the running kernel: its text, as /proc/kcore shows it, and what follows each call."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from inject.errors import InjectError
from inject.kernel.calls import CallSite, Checks, MachineCode, sites, summary
from inject.kernel.kernel import Kernel
from inject.kernel.symbols import KernelSymbol
from inject.kernel.types import Types, plain_name
from inject.store import cache_root, write_file

LARGEST = 128 << 20
"""Bytes of one kernel's or module's text that are read at most; a distribution's vmlinux has about 25 MB."""
BEHIND = 4096
"""Bytes after the start of a module's last function: kallsyms does not say where it ends."""
_TABLE = 16 << 20
"""Bytes of a kept table that are read at most."""


class ReturnsNothing(Container[int]):
    """The functions, by address, that return nothing; each is looked up when a call in it is found."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._known: dict[int, bool] = {}

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, int):
            return False
        if address not in self._known:
            self._known[address] = self._callers.is_void(address)
        return self._known[address]


class Callers:
    """The calls in the text of vmlinux and of the loaded modules."""

    def __init__(self, kernel: Kernel, types: Types) -> None:
        self._kernel = kernel
        self._types = types
        self._codes: dict[str, MachineCode] = {}

    @cached_property
    def unknown(self) -> str:
        """Why nothing is known about callers, as the end of a sentence; "" if it is."""
        if self._kernel.symbols.hidden:
            return "the kernel hides the addresses of functions"
        if self._kernel.config.options and not self._kernel.config.has("CONFIG_X86_64"):
            return "inject reads machine code of x86-64 only"
        if not self._text("").text:
            return "the kernel's text cannot be read from /proc/kcore"
        return ""

    @cached_property
    def functions(self) -> Mapping[str, tuple[KernelSymbol, ...]]:
        """MachineCode symbols of vmlinux ("") and of each loaded module, by address."""
        found: dict[str, list[KernelSymbol]] = {"": [], **{name: [] for name in self._kernel.modules.loaded()}}
        for symbol in self._kernel.symbols.matching(r"[^\t\n]+"):
            if symbol.module in found:
                found[symbol.module].append(symbol)
        return {module: tuple(sorted(some, key=lambda one: one.address)) for module, some in found.items()}

    @cached_property
    def void(self) -> ReturnsNothing:
        """Functions that return nothing, and the parts that the compiler split off them."""
        return ReturnsNothing(self)

    def is_void(self, address: int) -> bool:
        """True if the function at ``address`` returns nothing, by any of its names."""
        for name, module in self._at.get(address, ()):
            known = self._types.prototypes(module)
            result = known.result(plain_name(name)) if known is not None else None
            if result is not None:
                return result.kind == "void"
        return False

    @cached_property
    def _at(self) -> Mapping[int, Sequence[tuple[str, str]]]:
        """Names and modules of functions by address."""
        found: dict[int, list[tuple[str, str]]] = {}
        for module, symbols in self.functions.items():
            for symbol in symbols:
                found.setdefault(symbol.address, []).append((symbol.name, module))
        return found

    def name(self, address: int) -> str:
        """A name of the function at ``address``: the one that BTF knows, if it knows one; "" if there is none."""
        names = self._at.get(address, ())
        for name, module in names:
            known = self._types.prototypes(module)
            if known is not None and name in known:
                return name
        return names[0][0] if names else ""

    def of(self, address: int) -> tuple[CallSite, ...]:
        """The calls of the function at ``address``, by address; () if there are none, or ``unknown``."""
        if self.unknown or not address:
            return ()
        return tuple(site for code in self._all() for _, site in sites(code, (address,), self.void))

    def tests(self, address: int, module: str) -> Checks:
        """What callers in the same object do: quick, for it reads neither all symbols nor BTF."""
        if self.unknown or not address:
            return Checks()
        code = self._text(module)
        return summary([code], (address,), ()).get(address, Checks())

    def table(self, targets: Collection[int]) -> Mapping[int, Checks]:
        """What the callers of each of the ``targets`` do, by the kept table if there is one; {} if ``unknown``."""
        if self.unknown:
            return {}
        if not any(map(self._is_built_in, targets)):  # vmlinux is linked without the modules
            return summary(list(self._of_modules()), targets, self.void)
        if self._kept(self._text("").base):
            return self.kept_table(targets)
        return summary(list(self._all()), targets, self.void)

    def _is_built_in(self, address: int) -> bool:
        code = self._text("")
        return code.base <= address < code.base + len(code.text)

    def kept_table(self, targets: Collection[int]) -> Mapping[int, Checks]:
        """The same for all functions: calls in vmlinux are read once for each kernel and kept."""
        if self.unknown:
            return {}
        base, codes = self._text("").base, list(self._all())
        found = dict(self._kept(base))
        if not found:
            found = dict(summary(codes[:1], targets, self.void))
            self._keep({target - base: checks for target, checks in found.items()})
        for target, checks in summary(codes[1:], targets, self.void).items():
            found[target] = found.get(target, Checks()) + checks
        return found

    @property
    def _file(self) -> Path:
        return cache_root() / "callers" / f"{self._kernel.build_id}.json"

    def _kept(self, base: int) -> Mapping[int, Checks]:
        if not self._kernel.build_id:
            return {}
        with contextlib.suppress(OSError, ValueError, TypeError, InjectError):
            with self._file.open("rb") as file:
                table = json.loads(file.read(_TABLE))
            return {base + int(offset): Checks(*map(int, numbers)) for offset, numbers in table.items()}
        return {}

    def _keep(self, table: Mapping[int, Checks]) -> None:
        if self._kernel.build_id:
            rows = {str(offset): checks.numbers for offset, checks in table.items()}
            with contextlib.suppress(OSError, InjectError):  # the next command reads the text again
                write_file(self._file, json.dumps(rows, separators=(",", ":")), parents=True)

    def _all(self) -> Iterable[MachineCode]:
        yield self._with_starts("")
        yield from self._of_modules()

    def _of_modules(self) -> Iterable[MachineCode]:
        for module, symbols in self.functions.items():
            if module and symbols:
                yield self._with_starts(module)

    def _with_starts(self, module: str) -> MachineCode:
        code = self._text(module)
        if not code.starts:
            starts = sorted({symbol.address for symbol in self.functions.get(module, ())})
            self._codes[module] = code = MachineCode(code.base, code.text, starts)
        return code

    def _text(self, module: str) -> MachineCode:
        if module not in self._codes:
            start, end = self._range(module)
            size = min(end - start, LARGEST)
            self._codes[module] = MachineCode(
                start, self._kernel.memory.read(start, size) if start and size > 0 else b"", ()
            )
        return self._codes[module]

    def _range(self, module: str) -> tuple[int, int]:
        """Where the text of vmlinux or of a module is; (0, 0) if that is not known."""
        symbols = self._kernel.symbols
        if not module:
            start, end = symbols.addresses("_stext"), symbols.addresses("_etext")
            return (start[0], end[0]) if start and end else (0, 0)
        text = [symbol.address for symbol in symbols.of_module(module)]
        return (min(text), max(text) + BEHIND) if text else (0, 0)
