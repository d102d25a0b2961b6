"""`inject run`: scenarios replayed on this very kernel."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Optional

import click

from inject import __version__
from inject import scenario as scenarios
from inject.campaign.shard import Shard
from inject.cli import completion
from inject.cli.display import own_arguments, report_file, reporting
from inject.cli.stopping import STOP_OPTION, marking, probe_for
from inject.engine.planner import Planner
from inject.errors import CannotRun, InjectError
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import RunStarted
from inject.model.scenario import Fault, Probe, Scenario
from inject.process.janitor import Janitor
from inject.scenario.shorthand import COMMAND_LINE, BadSyntax
from inject.trial.judge import exit_status
from inject.trial.preflight import config_hash, engine_maker, preflight
from inject.trial.trial import Options, Tools, device_numbers, run_all


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command running scenarios has."""
    for option in reversed(
        (
            click.option(
                "--only",
                multiple=True,
                metavar="NAME",
                shell_complete=completion.names,
                help="Only the scenario of this name; repeatable.",
            ),
            click.option(
                "--json",
                "json_path",
                metavar="FILE",
                shell_complete=completion.files,
                help="Events as JSON lines, as they happen; - for stdout.",
            ),
            click.option(
                "--junit", "junit_path", metavar="FILE", shell_complete=completion.files, help="Verdicts as JUnit XML."
            ),
            click.option("--ktap", is_flag=True, help="Verdicts as KTAP on standard output, in place of the table."),
            click.option(
                "--shard", metavar="I/N", callback=_shard, default="1/1", help="Only part I of N, for N machines."
            ),
            click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), help="Repeat a run's random decisions."),
            click.option("--no-skip", is_flag=True, help="A scenario that cannot run here makes the exit code 3."),
            click.option("--probe", type=click.Choice([p.value for p in Probe]), default="auto", help="How to attach."),
            click.option("--trace", is_flag=True, help="Follow every injected error up to its system call (slower)."),
            click.option("-v", "--verbose", is_flag=True, help="A line for every injection."),
            click.option("-q", "--quiet", is_flag=True, help="Nothing but the summary line."),
        )
    ):
        command = option(command)
    return command


def _shard(_ctx: click.Context, _param: click.Parameter, text: str) -> Shard:
    """``I/N``, as a Shard."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def chosen(files: Sequence[str], only: Sequence[str], shard: Shard) -> list[Scenario]:
    """The scenarios of ``files``, or those named in ``only``, as far as they are in ``shard``.

    Raises ScenarioErrors, or UsageError for a name that none has.
    """
    found = scenarios.load(files)
    if not only:
        return shard.part(found)
    names = {scenario.name for scenario in found}
    for name in only:
        if name not in names:
            raise click.UsageError(f"no scenario is called {name}; there are {', '.join(sorted(names)[:8])}")
    return shard.part([scenario for scenario in found if scenario.name in only])


def resolve(kernel: Kernel, types: Types, faults: Sequence[Fault]) -> None:
    """Refuse what a command line names and this kernel does not have, before anything is started.

    Raises BadSyntax for it, ScenarioError where it stands in a file, CannotRun where the machine lacks something.
    """
    try:
        planner = Planner(kernel, types, 0, device_numbers(None, faults))
    except InjectError as error:
        raise BadSyntax(error.message, error.hint) from None
    for index, fault in enumerate(faults):
        try:
            planner.rule(fault, index)
        except CannotRun:
            raise
        except InjectError as error:
            place = fault.place or (fault.value_places or (None,))[0]
            if place is not None and place.file != COMMAND_LINE:
                raise
            raise BadSyntax(error.message, error.hint) from None


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", shell_complete=completion.files)
@report_options
@click.option("--allow-any", is_flag=True, help="Let `scope: any` fail other tasks of this machine.")
@click.option("--budget", type=click.IntRange(1), help="At most so many injections in the whole run.")
@STOP_OPTION
def run(
    files: tuple[str, ...],
    only: tuple[str, ...],
    json_path: Optional[str],
    junit_path: Optional[str],
    seed: Optional[int],
    no_skip: bool,
    probe: str,
    trace: bool,
    verbose: bool,
    quiet: bool,
    ktap: bool,
    shard: Shard,
    allow_any: bool,
    budget: Optional[int],
    stop_on_injection: bool,
) -> int:
    """Replay scenarios on this kernel.

    \b
    Examples:
      sudo inject run scenarios/disk-reservation/buffered-write.yaml
      sudo inject run scenarios/ --json out.jsonl --junit out.xml
    """
    found = chosen(files, only, shard)
    kernel = Kernel()
    preflight(kernel)
    seed = secrets.randbits(32) if seed is None else seed
    attach = probe_for(probe, stop_on_injection)
    options = Options(seed, allow_any or kernel.is_guest(), budget or 0, attach, trace)
    with (
        report_file(json_path) as report,
        reporting(found, report, verbose=verbose, quiet=quiet, errors=trace, ktap=ktap) as display,
        marking(stop_on_injection, json_path) as mark,
        Janitor() as janitor,
        engine_maker(kernel) as engine,
    ):
        if not found:
            return display.nothing(shard, junit_path)
        display.emit(
            RunStarted(
                version=__version__,
                kernel=kernel.release,
                config_hash=config_hash(kernel),
                seed=seed,
                argv=tuple(own_arguments()),
            )
        )
        tools = Tools(kernel, Types(kernel), engine, janitor, lambda event: display.emit(mark(event)), display.say)
        verdicts = run_all(found, tools, options, begin=display.begin, end=display.end)
        display.finish(verdicts, junit_path)
    return exit_status(verdicts, no_skip=no_skip)
