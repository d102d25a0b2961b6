"""The injections that a host reported before it was lost: what its verdict can still name."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from inject.model.event import Injection
from inject.model.verdict import Counts
from inject.report.progress import injection_line, path_line

LAST = 5
"""Injections that a verdict names, the latest ones."""

FRAMES = 100
"""Callers that are shown of the latest injection."""


@dataclass
class LastInjections:
    """The latest injections of one trial, and how many each fault made at least."""

    latest: deque[Injection] = field(default_factory=lambda: deque(maxlen=LAST))
    _counts: dict[int, Counts] = field(default_factory=dict)

    def take(self, injection: Injection) -> None:
        """Note the next injection."""
        self.latest.append(injection)
        before = self._counts.get(injection.fault, Counts())
        matched = max(before.matched, injection.ordinal)
        self._counts[injection.fault] = replace(before, seen=matched, matched=matched, injected=before.injected + 1)

    def counts(self, faults: int) -> tuple[Counts, ...]:
        """What each of so many faults counted at least; () if nothing was reported."""
        return tuple(self._counts.get(fault, Counts()) for fault in range(faults)) if self.latest else ()

    def sentence(self) -> str:
        """The latest injection, for a verdict's detail."""
        if not self.latest:
            return "no injection was reported before"
        total = sum(counts.injected for counts in self._counts.values())
        return f"the last of at least {total} injection{'s' * (total != 1)}: {injection_line(self.latest[-1]).strip()}"

    def lines(self) -> Sequence[str]:
        """The latest injections, oldest first, the last one with its stack; () if there are none."""
        if not self.latest:
            return ()
        *before, last = self.latest
        lines = [f"  {path_line(injection)}" for injection in before]
        return ("last injections:", *lines, injection_line(last), *(f"    {frame}" for frame in last.stack[:FRAMES]))
