"""The table of all functions that can be failed in this kernel, and why the others cannot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Optional

from inject.kernel.callers import Callers
from inject.kernel.calls import Checks
from inject.kernel.functions import Functions, NoErrorType, error_type, is_part, narrowed, promise
from inject.kernel.kernel import Kernel
from inject.kernel.symbols import KernelSymbol
from inject.kernel.types import Types, plain_name
from inject.model.glob import to_regex
from inject.model.point import FaultPoint
from inject.model.unsafe import Unsafe


@dataclass(frozen=True)
class Failable:
    """One function that can be failed. ``checks`` is None if nothing is known of its callers."""

    point: FaultPoint
    prototype: str
    pointer: bool
    """Whether it returns one."""
    ftrace: bool
    """Whether it begins with ftrace's call; else only a probe of inject's module reaches it."""
    unsafe: Optional[Unsafe]
    checks: Optional[Checks]


@dataclass(frozen=True)
class Catalogue:
    """The functions that match a pattern: those that can be failed, and how many cannot, by reason."""

    entries: tuple[Failable, ...]
    left_out: Mapping[str, int]
    callers_unknown: str = ""


SHARED = "share their name"
BLACKLISTED = "are on the kprobe blacklist"
FREED = "are of the kernel's start (__init)"
INLINED = "are inlined everywhere"


def catalogue(kernel: Kernel, types: Types, pattern: str = "*") -> Catalogue:
    """The functions that match the glob ``pattern``, marked ones first; raises CannotRun if a list cannot be read."""
    callers = Callers(kernel, types)
    wanted = re.compile(to_regex(pattern))
    points, left_out = _points(kernel, types, callers, wanted)
    addresses = {point.address for point in points}
    checks = callers.kept_table(addresses) if pattern == "*" else callers.table(addresses)
    traceable = kernel.ftrace.traceable
    entries = []
    for point in points:
        known = types.prototypes(point.module)
        own = None if callers.unknown else checks.get(point.address, Checks())
        if own is not None and not point.marked and narrowed(point.error_type, own) is not point.error_type:
            point = replace(point, error_type=narrowed(point.error_type, own))
        name = plain_name(point.function)
        result = known.result(name) if known is not None else None
        entries.append(
            Failable(
                point,
                known.text(name) if known is not None else "",
                result is not None and result.kind == "pointer",
                not traceable or point.function in traceable,
                None if point.marked else promise(point.function, result),
                own,
            )
        )
    entries.sort(key=lambda one: (not one.point.marked, one.point.module, one.point.function))
    return Catalogue(tuple(entries), left_out, callers.unknown)


def _points(
    kernel: Kernel, types: Types, callers: Callers, wanted: re.Pattern[str]
) -> tuple[list[FaultPoint], Counter[str]]:
    """The functions that can be failed, and how many of the others there are."""
    marked = {(point.module, point.function): point for point in Functions(kernel, types).marked()}
    symbols = [symbol for some in callers.functions.values() for symbol in some]
    often = Counter(symbol.name for symbol in symbols)
    at = {symbol.address: marked[key] for symbol in symbols for key in [(symbol.module, symbol.name)] if key in marked}
    points, left_out = [], Counter[str]()
    for symbol in symbols:
        if not wanted.fullmatch(symbol.name) or is_part(symbol.name):
            continue
        listed = at.get(symbol.address)  # by any of its names
        if listed is not None and often[symbol.name] == 1:
            points.append(replace(listed, function=symbol.name, address=symbol.address, names=(symbol.name,)))
            continue
        reason = _reason(kernel, symbol, often)
        if not reason:
            try:
                known = types.prototypes(symbol.module)
                kind = error_type(known.result(plain_name(symbol.name)) if known is not None else None)
                points.append(FaultPoint(symbol.name, kind, symbol.module, symbol.address, (symbol.name,), False))
            except NoErrorType as error:
                reason = error.reason
        if reason:
            left_out[reason] += 1
    left_out[INLINED] = sum(1 for _ in _inlined(types, callers, often, wanted))
    return points, +left_out


def _reason(kernel: Kernel, symbol: KernelSymbol, often: Mapping[str, int]) -> str:
    if often[symbol.name] > 1:
        return SHARED
    if kernel.symbols.is_freed(symbol.address):
        return FREED
    return BLACKLISTED if symbol.name in kernel.ftrace.blacklist else ""


def _inlined(types: Types, callers: Callers, often: Mapping[str, int], wanted: re.Pattern[str]) -> Iterator[str]:
    """Functions that BTF describes and that have no symbol, not even a clone's."""
    plain = {plain_name(name) for name in often}
    for module in callers.functions:
        known = types.prototypes(module)
        for name in known.names() if known is not None else ():
            if name not in plain and wanted.fullmatch(name):
                yield name
