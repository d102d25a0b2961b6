"""Output of a run, on this kernel and in guests: lines during the run, reports at the end."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

import click

from inject.campaign.shard import Shard
from inject.errors import ExitStatus
from inject.model.event import Event, RunEnded
from inject.model.scenario import Scenario
from inject.model.verdict import Status, Verdict
from inject.report import jsonl, table
from inject.report import progress as console
from inject.report.evidence import Evidence
from inject.report.ktap import Ktap
from inject.report.paint import wanted


class Display:
    """Lines on standard error while a run lasts, the table on standard output at its end.

    ``verbosity``: -1 prints the summary only, 0 a line per scenario, 1 a line per injection too.
    ``errors``: the table shows where errors went at any verbosity.
    """

    def __init__(
        self,
        total: int,
        verbosity: int,
        report: Optional[jsonl.JsonLines],
        *,
        errors: bool = False,
        ktap: Optional[Ktap] = None,
    ) -> None:
        self.total = total
        self.errors = errors or verbosity >= 1
        self.verbosity = verbosity
        self._report = report
        self._ktap = ktap
        self._evidence = Evidence()
        self._started = time.monotonic()

    def start(self) -> None:
        """Count the run's duration from now."""
        self._started = time.monotonic()

    def begin(self, number: int, scenario: Scenario) -> None:
        """Say that a scenario begins."""
        if self.verbosity >= 1 or (self.verbosity == 0 and sys.stderr.isatty()):
            self._line(console.begin_line(scenario.name, number, self.total, wanted(sys.stderr)))

    def say(self, line: str) -> None:
        """Print a step or an injection, if verbose."""
        if self.verbosity >= 1:
            self._line(line)

    def end(self, verdict: Verdict) -> None:
        """Say how a scenario ended."""
        if self.verbosity >= 0:
            self._line(console.verdict_line(verdict, wanted(sys.stderr)))
        if self._ktap is not None:
            click.echo(self._ktap.take(verdict, self._evidence.of(verdict.scenario, verdict.trial)), nl=False)
        if verdict.status is Status.PASS:
            self._evidence.forget([verdict.scenario])

    def emit(self, event: Event) -> None:
        """Write one event to the JSON lines, and keep what the reports need of it."""
        self._evidence.take(event)
        if self._report is not None:
            self._report.write(event)

    def finish(self, verdicts: Sequence[Verdict], junit_path: Optional[str]) -> None:
        """End the JSON lines, write JUnit, and print the table unless standard output is KTAP's."""
        self.emit(RunEnded.of(verdicts))
        if junit_path:
            from inject.report import junit

            junit.write(junit_path, verdicts, evidence=self._evidence)
        if self._ktap is not None:
            return
        seconds = time.monotonic() - self._started
        width = shutil.get_terminal_size((100, 24)).columns
        if self.verbosity < 0:
            click.echo(table.summary(verdicts, seconds))
        else:
            shown = table.render(
                verdicts,
                width=width,
                colour=wanted(sys.stdout),
                errors=self.errors,
                seconds=seconds,
                evidence=self._evidence,
            )
            click.echo(shown, nl=False)

    def nothing(self, shard: Shard, junit_path: Optional[str]) -> int:
        """Report that this part has no scenario; the reports are complete, and the exit code is 0."""
        self._line(f"inject: part {shard} has no scenario")
        self.finish([], junit_path)
        return ExitStatus.OK

    def _line(self, line: str) -> None:
        click.echo(line, err=True)


@contextlib.contextmanager
def reporting(
    scenarios: Sequence[Scenario],
    report: Optional[jsonl.JsonLines],
    *,
    verbose: bool,
    quiet: bool,
    errors: bool,
    ktap: bool,
) -> Iterator[Display]:
    """The display of a run of ``scenarios``; with ``ktap`` it prints what it held back, however the run ends.

    Raises UsageError if KTAP and the JSON lines would both go to standard output.
    """
    if ktap and report is not None and report.to_stdout:
        raise click.UsageError("--ktap and --json - both write to standard output; give --json a file")
    results = Ktap([scenario.name for scenario in scenarios]) if ktap else None
    display = Display(len(scenarios), -1 if quiet else int(verbose), report, errors=errors, ktap=results)
    if results is None:
        yield display
        return
    click.echo(results.head(), nl=False)
    try:
        yield display
    finally:
        click.echo(results.rest(), nl=False)


@contextlib.contextmanager
def report_file(path: Optional[str]) -> Iterator[Optional[jsonl.JsonLines]]:
    """The JSON-lines report, opened before the run, so that a bad path fails at once."""
    if not path:
        yield None
        return
    with jsonl.JsonLines(path) as lines:
        yield lines


def own_arguments() -> list[str]:
    """The command line as it was given."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
