"""`inject vm sweep`: fail each point that a workload reaches, in guests."""

from __future__ import annotations

import datetime
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

import click

from inject.campaign.shard import Shard
from inject.cli import completion
from inject.cli.display import Display
from inject.cli.options import JOBS_OPTION, chosen, chosen_functions, shard_option, with_options
from inject.cli.progress import note
from inject.cli.vm import batch_options, guests_for, run_in
from inject.errors import ExitStatus
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.model.event import Event
from inject.model.scenario import Scenario
from inject.model.verdict import Verdict
from inject.record.families import MARKED
from inject.record.options import MOST_ROOM, ROOM, RecordOptions
from inject.report import sweep as report
from inject.store import write_file
from inject.sweep.findings import README
from inject.sweep.journal import NAME, SweepJournal
from inject.sweep.known import Known, entry_for, read_known
from inject.sweep.options import SweepOptions
from inject.sweep.shot import Mode
from inject.sweep.sweeper import Sweeper
from inject.vm import kernels

CHEAP = ("dmesg",)
"""The checks of --checks cheap."""


def _sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is failed, and how."""
    return with_options(
        command,
        (
            *chosen_functions("Fail", MARKED),
            click.option("--room", type=click.IntRange(1, MOST_ROOM), default=ROOM, metavar="N", hidden=True),
            click.option(
                "--modes",
                callback=_modes,
                metavar="MODE,...",
                help="once: fail a point the first time it is reached; onward: each time. Default: once.",
            ),
            click.option(
                "--return",
                "errno",
                default="-ENOMEM",
                show_default=True,
                metavar="-ERRNO",
                help="Return this where any errno may be returned.",
            ),
            click.option("--only", multiple=True, metavar="POINT", help="Fail only this point; repeatable."),
            click.option("--limit", type=click.IntRange(1), metavar="N", help="Make N trials at most. Default: 500."),
            shard_option("Make only part I of N of the trials, for N machines."),
            click.option(
                "--time-budget",
                "seconds",
                type=click.FloatRange(0, 1e7, min_open=True),
                metavar="SECONDS",
                help="Begin no trial later than this; --resume makes the others.",
            ),
            click.option(
                "--checks",
                type=click.Choice(["all", "cheap"]),
                default="all",
                show_default=True,
                help="Ask the scenario's checks, or only the kernel log.",
            ),
            click.option(
                "--known",
                type=click.Path(path_type=Path, dir_okay=False),
                callback=lambda _ctx, _param, path: read_known(path) if path else (),
                metavar="FILE",
                help="Signatures of known findings, with why; alone they do not fail the sweep.",
            ),
            click.option("--resume", is_flag=True, help="Go on with the sweep in DIR."),
            click.option(
                "-o",
                "--output",
                type=click.Path(path_type=Path, file_okay=False),
                metavar="DIR",
                help="Directory of journal and findings. Default: sweep-NAME-DATE.",
            ),
        ),
    )


def _modes(_ctx: click.Context, _param: click.Parameter, text: Optional[str]) -> tuple[Mode, ...]:
    """The modes that ``once,onward`` names; () if the option is not given."""
    try:
        return tuple(dict.fromkeys(Mode(word) for word in text.split(","))) if text else ()
    except ValueError:
        raise click.BadParameter("write once, onward or once,onward") from None


HOW = ("functions", "checked", "room", "modes", "errno", "only", "limit", "seconds", "checks", "shard")
"""Options that say what is failed, and how."""


def _options(
    scenario: Scenario,
    *,
    functions: tuple[str, ...],
    checked: bool,
    room: int,
    modes: tuple[Mode, ...],
    errno: str,
    only: tuple[str, ...],
    limit: Optional[int],
    seconds: Optional[float],
    checks: str,
    shard: Shard,
) -> SweepOptions:
    """What HOW says, and where that says nothing, the `sweep` of the scenario."""
    asked = scenario.sweep
    return SweepOptions(
        RecordOptions(functions, checked, room=room),
        modes or (tuple(map(Mode, asked.modes)) if asked else (Mode.ONCE,)),
        errno,
        only,
        limit or (asked.limit if asked else SweepOptions.limit),
        CHEAP if checks == "cheap" else None,
        seconds,
        rounds=1,
        shard=shard,
    )


@click.command("sweep")
@click.argument("file", metavar="FILE", shell_complete=completion.files)
@_sweep_options
@batch_options
@JOBS_OPTION
def sweep_in_guests(
    file: str,
    known: tuple[Known, ...],
    resume: bool,
    output: Optional[Path],
    jobs: int,
    **rest: Any,
) -> int:
    """Fail each point that the workload of a scenario reaches, in turn.

    `inject vm record` finds the points, and each gets a trial of its own: the scenario as it is, with one
    fault at that point. Any exit code of the workload will do, all checks must pass. The journal in DIR has
    every step before it is made, so after any end --resume loses no trial. A finding is a directory in
    DIR/findings with the scenario that shows it again. The last line adds up.

    \b
    Examples:
      inject vm sweep my-scenario.yaml --functions 'bch2_*' --jobs 2
      inject vm sweep my-scenario.yaml --modes once,onward --limit 2000 -o out
      inject vm sweep my-scenario.yaml --modes once,onward --limit 2000 -o out --resume
    """
    found = chosen([file], (), Shard())
    if len(found) != 1:
        raise click.UsageError(f"{file} has {len(found)} scenarios: a sweep is of one; put it into a file of its own")
    (scenario,) = found
    options = _options(scenario, **{name: rest.pop(name) for name in HOW})
    guest_choice = rest
    directory = output or Path(f"sweep-{Path(file).stem}-{datetime.date.today():%Y-%m-%d}")
    if guest_choice["kernel_image"] is None and guest_choice["flavour"] is None:
        guest_choice["flavour"] = kernels.kernel_of(scenario)
    kernel = str(guest_choice["kernel_image"] or guest_choice["flavour"])
    with SweepJournal(directory, resume=resume) as journal:
        if journal.cut:
            note(f"the last line of {directory / NAME} was cut, and is taken away")
        text = Path(scenario.file).read_text(encoding="utf-8")
        sweeper = Sweeper(scenario, text, options, journal, kernel, secrets.randbits(32))
        try:
            _run(sweeper, scenario, jobs, guest_choice)
        except KeyboardInterrupt:
            note(f"go on with --resume -o {directory}")
            raise
        option = "--kernel-image" if guest_choice["kernel_image"] is not None else "--kernel"
        return _tell(sweeper, directory, known, f"inject vm run {option} {shlex.quote(kernel)}")


def _run(sweeper: Sweeper, scenario: Scenario, jobs: int, guest_choice: dict[str, Any]) -> None:
    """Record, and make the trials that are left."""
    guests = guests_for([scenario], **guest_choice)

    def batch(ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        display = Display(len(ledger.scenarios), 0, None)
        hosts = guests.recording() if request.record is not None else guests
        return run_in(hosts, ledger, request, display, jobs, on_event)

    sweeper.record(batch)
    note(f"{len(sweeper.state.points)} points, {len(sweeper.plan.shots)} trials, {len(sweeper.state.ended)} have ended")
    sweeper.fail(batch, note)
    left = len(sweeper.left)
    if left:
        note(f"{left} trials are left, because the time is over (--time-budget); --resume makes them")


def _tell(sweeper: Sweeper, directory: Path, known: Sequence[Known], again: str) -> int:
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
