"""Progress of a sweep: a last line on a terminal that the lines above it do not destroy, else a line now and then."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Callable

import click

from inject.cli.building import columns, shortened
from inject.cli.display import Display
from inject.cli.progress import Progress
from inject.cli.progress import note as print_note
from inject.fleet.ledger import Ledger
from inject.model.event import Event
from inject.model.scenario import Scenario
from inject.model.verdict import Verdict
from inject.sweep.baseline import is_baseline
from inject.sweep.state import judged
from inject.sweep.tally import Tally

PLAIN = 30.0
"""Seconds between two lines of progress where standard error is no terminal."""

REDRAW = 0.5
"""Seconds between two states of the last line of a terminal, at least."""


class StatusLine:
    """The last line of the terminal that standard error is; without a terminal it is never there."""

    def __init__(self) -> None:
        self.possible = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._text = ""

    def show(self, text: str) -> None:
        """Show ``text`` in place of the one before; "" takes it away."""
        if not self.possible or text == self._text:
            return
        click.echo(f"\r\033[K{shortened(text, columns() - 1)}", err=True, nl=False)
        self._text = text

    @contextlib.contextmanager
    def above(self) -> Iterator[None]:
        """What is printed meanwhile stands above the line."""
        text = self._text
        self.show("")
        try:
            yield
        finally:
            self.show(text)


class SweepDisplay(Display):
    """Lines of verdicts above the status line. The trials that begin are not shown: there are hundreds."""

    def __init__(self, total: int, status: StatusLine) -> None:
        super().__init__(total, 0, None)
        self._status = status

    def begin(self, number: int, scenario: Scenario) -> None:
        """Say nothing."""

    def _line(self, line: str) -> None:
        with self._status.above():
            super()._line(line)


class SweepProgress(Progress):
    """Progress of one batch of a sweep, of which ``tally`` has the numbers."""

    def __init__(
        self,
        ledger: Ledger,
        tally: Tally,
        *,
        several: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status = StatusLine()
        super().__init__(ledger, SweepDisplay(len(ledger.scenarios), self._status), several=several, now=now)
        self._tally = tally
        self._told = now()

    def __call__(self, event: Event) -> None:
        """Show one event, and count it."""
        if isinstance(event, Verdict):
            event = event if is_baseline(event.scenario) else judged(event)
            self._tally.take(event.scenario.rpartition("/")[2], event)
        super().__call__(event)

    def note(self, line: str) -> None:
        """Print a line about a guest."""
        with self._status.above():
            print_note(line)

    def idle(self) -> None:
        """Show how far the sweep is; called several times a second."""
        now = self._now()
        if now - self._told < (REDRAW if self._status.possible else PLAIN):
            return
        self._told = now
        if self._status.possible:
            self._status.show(self._tally.line())
        else:
            self.note(self._tally.line())

    def close(self) -> None:
        """Take the status line away."""
        self._status.show("")
