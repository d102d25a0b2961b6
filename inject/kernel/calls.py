"""Direct calls in the kernel's machine code: who calls a function, and what becomes of its result.

A call is E8 and the distance to its target, a tail call E9; five bytes whose target is the
start of a function are one of the two but for a handful in a kernel, so the code need not be
read from the start of each function. Indirect calls are not seen.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from inject.kernel.uses import CHECKS, Use, after_call
from inject.kernel.x86 import Disassembler

LENGTH = 5
CALL = 0xE8
FEW = 16
"""Targets that are looked for one by one; for more of them each possible call is looked at."""
WINDOW = 1 << 16

_ANY_CALL = re.compile(rb"[\xe8\xe9](?=.{3}[\x00-\x03\xfc-\xff])", re.DOTALL)
"""Kernel text and modules lie within 64 MB of what they call, or in a module area within 2 GB."""
_ANY_FAR_CALL = re.compile(rb"[\xe8\xe9](?=.{4})", re.DOTALL)


@dataclass(frozen=True)
class MachineCode:
    """Machine code at ``base``, and the addresses of the functions in it, sorted."""

    base: int
    text: bytes = field(repr=False)
    starts: Sequence[int] = field(repr=False)

    def around(self, address: int) -> int:
        """The start of the function that ``address`` is in; 0 if it is in none."""
        index = bisect_right(self.starts, address)
        return self.starts[index - 1] if index else 0


@dataclass(frozen=True)
class CallSite:
    """A call: its address, the start of the function that makes it, and what that does with the result."""

    address: int
    caller: int
    use: int
    """Flags of Use."""

    @property
    def offset(self) -> int:
        """Bytes from the start of the caller."""
        return self.address - self.caller


@dataclass(frozen=True)
class Checks:
    """What the callers of one function do with its result, in numbers."""

    calls: int = 0
    is_err: int = 0
    zero: int = 0
    negative: int = 0
    compared: int = 0
    returned: int = 0
    """Passed on to the caller's own caller, without a test."""
    used: int = 0
    """Used, stored or passed on otherwise, without a test."""
    ignored: int = 0

    @property
    def numbers(self) -> tuple[int, ...]:
        """All of them, in order."""
        return tuple(vars(self).values())

    def __add__(self, other: Checks) -> Checks:
        return Checks(*map(sum, zip(self.numbers, other.numbers)))

    @property
    def checked(self) -> int:
        """Calls whose result is tested there."""
        return self.calls - self.returned - self.used - self.ignored


def count(uses: Collection[int]) -> Checks:
    """``uses`` in numbers; one that tests in two ways counts in both, but once among the calls."""

    unchecked = [use for use in uses if not use & CHECKS]
    returned = sum(bool(use & Use.RETURNED) for use in unchecked)
    ignored = sum(not use for use in unchecked)
    return Checks(
        calls=len(uses),
        is_err=sum(bool(use & Use.IS_ERR) for use in uses),
        zero=sum(bool(use & Use.ZERO) for use in uses),
        negative=sum(bool(use & Use.NEGATIVE) for use in uses),
        compared=sum(bool(use & Use.COMPARED) for use in uses),
        returned=returned,
        used=len(unchecked) - returned - ignored,
        ignored=ignored,
    )


def sites(code: MachineCode, targets: Collection[int], void: Container[int]) -> Iterator[tuple[int, CallSite]]:
    """Every call in ``code`` of one of the ``targets``, with its target; ``void`` are functions that return nothing."""
    found = _few(code, targets) if len(targets) <= FEW else _many(code, targets)
    decoder = Disassembler(code.text)
    for at, target in found:
        caller = code.around(code.base + at)
        if code.text[at] == CALL:
            use = after_call(decoder, at + LENGTH, void=caller in void)
        else:
            if caller == target:  # a jump back to the function's own start
                continue
            use = Use.IGNORED if caller in void else Use.RETURNED
        yield target, CallSite(code.base + at, caller, use)


def _many(code: MachineCode, targets: Collection[int]) -> Iterator[tuple[int, int]]:
    """Offset and target of each call: a look at every byte that may be a call's first."""
    text, after = code.text, code.base + LENGTH
    wanted = targets if isinstance(targets, (set, frozenset, dict)) else frozenset(targets)
    far = any(abs(target - code.base) > WINDOW << 10 for target in wanted)
    unpack = int.from_bytes
    for match in (_ANY_FAR_CALL if far else _ANY_CALL).finditer(text):
        at = match.start()
        target = after + at + unpack(text[at + 1 : at + LENGTH], "little", signed=True)
        if target in wanted:
            yield at, target


def _few(code: MachineCode, targets: Collection[int]) -> Iterator[tuple[int, int]]:
    """The same for a few targets: in a window of 64 KB the upper half of the distance has one of two values."""
    text = code.text
    for target in targets:
        for start in range(0, len(text), WINDOW):
            end = min(start + WINDOW, len(text))
            first = target - (code.base + start + LENGTH)
            for upper in sorted({first >> 16, (first - WINDOW) >> 16}):
                if not -(1 << 15) <= upper < 1 << 15:
                    continue
                yield from _in_window(code, target, upper.to_bytes(2, "little", signed=True), start, end)


def _in_window(code: MachineCode, target: int, upper: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Calls between ``start`` and ``end`` with this upper half of the distance."""
    text = code.text
    at = text.find(upper, start + 3, end + LENGTH)
    while at >= 0:
        site = at - 3
        if site < end and text[site] in (CALL, CALL + 1):
            distance = int.from_bytes(text[site + 1 : site + LENGTH], "little", signed=True)
            if code.base + site + LENGTH + distance == target:
                yield site, target
        at = text.find(upper, at + 1, end + LENGTH)


def summary(codes: Sequence[MachineCode], targets: Collection[int], void: Container[int]) -> Mapping[int, Checks]:
    """What the callers of each of the ``targets`` do; those without a direct call are left out."""
    uses: dict[int, list[int]] = {}
    for code in codes:
        for target, site in sites(code, targets, void):
            uses.setdefault(target, []).append(site.use)
    return {target: count(found) for target, found in uses.items()}
