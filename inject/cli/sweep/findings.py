"""What a sweep found: its findings as files, and its report on standard output."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from inject.errors import ExitStatus
from inject.report import sweep as report
from inject.store import write_file
from inject.sweep.findings import README
from inject.sweep.known import Known, entry_for
from inject.sweep.sweeper import Sweeper


def tell(sweeper: Sweeper, directory: Path, known: Sequence[Known], again: str) -> int:
    """Write the findings and print the report; the exit code. ``again`` begins the command that runs a scenario."""
    totals = sweeper.totals()
    shots = {shot.id: shot for shot in sweeper.plan.shots}
    shown = []
    for cause in sweeper.findings(known):
        first, place = cause.trials[0], directory / "findings" / cause.directory
        place.mkdir(parents=True, exist_ok=True)
        write_file(place / "scenario.yaml", sweeper.text_of(shots[first.shot], alone=True).encode(), mode=0o644)
        write_file(place / "log.txt", "\n".join([first.detail, *first.log, ""]).encode(), mode=0o644)
        write_file(place / README, f"{cause.signature}\n\n{entry_for(cause.signature)}".encode(), mode=0o644)
        command = f"{again} {shlex.quote(str(place / 'scenario.yaml'))}"
        names = [one.shot for one in cause.trials]
        shown.append(report.ShownFinding(cause.signature, first.detail, names, command, known=cause.known))
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    left = {"not reached again": totals.unreached, "skipped": totals.skipped}
    click.echo(report.render(shown, left, totals.line, width=width, file=README), nl=False)
    if any(not one.known for one in shown):
        return ExitStatus.FAIL
    return ExitStatus.ERROR if totals.errors else ExitStatus.OK
