"""What a sweep found: its findings as files, and its report on standard output."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import click

from inject.errors import ExitStatus, InjectError
from inject.report import sweep as report
from inject.sweep.findings import README
from inject.sweep.investigation import FINDINGS, Investigation
from inject.sweep.sweeper import Sweeper


def tell(
    sweeper: Sweeper,
    found: Investigation,
    directory: Path,
    again: str,
    finish: Callable[[], None] = lambda: None,
) -> int:
    """Write the findings, ``finish``, and print the report; the exit code.

    ``again`` begins the command that runs a scenario. Raises InjectError if the findings cannot be written.
    """
    totals = sweeper.totals()
    dossiers = found.dossiers(again)
    try:
        found.write(directory, dossiers)
    except OSError as error:
        place = error.filename or directory / FINDINGS
        raise InjectError(f"cannot write {place}: {error.strerror}", "make room, and go on with --resume") from error
    shown = []
    for one in dossiers:
        cause = one.cause
        command = f"{again} {shlex.quote(str(directory / FINDINGS / cause.directory / 'scenario.yaml'))}"
        names = [trial.shot for trial in cause.trials]
        shown.append(report.ShownFinding(cause.signature, one.chosen.detail, names, command, one.again(), cause.known))
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    left = {"not reached again": totals.unreached, "skipped": totals.skipped}
    finish()
    click.echo(report.render(shown, left, totals.line, width=width, file=README), nl=False)
    if any(not one.known for one in shown):
        return ExitStatus.FAIL
    return ExitStatus.ERROR if totals.errors else ExitStatus.OK
