"""Options that several commands have, and what they choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import click

from inject import scenario as scenarios
from inject.campaign.shard import Shard
from inject.cli import completion
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Contract, Probe, Scenario
from inject.model.text import listed
from inject.module.demand import demand

MOST_JOBS = 64
"""Guests side by side."""

JOBS_OPTION = click.option(
    "--jobs", type=click.IntRange(1, MOST_JOBS), default=1, show_default=True, help="Number of guests side by side."
)


def chosen_functions(verb: str, marked: str) -> tuple[Callable[..., Any], ...]:
    """Options that choose functions: ``verb`` says what is done with them, ``marked`` names all marked ones."""
    return (
        click.option(
            "--functions",
            multiple=True,
            metavar="GLOB",
            shell_complete=completion.functions,
            help=f"{verb} these: a glob, module:NAME, or {marked}; repeatable.",
        ),
        click.option("--checked", is_flag=True, help="Only functions whose result a caller tests."),
    )


def with_options(command: Callable[..., Any], options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """``command`` with ``options``, which its help shows in their order."""
    for option in reversed(options):
        command = option(command)
    return command


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that runs scenarios."""
    return with_options(
        command,
        (
            click.option(
                "--only",
                multiple=True,
                metavar="NAME",
                shell_complete=completion.names,
                help="Run only the scenario with this name; repeatable.",
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
            shard_option("Run only part I of N, for N machines."),
            click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), help="Repeat a run's random decisions."),
            click.option("--no-skip", is_flag=True, help="Exit with 3 if a scenario cannot run here."),
            click.option("--probe", type=click.Choice([p.value for p in Probe]), default="auto", help="How to attach."),
            click.option("--trace", is_flag=True, help="Trace every injected error up to its system call (slower)."),
            click.option("-v", "--verbose", is_flag=True, help="Print a line for every injection."),
            click.option("-q", "--quiet", is_flag=True, help="Print only the summary line."),
        ),
    )


MODULE_OPTION = click.option("--module", is_flag=True, help="Load inject's kernel module if a fault needs it.")


def module_for(
    kernel: Kernel, types: Types, asked: bool, functions: Iterable[str], probe: Probe = Probe.AUTO
) -> Callable[[Iterable[str]], None]:
    """Load inject's module if one of ``functions`` or ``probe`` needs it; the returned function does so for others.

    When the command ends the module is unloaded, unless another process uses it.
    """
    need = click.get_current_context().with_resource(demand(kernel, types, asked=asked, probe=probe))
    need.require(functions)
    return need.require


def _parse_shard(_ctx: click.Context, _param: click.Parameter, text: str) -> Shard:
    """The Shard for ``I/N``."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def shard_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --shard; ``text`` is its help."""
    return click.option("--shard", metavar="I/N", callback=_parse_shard, default="1/1", help=text)


def chosen(files: Sequence[str], only: Sequence[str], shard: Shard) -> list[Scenario]:
    """The scenarios of ``files``, or those named in ``only``, that are in ``shard``.

    Raises ScenarioErrors, or UsageError for a name that no scenario has.
    """
    found = scenarios.load(files)
    if not only:
        return shard.part(found)
    names = {scenario.name for scenario in found}
    for name in only:
        if name not in names:
            raise click.UsageError(f"no scenario is called {name}; there are {listed(sorted(names))}")
    return shard.part([scenario for scenario in found if scenario.name in only])


def forced(scenario: Scenario) -> Scenario:
    """``scenario`` with ``contract: ignore`` in each fault."""
    return replace(scenario, faults=tuple(replace(fault, contract=Contract.IGNORE) for fault in scenario.faults))
