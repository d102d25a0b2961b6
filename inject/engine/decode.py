"""Events and trails in words: names of functions, values as the scenario writes them, stack traces."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Optional, Protocol

from inject.engine.abi import EVENT_HEAD
from inject.engine.bcc import Bcc
from inject.engine.loader import RETURN_PROBES
from inject.engine.return_trace import Trail, shortened
from inject.engine.rule import Plan
from inject.kernel.symbols import Kallsyms
from inject.model.event import Injection, Overridden
from inject.model.scenario import Probe

MOST_SYMBOLS = 65536
"""Addresses whose names are remembered; the same few stack traces recur."""


OWN_FRAMES = {Probe.FMOD_RET: 4, Probe.MODULE: 16}
"""Frames at most among which the failed function is, by the way that it was failed."""


class Names(Protocol):
    """Names for a kernel's addresses."""

    def name(self, address: int) -> str:
        """``vfs_write+0x45``, or the number."""
        ...


class SymbolNames:
    """The running kernel's names for addresses."""

    def __init__(self, bcc: Bcc, symbols: Kallsyms) -> None:
        self._bcc = bcc
        self._symbols = symbols
        self._known: dict[int, str] = {}

    def name(self, address: int) -> str:
        """``vfs_write+0x45``; the number if the kernel hides the addresses of its functions."""
        known = self._known.get(address)
        if known is None:
            known = hex(address) if self._symbols.hidden else self._bcc.symbol(address)
            if len(self._known) < MOST_SYMBOLS:
                self._known[address] = known
        return known


def overridden(plan: Plan, used: Sequence[Probe]) -> tuple[Overridden, ...]:
    """What has to be known of ``plan`` to read its events; ``used`` is the kind of probe of each rule."""
    return tuple(
        Overridden(rule.point.function, rule.point.names, rule.values, rule.returned, probe)
        for rule, probe in zip(plan.rules, used)
    )


class Decoder:
    """Reads events and trails of one plan, whose faults override ``functions``."""

    def __init__(self, symbols: Names, functions: tuple[Overridden, ...]) -> None:
        self._symbols = symbols
        self.functions = functions

    def injection(self, raw: bytes, at: int) -> Injection:
        """The event that begins ``at`` bytes into ``raw``."""
        time_ns, ordinal, value, slot, pid, tid, used, comm, caller = EVENT_HEAD.unpack_from(raw, at)
        frames = struct.unpack_from(f"<{max(used, 0) // 8}Q", raw, at + EVENT_HEAD.size)
        return Injection(
            fault=slot,
            function=self.functions[slot].function,
            returned=self.written(slot, value),
            value=value - (1 << 64) if value >> 63 else value,
            ordinal=ordinal,
            pid=pid,
            tid=tid,
            comm=comm.split(b"\0")[0].decode(errors="replace"),
            time_ns=time_ns,
            stack=tuple(self._symbols.name(address) for address, _ in self._path(slot, frames, caller)),
        )

    def path(self, trail: Trail) -> list[tuple[str, Optional[int]]]:
        """Stack trace as (``symbol+0xoff``, the 64 bits returned to it, if recorded), the failed function first."""
        path = self._path(trail.fault, trail.frames, trail.caller)
        return [(self._symbols.name(address), trail.values.get(index)) for address, index in path]

    def written(self, fault: int, value: int) -> str:
        """Name in the scenario of ``value``, the 64 bits that fault number ``fault`` returned."""
        function = self.functions[fault]
        return function.returned[function.values.index(value)]

    def _path(self, slot: int, frames: Sequence[int], caller: int) -> list[tuple[int, int]]:
        """The path from the function itself outwards, without a trampoline's own frames.

        ``caller`` is the address that the function returns to; an unwinder may miss it at the function's entry.
        """
        path = shortened(frames, self._own(slot, frames), caller)
        return [one for one in path if not self._symbols.name(one[0]).startswith(RETURN_PROBES)]

    def _own(self, slot: int, frames: Sequence[int]) -> int:
        """Index of the failed function in ``frames``: a trampoline and the module have frames before it."""
        function = self.functions[slot]
        own = OWN_FRAMES.get(function.probe, 0)
        inside = (
            i for i, frame in enumerate(frames[:own]) if self._symbols.name(frame).partition("+")[0] in function.names
        )
        return next(inside, 0)
