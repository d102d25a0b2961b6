"""`inject record` and `inject vm record`: the points that workloads reach, on this kernel and in guests."""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, Optional

import click

from inject.campaign.record import record_all
from inject.campaign.run import run_started
from inject.campaign.shard import Shard
from inject.cli import completion
from inject.cli.display import Display, own_arguments, report_file
from inject.cli.options import JOBS_OPTION, chosen, chosen_functions, with_options
from inject.cli.vm import batch_options, guests_for, run_in
from inject.fixture.modules import load as load_modules
from inject.fixture.modules import mounted_by
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import Event, FunctionSkipped, PointReached, RunEnded
from inject.model.reached import Point, Skipped
from inject.model.scenario import Scope
from inject.model.verdict import Status, Verdict
from inject.record.families import MARKED
from inject.record.options import MOST_ROOM, ROOM, RecordOptions
from inject.report import jsonl, points, table
from inject.trial.judge import exit_status
from inject.trial.services import open_services


def _record_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of both commands."""
    return with_options(
        command,
        (
            *chosen_functions("Record", MARKED),
            click.option("--force", is_flag=True, help="Also functions with a name that makes them unsafe to fail."),
            click.option(
                "--scope",
                type=click.Choice([Scope.WORKLOAD.value, Scope.ANY.value]),
                default=Scope.WORKLOAD.value,
                show_default=True,
                help="Whose calls: the workload's, or those of any task and interrupt.",
            ),
            click.option(
                "--room",
                type=click.IntRange(1, MOST_ROOM),
                default=ROOM,
                show_default=True,
                metavar="N",
                help="Have room for N points; each takes 1 KB of the kernel's memory.",
            ),
            click.option(
                "--only",
                multiple=True,
                metavar="NAME",
                shell_complete=completion.names,
                help="Record only the scenario with this name; repeatable.",
            ),
            click.option(
                "--json",
                "json_path",
                metavar="FILE",
                shell_complete=completion.files,
                help="Points as JSON lines; - for stdout, in place of the table.",
            ),
            click.option("-v", "--verbose", is_flag=True, help="List every function that is skipped."),
            click.option("-q", "--quiet", is_flag=True, help="Print only the summary lines."),
        ),
    )


class RecordDisplay(Display):
    """Lines on standard error while it lasts, the tables of points on standard output at the end."""

    def __init__(self, total: int, verbosity: int, report: Optional[jsonl.JsonLines]) -> None:
        super().__init__(total, verbosity, report)
        self._silent = report is not None and report.to_stdout
        self._points: dict[str, list[Point]] = {}
        self._skipped: dict[str, list[Skipped]] = {}

    def emit(self, event: Event) -> None:
        """Write one event to the JSON lines, and keep what the tables need of it."""
        super().emit(event)
        if isinstance(event, PointReached):
            self._points.setdefault(event.scenario, []).append(event.point)
        elif isinstance(event, FunctionSkipped):
            self._skipped.setdefault(event.scenario, []).append(event.skipped)

    def finish(self, verdicts: Sequence[Verdict], junit_path: Optional[str]) -> None:
        """End the JSON lines and print the tables, unless standard output has the lines."""
        self.emit(RunEnded.of(verdicts))
        if not self._silent:
            for verdict in verdicts:
                self._tell(verdict)
        if len(verdicts) != 1 and not self._silent:
            click.echo(table.summary(verdicts))

    def _tell(self, verdict: Verdict) -> None:
        """The table of one scenario, what its verdict says, and the summary line."""
        found, skipped = self._points.get(verdict.scenario, []), self._skipped.get(verdict.scenario, [])
        width = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else sys.maxsize
        if self.verbosity >= 0:
            text = points.render(found, skipped, width=width, every=self.verbosity >= 1)
            click.echo(text + "\n" * bool(text), nl=False)
            for note in verdict.notes:
                click.echo(f"  note: {note}")
        if verdict.status is not Status.PASS:
            click.echo(f"{verdict.status.value}: {verdict.detail}")
        click.echo(f"{verdict.scenario}: {points.summary(found, skipped)}")


def _options(functions: tuple[str, ...], checked: bool, force: bool, scope: str, room: int) -> RecordOptions:
    return RecordOptions(functions, checked, force, scope == Scope.ANY.value, room)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", shell_complete=completion.files)
@_record_options
def record(
    files: tuple[str, ...],
    only: tuple[str, ...],
    json_path: Optional[str],
    verbose: bool,
    quiet: bool,
    **how: Any,
) -> int:
    """List the points that scenarios reach on this kernel; nothing fails.

    A point is a function and the whole stack trace of its calls. Each scenario is set up as by
    `inject run`, and its workload runs with no fault armed. Without --functions, `sweep:
    {functions: ...}` of the scenario says which functions are recorded; else those marked
    ALLOW_ERROR_INJECTION, without system calls; on a kernel without that list those of the
    scenario's filesystem. The exit code is 4 if a call was lost: what was lost, and why, is printed.

    \b
    Examples:
      sudo inject record scenarios/memory/bcachefs.yaml --functions 'bch2_*'
      sudo inject record my-scenario.yaml --functions module:xfs --checked --json points.jsonl
    """
    found = chosen(files, only, Shard())
    load_modules(mounted_by(found))
    kernel = Kernel()
    options = _options(**how)
    with report_file(json_path) as report:
        display = RecordDisplay(len(found), -1 if quiet else int(verbose), report)
        with open_services(kernel, display.emit, display.say, types=Types(kernel)) as services:
            display.emit(run_started(kernel, 0, own_arguments()))
            verdicts = record_all(found, services, options, begin=display.begin, end=display.end)
            display.finish(verdicts, None)
    return exit_status(verdicts, no_skip=True)


@click.command("record")
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", shell_complete=completion.files)
@_record_options
@batch_options
@JOBS_OPTION
def record_in_guests(
    files: tuple[str, ...],
    only: tuple[str, ...],
    json_path: Optional[str],
    verbose: bool,
    quiet: bool,
    functions: tuple[str, ...],
    checked: bool,
    force: bool,
    scope: str,
    room: int,
    jobs: int,
    **guest_choice: Any,
) -> int:
    """List the points that scenarios reach in a guest; nothing fails.

    See `inject record` for what is recorded, and `inject vm run` for the guest's kernel.

    \b
    Examples:
      inject vm record scenarios/memory/bcachefs.yaml --functions 'bch2_*'
      inject vm record my-scenario.yaml --kernel test --json points.jsonl
    """
    found = chosen(files, only, Shard())
    with report_file(json_path) as report:
        display = RecordDisplay(len(found), -1 if quiet else int(verbose), report)
        guests = guests_for(found, **guest_choice)
        request = Request(secrets.randbits(32), record=_options(functions, checked, force, scope, room))
        verdicts = run_in(guests.recording(), Ledger(found), request, display, jobs)
        display.finish(verdicts, None)
    return exit_status(verdicts, no_skip=True)
