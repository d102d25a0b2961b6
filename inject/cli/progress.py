"""What guests tell of their scenarios, shown as `inject run` shows its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import click

from inject.cli.display import Display, own_arguments
from inject.model.event import Armed, ErrorTraced, Event, Injected, RunEnded, RunStarted
from inject.model.scenario import Scenario
from inject.model.verdict import Verdict
from inject.report import progress as console

QUIET = 60.0
"""Seconds without a line after which one says that the run goes on, where no terminal is there to look at."""


def note(line: str) -> None:
    """One line about the guest itself."""
    click.echo(f"inject: {line}", err=True)


class Follower:
    """Shows guests' events; with ``several`` guests each line names its scenario.

    ``now`` gives seconds of a clock.
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        display: Display,
        *,
        several: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._several = several
        self._scenarios = {scenario.name: scenario for scenario in scenarios}
        self._under_way: list[str] = []
        self._begun = 0
        self._done = 0
        self._display = display
        self._now = now
        self._started = self._shown = now()
        self._beats = display.verbosity >= 0 and not sys.stderr.isatty()

    def __call__(self, event: Event) -> None:
        """One event of a guest, or of the batch on its behalf."""
        if isinstance(event, RunEnded):
            return  # the display writes it with the table
        if isinstance(event, RunStarted):
            event = replace(event, argv=tuple(own_arguments()))
        self._display.emit(event)
        if isinstance(event, Armed):
            self._begun += 1
            self._under_way.append(event.scenario)
            self._display.begin(self._begun, self._scenarios[event.scenario])
        elif isinstance(event, Injected):
            self._say(event.scenario, console.injection_line(event.injection))
        elif isinstance(event, ErrorTraced):
            self._say(event.scenario, console.error_line(event.path, event.ordinal))
        elif isinstance(event, Verdict):
            self._done += 1
            self._under_way = [name for name in self._under_way if name != event.scenario]
            self._shown = self._now()
            self._display.end(event)

    def _say(self, scenario: str, line: str) -> None:
        if self._display.verbosity >= 1:
            self._shown = self._now()
        self._display.say(f"  {scenario}: {line.strip()}" if self._several else line)

    def note(self, line: str) -> None:
        """One line about a guest."""
        self._shown = self._now()
        note(line)

    def idle(self) -> None:
        """Called now and then: a log that nobody sees grow would look like a hang."""
        if self._beats and self._now() - self._shown >= QUIET:
            at = ", ".join(self._under_way) or "between scenarios"
            minutes = (self._now() - self._started) / 60
            self.note(f"{self._done} of {len(self._scenarios)} done after {minutes:.0f} min, at {at}")
