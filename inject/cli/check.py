"""`inject check`: validates scenarios without running them."""

from __future__ import annotations

import click

from inject import scenario as scenarios
from inject.cli import completion
from inject.engine.planner import Planner
from inject.errors import CannotRun, ExitStatus, InjectError, ScenarioError
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Scenario


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", shell_complete=completion.files)
@click.option("--kernel", "on_kernel", is_flag=True, help="Also look up every name in this kernel (as root).")
def check(files: tuple[str, ...], on_kernel: bool) -> int:
    """Validate scenarios; print each error as file:line:col.

    \b
    Examples:
      inject check scenarios/ my-scenario.yaml
      sudo inject check --kernel my-scenario.yaml
    """
    found, errors = scenarios.load_all(files)
    lines = [str(error) for error in errors]
    notes: list[str] = []
    if on_kernel:
        kernel = Kernel()
        if not kernel.points.all:  # raises if the list cannot be read, which is not an error of a scenario
            raise CannotRun("this kernel has no error-injectable function", "see `inject doctor`")
        types = Types(kernel)
        for scenario in found:
            wrong, missed = _resolved(scenario, kernel, types)
            lines += wrong
            notes += missed
    for line in (*lines, *notes):
        click.echo(line)
    if lines:
        return ExitStatus.USAGE
    click.echo(f"{len(found)} scenario{'s' * (len(found) != 1)} valid")
    return ExitStatus.OK


def _resolved(scenario: Scenario, kernel: Kernel, types: Types) -> tuple[list[str], list[str]]:
    """Errors for names of the faults that this kernel does not have, and notes on calls that miss the probe.

    The devices do not exist yet, so any number stands for them.
    """
    count = scenario.filesystem.devices if scenario.filesystem else 0
    names = ("$DEV", "$MNT", *(f"$DEV{number}" for number in range(1, count + 1))) if count else ()
    planner = Planner(kernel, types, 0, dict.fromkeys(names, (0,)))
    lines, notes = [], []
    for index, fault in enumerate(scenario.faults):
        try:
            rule = planner.rule(fault, index)
            notes += [f"{fault.place or scenario.file}: note: {note}" for note in rule.notes]
        except ScenarioError as error:
            lines.append(str(error))
        except InjectError as error:
            lines.append(f"{fault.place or scenario.file}: {error}")
    return lines, notes
