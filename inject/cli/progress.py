"""Display of events from hosts, in the format of `inject run`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import click

from inject.cli.display import Display, own_arguments
from inject.fleet.ledger import Ledger, Stage
from inject.model.event import Armed, ErrorTraced, Event, Injected, RunEnded, RunStarted
from inject.model.text import printable
from inject.model.verdict import Verdict
from inject.report import progress as console

QUIET = 60.0
"""Seconds without output after which a line shows the progress, unless standard error is a terminal."""


def note(line: str) -> None:
    """Print a line about the guest."""
    end = "\r" * line.endswith("\r")  # a raw terminal needs it
    click.echo(f"inject: {printable(line.rstrip())}{end}", err=True)


class Progress:
    """Display of hosts' events; with ``several`` hosts each line names its scenario.

    ``now`` returns the seconds of a clock.
    """

    def __init__(
        self,
        ledger: Ledger,
        display: Display,
        *,
        several: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._several = several
        self._ledger = ledger
        self._display = display
        self._now = now
        self._started = self._shown = now()
        self._beats = display.verbosity >= 0 and not sys.stderr.isatty()

    def __call__(self, event: Event) -> None:
        """Show one event of a host, or of the batch."""
        if isinstance(event, RunEnded):
            return  # the display writes it with the table
        if isinstance(event, RunStarted):
            event = replace(event, argv=tuple(own_arguments()))
        self._display.emit(event)
        if isinstance(event, Armed):
            self._display.begin(self._ledger.number(event.scenario), self._ledger.scenario(event.scenario))
        elif isinstance(event, Injected):
            self._say(event.scenario, console.injection_line(event.injection))
        elif isinstance(event, ErrorTraced):
            self._say(event.scenario, console.error_line(event.path, event.ordinal))
        elif isinstance(event, Verdict):
            self._shown = self._now()
            self._display.end(event)

    def _say(self, scenario: str, line: str) -> None:
        if self._display.verbosity >= 1:
            self._shown = self._now()
        self._display.say(f"  {scenario}: {line.strip()}" if self._several else line)

    def note(self, line: str) -> None:
        """Print a line about a guest."""
        self._shown = self._now()
        note(line)

    def idle(self) -> None:
        """Print the progress if nothing was printed for QUIET seconds; called several times a second."""
        if self._beats and self._now() - self._shown >= QUIET:
            armed = self._ledger.names(Stage.ARMED)
            now = f"at {', '.join(armed)}" if armed else "between scenarios"
            minutes = (self._now() - self._started) / 60
            done, total = len(self._ledger.verdicts()), len(self._ledger.scenarios)
            self.note(f"{done} of {total} done after {minutes:.0f} min, {now}")

    def close(self) -> None:
        """End it."""
