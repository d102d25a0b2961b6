"""`inject sweep` and `inject vm sweep`: fail each point that a workload reaches, on this kernel and in guests."""

from __future__ import annotations

import contextlib
import secrets
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from inject.cli import completion
from inject.cli.coverage import counting, file_of_sweep
from inject.cli.display import Display
from inject.cli.options import JOBS_OPTION, MODULE_OPTION, module_for
from inject.cli.progress import Progress, note
from inject.cli.sweep.findings import tell
from inject.cli.sweep.options import SweepChoice, sweep_options, the_scenario
from inject.cli.sweep.status import SweepProgress
from inject.cli.vm import batch_options, guests_for, run_in, run_showing
from inject.errors import ExitStatus, InjectError
from inject.fixture.modules import load as load_modules
from inject.fixture.modules import mounted_by
from inject.fleet.here import Here
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import Event
from inject.model.scenario import Scenario
from inject.model.verdict import Verdict
from inject.record.recording import require_recording
from inject.sweep.baseline import is_baseline
from inject.sweep.boots import boot_id
from inject.sweep.ending import NEXT, End, unjudged
from inject.sweep.investigation import Investigation
from inject.sweep.journal import HERE, NAME, SweepJournal
from inject.sweep.nothing import refuse
from inject.sweep.report.write import write_reports
from inject.sweep.reproducer import is_step
from inject.sweep.sweeper import Batch, Sweeper
from inject.vm import kernels
from inject.vm.fork import Forks
from inject.vm.hosts import Guests


@click.command()
@click.argument("file", metavar="FILE", shell_complete=completion.files)
@sweep_options
@MODULE_OPTION
def sweep(file: str, module: bool, **values: Any) -> int:
    """Fail each point that the workload of a scenario reaches on this kernel, in turn.

    See `inject vm sweep` for the trials, the journal and the report. On this machine a trial that ends the
    machine can be made only once: after a crash boot it, and go on with --resume, which counts that trial as
    a finding. A kernel that must not run more trials ends the sweep; boot it anew, and go on with --resume.
    Findings are not repeated unless --reproduce says so.

    \b
    Examples:
      sudo inject sweep my-scenario.yaml --functions 'bch2_*' --module
      sudo inject sweep my-scenario.yaml --functions 'bch2_*' --module --resume
    """
    choice = SweepChoice.taken(values)
    if click.get_current_context().get_parameter_source("reproduce") is not ParameterSource.COMMANDLINE:
        choice = replace(choice, reproduce=0)
    scenario = the_scenario(file)
    load_modules(mounted_by([scenario]))
    kernel = Kernel()
    types = Types(kernel)
    require_recording(kernel)
    here = Here(kernel, types, module_for(kernel, types, module, ()))
    again = f"sudo inject run{' --module' * module}"
    return run_sweep(
        scenario, choice, f"{HERE} {kernel.release}", again, lambda made: _here(made, here), boot=boot_id()
    )


def _here(sweeper: Sweeper, here: Here) -> Batch:
    """What runs a batch on this machine."""

    def batch(ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        recording = request.record is not None
        progress = Progress(ledger, Display(1, 0, None)) if recording else SweepProgress(ledger, sweeper.tally())

        def take(event: Event) -> None:
            on_event(event)
            progress(event)
            progress.idle()

        try:
            return here.run(ledger, request, take)
        finally:
            progress.close()
            if here.unusable and not sweeper.unusable:
                sweeper.unusable = here.unusable
                note(f"this kernel must not run more trials: {here.unusable}")

    return batch


@click.command("sweep")
@click.argument("file", metavar="FILE", shell_complete=completion.files)
@sweep_options
@batch_options
@JOBS_OPTION
def sweep_in_guests(file: str, jobs: int, **values: Any) -> int:
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
    choice = SweepChoice.taken(values)
    scenario = the_scenario(file)
    if values["kernel_image"] is None and values["flavour"] is None:
        values["flavour"] = kernels.kernel_of(scenario)
    option = "--kernel-image" if values["kernel_image"] is not None else "--kernel"
    kernel = str(values["kernel_image"] or values["flavour"])
    again = f"inject vm run {option} {shlex.quote(kernel)}"
    counts = file_of_sweep(kernel, choice.directory(scenario.file))

    def ready(sweeper: Sweeper) -> Batch:
        guests = guests_for([scenario], **values)
        kept = counting(guests, counts, add=choice.resume)
        return _in_guests(sweeper, jobs, click.get_current_context().with_resource(kept))

    return run_sweep(scenario, choice, kernel, again, ready)


def _in_guests(sweeper: Sweeper, jobs: int, guests: Guests) -> Batch:
    """What runs a batch in guests."""

    def batch(ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        if request.record is not None:
            return run_in(guests.recording(), ledger, request, Display(1, 0, None), jobs, on_event)
        if is_step(ledger.scenarios[0].name, sweeper.scenario):
            return run_in(guests, ledger, request, Display(len(ledger.scenarios), 0, None), jobs, on_event)
        progress = SweepProgress(ledger, sweeper.tally(), several=jobs > 1)
        if is_baseline(ledger.scenarios[0].name):
            with contextlib.closing(progress):
                return run_showing(guests, ledger, request, progress, jobs, on_event)
        with Forks(guests.recording() if request.observe else guests, ledger.scenarios, request) as forks:
            try:
                return run_showing(forks, ledger, request, progress, jobs, on_event)
            finally:
                progress.close()
                if forks.origins.booted:
                    note(forks.origins.sentence)

    return batch


def run_sweep(
    scenario: Scenario, choice: SweepChoice, kernel: str, again: str, ready: Callable[[Sweeper], Batch], boot: str = ""
) -> int:
    """Sweep, write the findings and the reports, and print what was found; the exit code.

    ``kernel`` names the kernel, ``again`` begins the command that runs a scenario on it. ``ready`` makes
    ready what runs the trials. ``boot`` is the id of this boot, if a trial may end it.
    """
    directory = choice.directory(scenario.file)
    with SweepJournal(directory, resume=choice.resume) as journal:
        if journal.cut:
            note(f"the last line of {directory / NAME} was cut, and is taken away")
        text = Path(scenario.file).read_text(encoding="utf-8")
        seed = secrets.randbits(32)
        sweeper = Sweeper(scenario, text, choice.options(scenario), journal, kernel, seed, boot=boot)
        for words in sweeper.blame_boots():
            note(words)
        for words in Investigation(sweeper, journal, choice.known, choice.reproduce, seed).blame_boots():
            note(words)
        interrupted = False
        try:
            batch = ready(sweeper)
            _make(sweeper, batch, choice.only, directory / NAME)
            if not sweeper.left and not sweeper.is_over():
                _look_into(Investigation(sweeper, journal, choice.known, choice.reproduce, seed), batch)
        except KeyboardInterrupt:
            interrupted = True
        found = Investigation(sweeper, journal, choice.known, choice.reproduce, seed)
        found.run(None)
        end = sweeper.ending(interrupted=interrupted, unfinished=found.unfinished)
        for words in unjudged(sweeper.state.ended.values()):
            note(words)
        if end in NEXT:
            note(f"{NEXT[end]} -o {shlex.quote(str(directory))}")
        status = tell(sweeper, found, directory, again, lambda: _finish(sweeper, end, directory))
        if end is End.UNUSABLE and not sweeper.totals().findings:
            status = ExitStatus.ERROR
        return ExitStatus.INTERRUPTED if interrupted else status


def _make(sweeper: Sweeper, batch: Batch, only: Sequence[str], journal: Path) -> None:
    """Record, look what the scenario does by itself, and make the trials that are left."""
    sweeper.record(batch)
    refuse(sweeper.scenario.name, sweeper.state.points, sweeper.plan, only, journal)
    sweeper.check(batch, note)
    trials = len(sweeper.plan.shots)
    note(f"{len(sweeper.state.points)} points, {trials} trials, {trials - len(sweeper.left)} have ended")
    sweeper.fail(batch, note)


def _look_into(found: Investigation, batch: Batch) -> None:
    """Make new findings smaller, and repeat them."""
    if found.wanted:
        note(f"{found.wanted} new finding{'s' * (found.wanted != 1)}: looking for the smallest scenario of each")
        found.run(batch)


def _finish(sweeper: Sweeper, end: End, directory: Path) -> None:
    """Write the end of the journal, and the reports. Without these nothing is lost: the journal has it all."""
    sweeper.leave()
    sweeper.close(end)
    try:
        write_reports([directory], directory)
    except (InjectError, OSError) as error:
        note(f"the reports are not written: {error}; `inject report {shlex.quote(str(directory))}` writes them")
