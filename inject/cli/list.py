"""`inject list`: the error-injectable functions of this kernel."""

from __future__ import annotations

import re
import shutil
import sys
from typing import Optional

import click
from tabulate import tabulate

from inject.cli import completion
from inject.errors import CannotRun
from inject.kernel.btf import Btf, Prototype
from inject.kernel.kernel import Kernel
from inject.kernel.nofail import nofail_of
from inject.kernel.obstacles import gaps, of_function, of_kernel
from inject.kernel.types import Types
from inject.model.glob import to_regex
from inject.model.point import LEGAL_WORDS, FaultPoint

SYSTEM_CALLS = ("__x64_sys_", "__ia32_sys_", "__ia32_compat_sys_", "__x64_compat_sys_", "__arm64_sys_")


@click.command("list")
@click.argument("pattern", default="*", shell_complete=completion.functions)
@click.option(
    "--explain",
    metavar="FUNC",
    shell_complete=completion.functions,
    help="Explain one function: error type, prototype, NOFAIL callers, missed calls.",
)
def list_(pattern: str, explain: Optional[str]) -> None:
    """List the error-injectable functions of this kernel.

    PATTERN is a glob. Without PATTERN, system calls are not listed.

    \b
    Examples:
      sudo inject list 'bch2_*'
      sudo inject list '__x64_sys_*'
      sudo inject list --explain __filemap_add_folio
    """
    kernel = Kernel()
    if explain:
        click.echo(explanation(kernel, explain))
        return
    points = [point for point in kernel.points.all if _asked(point, pattern)]
    if not points:
        raise CannotRun(
            f"no error-injectable function matches {pattern!r}", "`inject list` shows all except system calls"
        )
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


def explanation(kernel: Kernel, function: str) -> str:
    point = kernel.points.find(function)
    lines = [f"{function}: error type {point.error_type.value}, may return {LEGAL_WORDS[point.error_type]}"]
    prototype = _prototype(Types(kernel), point)
    lines.append(f"  prototype: {prototype or 'not in BTF, so its arguments cannot be tested'}")
    lines.append(f"  module: {point.module or 'vmlinux'}")
    others = [name for name in point.names if name != function]
    if others:
        lines.append(f"  other names at the same address: {', '.join(others)}")
    for one in nofail_of(function):
        lines.append(f"  NOFAIL callers: {one.calls} are skipped unless the fault has")
        lines.append(f"    `contract: ignore`, because {one.why} ({one.source})")
    lines += [f"  missed calls: {sentence}" for sentence in gaps(kernel, point)]
    if kernel.symbols.inlined_into(function) is None:
        lines.append("  missed calls: this kernel does not say where functions are inlined")
    lines += [
        f"  cannot be failed in this kernel: {obstacle}"
        for obstacle in (*of_kernel(kernel), *of_function(kernel, point))
    ]
    return "\n".join(lines)
