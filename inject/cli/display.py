"""What a run shows, the same for this kernel and for a guest: lines as it goes, reports at the end."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import click

from inject.model import Scenario, Verdict
from inject.report import console, jsonl, junit, table
from inject.report.paint import wanted


class Display:
    """Lines on standard error while a run lasts, the table on standard output at its end.

    ``verbosity``: -1 only what did not pass, 0 a line per scenario, 1 one per injection too.
    ``errors``: the table says where errors went without being more verbose.
    """

    def __init__(self, total: int, verbosity: int, report: Optional[jsonl.JsonLines], *, errors: bool = False) -> None:
        self.total = total
        self.errors = errors or verbosity >= 1
        self.verbosity = verbosity
        self._report = report

    def begin(self, number: int, scenario: Scenario) -> None:
        """A scenario starts."""
        if self.verbosity >= 1 or (self.verbosity == 0 and sys.stderr.isatty()):
            self._line(console.begin_line(scenario.name, number, self.total, wanted(sys.stderr)))

    def say(self, line: str) -> None:
        """A step or an injection, for those who asked."""
        if self.verbosity >= 1:
            self._line(line)

    def end(self, verdict: Verdict) -> None:
        """A scenario has its verdict."""
        if self.verbosity >= 0:
            self._line(console.verdict_line(verdict, wanted(sys.stderr)))

    def emit(self, event: dict[str, Any]) -> None:
        """One event for the JSON lines."""
        if self._report is not None:
            self._report.write(event)

    def finish(self, verdicts: Sequence[Verdict], junit_path: Optional[str]) -> None:
        """The end of the JSON lines, JUnit, and the table."""
        self.emit(jsonl.end_event(verdicts))
        if junit_path:
            junit.write(junit_path, verdicts)
        width = shutil.get_terminal_size((100, 24)).columns
        if self.verbosity < 0:
            click.echo(table.summary(verdicts))
        else:
            shown = table.render(verdicts, width=width, colour=wanted(sys.stdout), errors=self.errors)
            click.echo(shown, nl=False)

    def _line(self, line: str) -> None:
        click.echo(line, err=True)


@contextlib.contextmanager
def report_file(path: Optional[str]) -> Iterator[Optional[jsonl.JsonLines]]:
    """The JSON-lines report, opened before anything is done so that a bad path costs no run."""
    if not path:
        yield None
        return
    with jsonl.JsonLines(path) as lines:
        yield lines


def own_arguments() -> list[str]:
    """The command line as it was given."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
