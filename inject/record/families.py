"""Which functions are recorded: families by name, and why some of their members are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from inject.engine.callpath import MODULE, builtin_symbols
from inject.errors import CannotRun
from inject.kernel.callers import Callers
from inject.kernel.calls import Checks
from inject.kernel.functions import Functions, NoErrorType, error_type, is_part, narrowed, promise
from inject.kernel.kernel import Kernel
from inject.kernel.symbols import KernelSymbol
from inject.kernel.text_symbols import TextSymbols
from inject.kernel.types import Types, plain_name
from inject.model.glob import is_glob, to_regex
from inject.model.point import ErrorType, FaultPoint
from inject.model.reached import Skipped
from inject.model.scenario import Scenario
from inject.model.text import listed
from inject.record.options import RecordOptions

MARKED = "error-injectable"
"""The family of the functions that are marked ALLOW_ERROR_INJECTION, without system calls."""

SYSTEM_CALLS = ("__x64_sys_", "__ia32_sys_", "__ia32_compat_sys_", "__x64_compat_sys_", "__arm64_sys_")


@dataclass(frozen=True)
class Selection:
    """The functions to record, by address, and those that are left out."""

    functions: Mapping[int, KernelSymbol] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    families: tuple[str, ...] = ()
    """What they were chosen by."""


class Families:
    """The families of one kernel. ``symbols`` are its text symbols."""

    def __init__(self, kernel: Kernel, types: Types, symbols: TextSymbols) -> None:
        self._kernel = kernel
        self._types = types
        self._symbols = symbols
        self._chosen: dict[tuple[tuple[str, ...], bool, bool], Selection] = {}

    def default(self, scenario: Scenario) -> tuple[str, ...]:
        """What ``sweep: {functions: ...}`` of a scenario says, else the marked functions, else its filesystem's.

        Raises CannotRun if none of them is there.
        """
        if scenario.sweep is not None and scenario.sweep.functions:
            return scenario.sweep.functions
        if self._marked:
            return (MARKED,)
        if scenario.filesystem is not None:
            return (f"{MODULE}{scenario.filesystem.type}",)
        raise CannotRun(
            "this kernel keeps no list of error-injectable functions, and the scenario has no filesystem",
            "choose functions: --functions 'vfs_*', --functions module:NAME",
        )

    def choose(self, families: Sequence[str], options: RecordOptions) -> Selection:
        """The members of ``families``; raises CannotRun for one that this kernel has no function of."""
        key = (tuple(families), options.checked, options.force)
        if key not in self._chosen:
            self._chosen[key] = self._choose(families, options)
        return self._chosen[key]

    def _choose(self, families: Sequence[str], options: RecordOptions) -> Selection:
        found: dict[int, KernelSymbol] = {}
        skipped: dict[tuple[str, str], Skipped] = {}
        for family in families:
            for symbol in self._members(family):
                if is_part(symbol.name) or symbol.address in found:
                    continue
                why = self._why_not(symbol, force=options.force)
                if why:
                    skipped[symbol.name, symbol.module] = Skipped(symbol.name, symbol.module, why)
                else:
                    found[symbol.address] = symbol
        if options.checked:
            for symbol in self._unchecked(found.values()):
                del found[symbol.address]
                skipped[symbol.name, symbol.module] = Skipped(symbol.name, symbol.module, UNCHECKED)
        if not found:
            reasons = Counter(one.why for one in skipped.values())
            told = listed([f"{number} {why}" for why, number in reasons.most_common()])
            raise CannotRun(f"no function of {listed(families)} can be recorded: {told or 'there is none'}")
        left = tuple(sorted(skipped.values(), key=lambda one: (one.module, one.function)))
        return Selection(found, left, tuple(families))

    def _members(self, family: str) -> Iterable[KernelSymbol]:
        """The symbols that ``family`` stands for; raises CannotRun if there is none."""
        if family == MARKED:
            return self._marked_symbols()
        if family.startswith(MODULE):
            module = family[len(MODULE) :]
            found = self._symbols.of_module(module) or builtin_symbols(self._kernel, module)
            if not found:
                raise CannotRun(
                    f"no function of a module {module} is in this kernel", self._kernel.modules.absent(module)
                )
            return found
        found = self._symbols.matching(to_regex(family)) if is_glob(family) else self._symbols.named(family)
        if not found:
            raise CannotRun(f"no function of this kernel matches {family!r}", "`inject list --all` shows them")
        return found

    def error_type(self, symbol: KernelSymbol) -> ErrorType:
        """What a failed call of a member of a family returns: for a pointer what its callers test."""
        for point in self._marked:
            if point.function in self._symbols.names_at(symbol.address):
                return point.error_type
        known = self._types.prototypes(symbol.module)
        found = error_type(known.result(plain_name(symbol.name)) if known is not None else None)
        if found is ErrorType.ERRNO_NULL:
            found = narrowed(found, self._callers.tests(symbol.address, symbol.module))
        return found

    def failure(self, symbol: KernelSymbol) -> str:
        """The same as text; "" if its callers only follow the pointer that it returns: no value would be a failure."""
        found = self.error_type(symbol)
        if found is not ErrorType.ERRNO_NULL or self._marked_names.intersection(self._symbols.names_at(symbol.address)):
            return found.value
        tests = self._callers.tests(symbol.address, symbol.module)
        return "" if tests.calls and tests.used + tests.ignored == tests.calls else found.value

    def read_ahead(self) -> None:
        """Read the kernel's text, which error_type() looks at for a function that returns a pointer."""
        _ = self._callers.unknown

    @cached_property
    def _callers(self) -> Callers:
        return Callers(self._kernel, self._types)

    @cached_property
    def _marked(self) -> tuple[FaultPoint, ...]:
        return Functions(self._kernel, self._types).marked()

    def _marked_symbols(self) -> list[KernelSymbol]:
        if not self._marked:
            raise CannotRun(
                "this kernel keeps no list of error-injectable functions",
                "choose others: --functions 'bch2_*', --functions module:NAME",
            )
        names = [point.function for point in self._marked if not point.function.startswith(SYSTEM_CALLS)]
        return [symbol for name in names for symbol in self._symbols.named(name)]

    def _why_not(self, symbol: KernelSymbol, *, force: bool) -> str:
        """Why a function cannot be failed or recorded, or must not be failed; "" if it may."""
        names = self._symbols.names_at(symbol.address)
        traceable = self._kernel.ftrace.traceable
        if len({other.address for other in self._symbols.named(symbol.name)}) > 1:
            return SHARED
        if self._kernel.symbols.is_freed(symbol.address):
            return FREED
        if self._kernel.ftrace.blacklist.intersection(names):
            return BLACKLISTED
        if traceable and not traceable.intersection(names):
            return UNTRACEABLE
        if self._marked_names.intersection(names):
            return ""
        try:
            known = self._types.prototypes(symbol.module)
            result = known.result(plain_name(symbol.name)) if known is not None else None
            error_type(result)
        except NoErrorType as error:
            return error.message
        unsafe = None if force else promise(symbol.name, result)
        return f"is unsafe to fail, its name has {unsafe.word!r}: {unsafe.why}" if unsafe else ""

    @cached_property
    def _marked_names(self) -> frozenset[str]:
        return frozenset(point.function for point in self._marked)

    def _unchecked(self, symbols: Iterable[KernelSymbol]) -> list[KernelSymbol]:
        """Those of ``symbols`` whose result no direct call tests; raises CannotRun if the calls cannot be read."""
        callers = self._callers
        if callers.unknown:
            raise CannotRun(f"who checks a result is unknown, because {callers.unknown}", "leave --checked out")
        some = list(symbols)
        table = callers.table({symbol.address for symbol in some})
        return [symbol for symbol in some if not table.get(symbol.address, Checks()).checked]


SHARED = "shares its name with another function"
FREED = "runs only while the kernel starts (__init)"
BLACKLISTED = "is on the kprobe blacklist"
UNTRACEABLE = "is built without ftrace, as `inline` functions are (include/linux/compiler_types.h)"
UNCHECKED = "has no direct call that tests its result"
"""Reasons; those of the prototype are functions.error_type()'s."""
