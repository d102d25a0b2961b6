"""The first injections of each trial, kept until its verdict; reports show them unless it passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from inject.model.event import Event, Injected, Injection
from inject.model.text import printable
from inject.report.progress import injection_line

KEPT = 8
"""Injections of one trial that are kept with their stack traces; the others are only counted."""


@dataclass(frozen=True)
class Fired:
    """The first injections of a trial, and their total number."""

    first: tuple[Injection, ...] = ()
    total: int = 0

    def lines(self) -> list[str]:
        """One line for each injection, its stack trace below it, innermost first."""
        shown: list[str] = []
        for injection in self.first:
            shown.append(injection_line(injection).strip())
            shown += [f"  {printable(frame)}" for frame in injection.stack]
        if self.total > len(self.first):
            shown.append(f"[... {self.total - len(self.first)} more injections; see --json ...]")
        return shown


@dataclass
class Evidence:
    """Collects injections from the events of a run, by scenario and trial."""

    _kept: dict[tuple[str, int], list[Injection]] = field(default_factory=dict)
    _totals: dict[tuple[str, int], int] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Keep an injection; every other event is ignored."""
        if not isinstance(event, Injected):
            return
        key = (event.scenario, event.trial)
        self._totals[key] = self._totals.get(key, 0) + 1
        kept = self._kept.setdefault(key, [])
        if len(kept) < KEPT:
            kept.append(event.injection)

    def of(self, scenario: str, trial: int = 0) -> Fired:
        """The injections of one trial."""
        key = (scenario, trial)
        return Fired(tuple(self._kept.get(key, ())), self._totals.get(key, 0))

    def forget(self, scenarios: Sequence[str]) -> None:
        """Drop the injections of scenarios that passed."""
        for key in [key for key in self._totals if key[0] in scenarios]:
            del self._totals[key]
            self._kept.pop(key, None)
