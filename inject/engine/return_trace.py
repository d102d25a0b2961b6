"""Errors on their way up: the kernel's records, put together to one trail per injection. Pure.

A record is a ``struct trail``, ``step`` or ``leave`` of override.bpf.c. Their sizes
differ, which distinguishes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from inject.engine.abi import LEAVE, STEP, TRAIL

MOST_TRAILS = 100_000
"""Trails of one arming at most; further ones are counted only."""


@dataclass(frozen=True)
class Trail:
    """One injection's way up.

    ``injected`` is what the failed function returned, as 64 bits. ``frames`` is the
    stack trace as the kernel walked it, innermost first; ``caller`` the address that the
    failed function returns to, which may be missing there. ``values`` says what came
    back to which address: by index into ``frames``, the 64 bits that the returning
    function left. ``call`` and ``result`` are those of the system call that ended
    afterwards; None if none did.
    """

    fault: int
    ordinal: int
    tid: int
    injected: int
    caller: int
    frames: tuple[int, ...]
    values: Mapping[int, int] = field(default_factory=dict)
    call: Optional[int] = None
    result: Optional[int] = None


class Trails:
    """The trails of one arming, in the making."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], Trail] = {}
        self._of: dict[int, list[tuple[int, int]]] = {}
        self._done: list[Trail] = []
        self._taken = 0
        self.dropped = 0

    def take(self, raw: bytes) -> None:
        """Take one record as the kernel sent it; ignore one of unknown size."""
        if len(raw) == TRAIL.size:
            self._begin(raw)
        elif len(raw) == STEP.size:
            ordinal, value, fault, where = STEP.unpack(raw)
            trail = self._open.get((fault, ordinal))
            if trail is not None:
                self._open[fault, ordinal] = replace(trail, values={**trail.values, where: value})
        elif len(raw) == LEAVE.size:
            result, tid, call = LEAVE.unpack(raw)
            for key in self._of.pop(tid, ()):
                self._done.append(replace(self._open.pop(key), call=call, result=result))

    def _begin(self, raw: bytes) -> None:
        if self._taken >= MOST_TRAILS:
            self.dropped += 1
            return
        self._taken += 1
        ordinal, injected, _, caller, fault, tid, _, used, *frames = TRAIL.unpack(raw)
        self._open[fault, ordinal] = Trail(fault, ordinal, tid, injected, caller, tuple(frames[: max(used, 0) // 8]))
        self._of.setdefault(tid, []).append((fault, ordinal))

    def done(self) -> list[Trail]:
        """Trails whose system call has ended since the last done()."""
        done, self._done = self._done, []
        return done

    def rest(self) -> list[Trail]:
        """Trails that never ended; they are forgotten, since no more records will come."""
        rest = list(self._open.values())
        self._open.clear()
        self._of.clear()
        return rest


def shortened(frames: Sequence[int], own: int, caller: int) -> list[tuple[int, int]]:
    """The path from the failed function on, as (address, its index in ``frames`` or -1).

    ``own`` is the index of the failed function itself.
    """
    path = [(address, index) for index, address in enumerate(frames) if address and index >= own]
    if path and caller and caller not in [address for address, _ in path[1:2]]:
        path.insert(1, (caller, -1))
    return path
