"""`inject list`: the functions of this kernel that can be failed."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Optional

import click

from inject.cli import completion
from inject.cli.explain import Explanation, as_json, cell
from inject.cli.options import module_for
from inject.errors import CannotRun
from inject.fixture.modules import kernel_having
from inject.kernel.btf import Btf, Prototype
from inject.kernel.catalogue import Catalogue, Failable, catalogue
from inject.kernel.kernel import Kernel
from inject.kernel.points import NoList
from inject.kernel.types import Types
from inject.model.glob import to_regex
from inject.model.point import FaultPoint

SYSTEM_CALLS = ("__x64_sys_", "__ia32_sys_", "__ia32_compat_sys_", "__x64_compat_sys_", "__arm64_sys_")


@click.command("list")
@click.argument("pattern", default="*", shell_complete=completion.functions)
@click.option(
    "--all", "all_", is_flag=True, help="Also list functions that are not marked, with their callers' checks."
)
@click.option(
    "--explain",
    metavar="FUNC",
    shell_complete=completion.functions,
    help="Explain one function: error type, prototype, callers, NOFAIL callers, missed calls.",
)
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per line.")
def list_(pattern: str, all_: bool, explain: Optional[str], as_lines: bool) -> None:
    """List the functions of this kernel that can be failed.

    Without --all, these are the error-injectable ones, which are marked ALLOW_ERROR_INJECTION.
    PATTERN is a glob. Without PATTERN, system calls are not listed. With --all, `checks` says
    how many direct calls test the result there, and by which test most of them do.

    \b
    Examples:
      sudo inject list 'bch2_*'
      sudo inject list '__x64_sys_*'
      sudo inject list --all 'ext4_*'
      sudo inject list --explain __filemap_add_folio
    """
    kernel = kernel_having([explain or pattern], Kernel())
    if explain:
        if kernel.is_guest():  # where a fault would load it
            module_for(kernel, Types(kernel), False, [explain])
        told = Explanation(kernel, explain)
        click.echo(json.dumps(told.json()) if as_lines else told.text())
    elif all_:
        _every(kernel, pattern, as_lines)
    else:
        _marked(kernel, pattern, as_lines)


def _marked(kernel: Kernel, pattern: str, as_lines: bool) -> None:
    """Print the error-injection list."""
    try:
        wanted = re.compile(to_regex(pattern))
        points = [point for point in kernel.points.all if _asked(point, pattern, wanted)]
    except NoList as error:
        every = "`inject list --all` lists the functions that inject's module can fail"
        fix = "boot --kernel test for marked ones" if kernel.is_guest() else error.hint
        raise CannotRun(error.message, f"{fix}; {every}") from None
    if not points:
        raise CannotRun(
            f"no error-injectable function matches {pattern!r}",
            "`inject list` shows all except system calls, `inject list --all` those that are not marked",
        )
    types = Types(kernel)
    if as_lines:
        for point in points:
            prototype = _prototype(types, point)
            click.echo(json.dumps(as_json(point, str(prototype) if prototype else "", None, None)))
        return
    rows = [(p.function, p.error_type.value, p.module or "vmlinux", _prototype_text(types, p)) for p in points]
    _print(rows, ("function", "type", "module", "prototype"))


def _every(kernel: Kernel, pattern: str, as_lines: bool) -> None:
    """Print all functions that match, and how many others do that cannot be failed."""
    found = catalogue(kernel, Types(kernel), pattern)
    wanted = re.compile(to_regex(pattern))
    shown = [one for one in found.entries if _asked(one.point, pattern, wanted)]
    if not shown and not found.left_out:
        raise CannotRun(f"no function matches {pattern!r}", "`inject list --all` shows those that can be failed")
    if as_lines:
        for one in shown:
            click.echo(json.dumps({**as_json(one.point, one.prototype, one.checks, one.unsafe), "ftrace": one.ftrace}))
        return
    if shown:
        rows = [_row(one) for one in shown]
        _print(rows, ("function", "type", "checks", "note", "module", "prototype"))
    _tell(found, len(shown))


def _row(one: Failable) -> tuple[str, ...]:
    point = one.point
    notes = [
        "marked" if point.marked else "",
        f"unsafe: {one.unsafe.word}" if one.unsafe else "",
        "" if one.ftrace else "no ftrace",
    ]
    return (
        point.function,
        point.error_type.value,
        cell(one.checks, one.pointer),
        ", ".join(note for note in notes if note),
        point.module or "vmlinux",
        one.prototype or "not in BTF",
    )


def _tell(found: Catalogue, shown: int) -> None:
    """Say on standard error what the table does not show, and what its words mean."""
    lines = [f"inject: {shown} function{'s' * (shown != 1)} can be failed"]
    if found.left_out:
        reasons = (f"{why} ({number})" for why, number in sorted(found.left_out.items()))
        lines.append(f"inject: others cannot, because they {', '.join(reasons)}")
    if found.callers_unknown:
        lines.append(f"inject: their callers' checks are unknown, because {found.callers_unknown}")
    if any(one.unsafe for one in found.entries):
        lines.append("inject: unsafe functions are refused without --force or `contract: ignore`; --explain says why")
    click.echo("\n".join(lines), err=True)


def _print(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> None:
    """Print a table; on a terminal its lines are cut to the width."""
    limit = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else None
    widths = [max(map(len, column)) for column in zip(headers, *rows)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in (headers, *rows))
    click.echo("\n".join(line[:limit].rstrip() for line in lines))


def _asked(point: FaultPoint, pattern: str, wanted: re.Pattern[str]) -> bool:
    """True if ``pattern``, which ``wanted`` is the regular expression of, asks for ``point``."""
    if pattern == "*" and point.function.startswith(SYSTEM_CALLS):
        return False
    return wanted.fullmatch(point.function) is not None


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
