"""`inject list --explain`: all that is known of one function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Optional

from inject.errors import CannotRun
from inject.kernel.btf import Prototype
from inject.kernel.callers import Callers
from inject.kernel.calls import CallSite, Checks, count
from inject.kernel.functions import Functions, narrowed, promise_of
from inject.kernel.kernel import Kernel
from inject.kernel.nofail import nofail_of
from inject.kernel.obstacles import gaps, of_function, of_kernel
from inject.kernel.types import Types, plain_name
from inject.kernel.uses import CHECKS, Use
from inject.kernel.ways import ways
from inject.model.point import LEGAL_WORDS, FaultPoint
from inject.model.scenario import Probe
from inject.model.unsafe import Unsafe

MOST_CALLERS = 40
"""Callers that are shown; the JSON form has all."""


class Explanation:
    """What this kernel says about ``function``. Raises CannotRun if it cannot be failed, or is not there."""

    def __init__(self, kernel: Kernel, function: str) -> None:
        self._kernel = kernel
        self._types = Types(kernel)
        self.point = Functions(kernel, self._types).find(function, force=True)
        self._callers = Callers(kernel, self._types)
        self.sites = self._callers.of(self.point.address)
        self.unknown = self._callers.unknown
        checks = self.checks
        if not self.point.marked and checks is not None:
            self.point = replace(self.point, error_type=narrowed(self.point.error_type, checks))

    @property
    def checks(self) -> Optional[Checks]:
        """What the callers do, in numbers; None if that is not known."""
        return None if self.unknown else count([site.use for site in self.sites])

    def text(self) -> str:
        """All of it, in lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        point, kernel = self.point, self._kernel
        yield f"{point.function}: error type {point.error_type.value}, may return {LEGAL_WORDS[point.error_type]}"
        yield f"  prototype: {self._prototype() or 'not in BTF, so its arguments cannot be tested'}"
        yield f"  module: {point.module or 'vmlinux'}"
        yield f"  route: {route(ways(kernel, point))}"
        if not point.marked:
            yield "  not marked ALLOW_ERROR_INJECTION: the type is that of its prototype and of what its callers test"
        others = [name for name in point.names if name != point.function]
        if others:
            yield f"  other names at the same address: {', '.join(others)}"
        why = promise_of(self.point, self._types)
        if why:
            yield f"  unsafe: its name has {why.word!r}, and {why.why};"
            yield "    inject refuses it without --force or `contract: ignore`"
        for one in nofail_of(point.function):
            yield f"  NOFAIL callers: {one.calls} are skipped unless the fault has"
            yield f"    `contract: ignore`, because {one.why} ({one.source})"
        yield from (f"  missed calls: {sentence}" for sentence in gaps(kernel, point))
        if kernel.symbols.inlined_into(point.function) is None:
            yield "  missed calls: this kernel does not say where functions are inlined"
        yield from self._of_callers()
        yield from (
            f"  cannot be failed in this kernel: {obstacle}"
            for obstacle in (*of_kernel(kernel), *of_function(kernel, point))
        )

    def _of_callers(self) -> Iterator[str]:
        checks = self.checks
        if checks is None:
            yield f"  callers: unknown, because {self.unknown}"
            return
        yield f"  callers: {in_words(checks, self._pointer())}"
        # Those that look at nothing come first: an error ends there.
        ordered = sorted(self.sites, key=lambda site: (site.use != Use.IGNORED, bool(site.use & CHECKS), site.address))
        for site in ordered[:MOST_CALLERS]:
            yield f"    {self._place(site)}: {', '.join(words_of(site.use, self._pointer()))}"
        if len(ordered) > MOST_CALLERS:
            yield f"    and {len(ordered) - MOST_CALLERS} more; --json has all of them"

    def _place(self, site: CallSite) -> str:
        """The call as the kernel's stack traces have places: ``ext4_map_blocks+0x5a``."""
        return f"{self._callers.name(site.caller) or 'unknown'}+{site.offset:#x}"

    def _pointer(self) -> bool:
        result = self._types.result(self.point.function, self.point.module)
        return result is not None and result.kind == "pointer"

    def _prototype(self) -> Optional[Prototype]:
        try:
            btf = self._types.of(self.point.module)
        except CannotRun:
            return None
        return btf.prototype(self.point.function) or btf.prototype(plain_name(self.point.function))

    def json(self) -> dict[str, Any]:
        """All of it as an object."""
        prototype = self._prototype()
        found = as_json(
            self.point, str(prototype) if prototype else "", self.checks, promise_of(self.point, self._types)
        )
        found["callers"] = None if self.unknown else found["callers"]
        found["sites"] = [
            {
                "caller": self._callers.name(site.caller),
                "offset": site.offset,
                "result": words_of(site.use, self._pointer()),
            }
            for site in self.sites
        ]
        found["routes"] = [way.value for way in ways(self._kernel, self.point)]
        found["obstacles"] = [str(one) for one in (*of_kernel(self._kernel), *of_function(self._kernel, self.point))]
        return found


ROUTES = {
    Probe.FMOD_RET: "fmod_ret (not in modules, and not for 0 or NULL)",
    Probe.KPROBE: "a kprobe that calls the kernel's helper bpf_override_return",
    Probe.KFUNC: "a kprobe that calls the kfunc of inject's module",
    Probe.MODULE: "a kprobe of inject's module",
}


def route(found: Sequence[Probe]) -> str:
    """The ways in which a function can be failed, the first first."""
    return ", else ".join(ROUTES[way] for way in found) or "none without inject's module: `inject module load`"


def words_of(use: int, pointer: bool) -> list[str]:
    """What one caller does, in words."""
    words = {
        Use.IS_ERR: "IS_ERR",
        Use.ZERO: "NULL" if pointer else "zero",
        Use.NEGATIVE: "negative",
        Use.COMPARED: "compared",
    }
    found = [word for flag, word in words.items() if use & flag]
    if found:
        return found
    return ["returned"] if use & Use.RETURNED else ["used"] if use & Use.USED else ["ignored"]


def in_words(checks: Checks, pointer: bool) -> str:
    """``checked by 31 of 32 (IS_ERR 31, ignored 1)``."""
    if not checks.calls:
        return "no direct call of it is in the kernel: it is called through pointers, or only inlined"
    rest = {"returned": checks.returned, "used": checks.used, "ignored": checks.ignored}
    numbers = {**tests_of(checks, pointer), **rest}
    parts = ", ".join(f"{word} {number}" for word, number in numbers.items() if number)
    return f"checked by {checks.checked} of {checks.calls} ({parts})"


def tests_of(checks: Checks, pointer: bool) -> dict[str, int]:
    """How often each test is made, by its word."""
    return {
        "IS_ERR": checks.is_err,
        "NULL" if pointer else "zero": checks.zero,
        "negative": checks.negative,
        "compared": checks.compared,
    }


def as_json(point: FaultPoint, prototype: str, checks: Optional[Checks], why: Optional[Unsafe]) -> dict[str, Any]:
    """A function as an object of `inject list --json`; ``why`` it must not be failed."""
    return {
        "type": "function",
        "function": point.function,
        "error_type": point.error_type.value,
        "module": point.module or "vmlinux",
        "marked": point.marked,
        "prototype": prototype,
        "callers": None if checks is None else {**vars(checks), "checked": checks.checked},
        "unsafe": None if why is None else {"word": why.word, "why": why.why},
    }


def cell(checks: Optional[Checks], pointer: bool) -> str:
    """How many callers check, and how most of them do, as a column of a table: ``31/32 IS_ERR``."""
    if checks is None:
        return "?"
    if not checks.calls:
        return "-"
    tests = tests_of(checks, pointer)
    most = max(tests, key=lambda word: tests[word])
    return f"{checks.checked}/{checks.calls}{f' {most}' if tests[most] else ''}"


def explanation(kernel: Kernel, function: str) -> str:
    """What this kernel says about ``function``, in lines; raises CannotRun if it cannot be failed."""
    return Explanation(kernel, function).text()
