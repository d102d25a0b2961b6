"""Commands that look and change nothing: list, check, doctor, schema."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from typing import Optional

import click
from tabulate import tabulate

from inject import doctor as diagnosis
from inject import scenario as scenarios
from inject.cli import completion
from inject.engine.planner import LEGAL_WORDS, Planner, Types
from inject.errors import CannotRun, ExitStatus, InjectError, ScenarioError
from inject.kernel.btf import Btf, Prototype
from inject.kernel.kernel import Kernel
from inject.kernel.nofail import contracts_of
from inject.kernel.obstacles import gaps, of_function, of_kernel
from inject.model.glob import to_regex
from inject.model.point import FaultPoint
from inject.model.scenario import Scenario
from inject.report.paint import paint, wanted
from inject.scenario.jsonschema import json_schema

SYSTEM_CALLS = ("__x64_sys_", "__ia32_sys_", "__ia32_compat_sys_", "__x64_compat_sys_", "__arm64_sys_")


@click.command("list")
@click.argument("pattern", default="*", shell_complete=completion.functions)
@click.option(
    "--explain",
    metavar="FUNC",
    shell_complete=completion.functions,
    help="Everything that is known of one function.",
)
def list_(pattern: str, explain: Optional[str]) -> None:
    """Functions of this kernel that are tagged for error injection.

    PATTERN is a glob; system calls are left out unless it names them.

    \b
    Examples:
      sudo inject list 'bch2_*'
      sudo inject list '__x64_sys_*'
      sudo inject list --explain __filemap_add_folio
    """
    kernel = Kernel()
    if explain:
        click.echo(_explanation(kernel, explain))
        return
    points = [point for point in kernel.fault_points if _asked(point, pattern)]
    if not points:
        raise CannotRun(f"no tagged function matches {pattern!r}", "inject list '*' shows all but the system calls")
    types = Types(kernel)
    rows = [(p.function, p.error_type.value, p.module or "vmlinux", _prototype_text(types, p)) for p in points]
    width = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else 0
    table = tabulate(rows, headers=("function", "type", "module", "prototype"), tablefmt="plain")
    click.echo("\n".join(line[:width].rstrip() if width else line for line in table.splitlines()))


def _asked(point: FaultPoint, pattern: str) -> bool:
    if pattern == "*" and point.function.startswith(SYSTEM_CALLS):
        return False
    return re.fullmatch(to_regex(pattern), point.function) is not None


def _prototype(types: Types, point: FaultPoint) -> Optional[Prototype]:
    try:
        btf: Btf = types.of(point.module)
    except CannotRun:
        return None
    return btf.prototype(point.function)


def _prototype_text(types: Types, point: FaultPoint) -> str:
    if point.function.startswith(SYSTEM_CALLS):
        return "system call"
    prototype = _prototype(types, point)
    return str(prototype) if prototype else "not in BTF"


def _explanation(kernel: Kernel, function: str) -> str:
    point = kernel.fault_point(function)
    lines = [f"{function}: tagged {point.error_type.value}, may return {LEGAL_WORDS[point.error_type]}"]
    prototype = _prototype(Types(kernel), point)
    lines.append(f"  prototype: {prototype or 'not in BTF, so its arguments cannot be tested'}")
    lines.append(f"  module: {point.module or 'vmlinux'}")
    others = [name for name in point.names if name != function]
    if others:
        lines.append(f"  other names at the same address: {', '.join(others)}")
    for contract in contracts_of(function):
        lines.append(f"  contract: {contract.calls} are spared unless")
        lines.append(f"    `contract: ignore`, because {contract.why} ({contract.source})")
    lines += [f"  calls that are missed: {sentence}" for sentence in gaps(kernel, point)]
    if kernel.inlined_into(function) is None:
        lines.append("  calls that are missed: this kernel does not say where functions are inlined")
    lines += [f"  cannot be failed here: {obstacle}" for obstacle in (*of_kernel(kernel), *of_function(kernel, point))]
    return "\n".join(lines)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", shell_complete=completion.files)
@click.option("--kernel", "on_kernel", is_flag=True, help="Also resolve every name against this kernel (as root).")
def check(files: tuple[str, ...], on_kernel: bool) -> int:
    """Validate scenarios; every mistake is one line file:line:col.

    \b
    Example:
      inject check scenarios/ my-scenario.yaml
    """
    found, errors = scenarios.load_all(files)
    lines = [str(error) for error in errors]
    notes: list[str] = []
    if on_kernel:
        kernel = Kernel()
        if not kernel.fault_points:  # raises where the list cannot be read: that is no mistake of a scenario
            raise CannotRun("this kernel has no tagged function", "see `inject doctor`")
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
    """What this kernel does not have of what the faults name, and which calls it does not show to a probe.

    Any number will do for devices that are not there yet.
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


@click.command()
def doctor() -> int:
    """Say whether injection can work here, item by item, with the fix for what is missing.

    \b
    Example:
      inject doctor
    """
    checks = diagnosis.examine(Kernel())
    colour = wanted(sys.stdout)
    width = max(len(check.name) for check in checks)
    room = max(40, shutil.get_terminal_size((100, 24)).columns - width - 8) if sys.stdout.isatty() else 10_000
    for item in checks:
        word, style = {True: ("ok", "green"), False: ("no", "red"), None: ("--", "yellow")}[item.ok]
        text = item.detail + (f". Fix: {item.fix}" if item.fix and item.ok is not True else "")
        first, *rest = textwrap.wrap(text, room, break_long_words=False) or [""]
        click.echo(f"{paint(word, style, colour)}  {item.name:<{width}}  {first}".rstrip())
        for line in rest:
            click.echo(" " * (width + 6) + line)
    here, guests = diagnosis.can_inject(checks), diagnosis.can_boot_guests(checks)
    click.echo(f"\nThis kernel {'can' if here else 'cannot'} run scenarios (`inject run`).")
    click.echo(f"This machine {'can' if guests else 'cannot'} run them in a guest (`inject vm run`).")
    return ExitStatus.OK if here else ExitStatus.CANNOT_RUN


@click.command()
def schema() -> None:
    """Print the JSON Schema of the scenario format, for editors.

    \b
    Example:
      inject schema > inject.schema.json
    """
    click.echo(json.dumps(json_schema(), indent=2))
