"""The latest injections of a host before it was lost, reported or found in its memory: what its verdict can name."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from inject.fleet.host import Remains
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
    exact: bool = False
    """True if the counts are those of the host's memory, and no count is missing."""
    unnamed: int = 0
    """Injections that are counted and nothing else is known of."""
    _counts: dict[int, Counts] = field(default_factory=dict)

    def take(self, injection: Injection) -> None:
        """Note the next injection."""
        self.latest.append(injection)
        before = self._counts.get(injection.fault, Counts())
        matched = max(before.matched, injection.ordinal)
        self._counts[injection.fault] = replace(before, seen=matched, matched=matched, injected=before.injected + 1)

    def complete(self, remains: Remains, faults: int) -> Sequence[Injection]:
        """Note what the host's memory tells of so many faults; return the injections that were not reported before."""
        if len(remains.counts) != faults:
            return ()
        told = sum(counts.injected for counts in self._counts.values())
        reported = {(one.fault, one.ordinal) for one in self.latest}
        known = [at for at, one in enumerate(remains.injections) if (one.fault, one.ordinal) in reported]
        new = remains.injections[known[-1] + 1 if known else 0 :]
        self.exact = True
        self._counts = dict(enumerate(remains.counts))
        self.unnamed = max(0, sum(counts.injected for counts in remains.counts) - told - len(new))
        self.latest.extend(new)
        return new

    def notes(self) -> tuple[str, ...]:
        """What is not known, as sentences for the verdict."""
        if not self._counts:
            return ()
        if not self.exact:
            return ("the counts are those of the reported injections: there may be more",)
        number = f"{self.unnamed} injections are" if self.unnamed > 1 else "1 injection is"
        return (f"{number} in the counts only: the host died before it reported more",) if self.unnamed else ()

    def counts(self, faults: int) -> tuple[Counts, ...]:
        """What each of so many faults counted at least; () if nothing is known."""
        return tuple(self._counts.get(fault, Counts()) for fault in range(faults)) if self._counts else ()

    def sentence(self) -> str:
        """The latest injection, for a verdict's detail."""
        total = sum(counts.injected for counts in self._counts.values())
        if not self.latest:
            return "nothing was injected before" if self.exact and not total else "no injection was reported before"
        count = f"{'' if self.exact else 'at least '}{total} injection{'s' * (total != 1)}"
        return f"the last of {count}: {injection_line(self.latest[-1]).strip()}"

    def lines(self) -> Sequence[str]:
        """The latest injections, oldest first, the last one with its stack; () if there are none."""
        if not self.latest:
            return ()
        *before, last = self.latest
        lines = [f"  {path_line(injection)}" for injection in before]
        return ("last injections:", *lines, injection_line(last), *(f"    {frame}" for frame in last.stack[:FRAMES]))
