"""Shell completion: click completes commands and options, this module functions and scenarios."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from inject import scenario as scenarios
from inject.cli.lazy import NAME, VARIABLE
from inject.errors import ExitStatus, InjectError
from inject.kernel.kernel import Kernel

LETTERS = 3
"""Letters after which functions that are not marked are completed: there are some 30,000."""
SHELLS = ("bash", "zsh")
SHIPPED = "scenarios"
"""Directory of the scenarios to complete if the command line names no file."""

Items = list[CompletionItem]


def functions(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Functions that can be failed: error-injectable ones, and after a few letters all others.

    System calls are completed only after their prefix.
    """
    kernel = Kernel()
    found: set[str] = set()
    with contextlib.suppress(InjectError):
        found = {point.function for point in kernel.points.all if point.function.startswith(incomplete)}
    if len(incomplete) >= LETTERS:
        found |= set(_unmarked(kernel, incomplete))
    shown = [name for name in sorted(found) if incomplete.startswith("__") or not name.startswith("__x64_sys_")]
    return [CompletionItem(name) for name in shown]


def _unmarked(kernel: Kernel, incomplete: str) -> Iterator[str]:
    """Functions whose names begin with ``incomplete``, and which return what can be an error."""
    # Each command imports this module; only TAB needs these.
    from inject.kernel.functions import NoErrorType, error_type
    from inject.kernel.types import Types, plain_name

    types = Types(kernel)
    try:
        for symbol in kernel.symbols.matching(re.escape(incomplete) + r"[\w.]*"):
            with contextlib.suppress(NoErrorType):
                known = types.prototypes(symbol.module)
                error_type(known.result(plain_name(symbol.name)) if known is not None else None)
                if ".cold" not in symbol.name:
                    yield symbol.name
    except InjectError:
        return


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Files, which the shell completes."""
    return [CompletionItem(incomplete, type="file")]


def functions_or_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Functions, or files if no function matches."""
    return functions(ctx, param, incomplete) or files(ctx, param, incomplete)


def names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Scenarios of the files on the command line, or the shipped ones, without those named already."""
    given: Sequence[str] = ctx.params.get("files") or (SHIPPED,)
    found, _errors = scenarios.load_all(given)
    taken = set(ctx.params.get("only") or ())
    return [CompletionItem(one.name) for one in found if one.name.startswith(incomplete) and one.name not in taken]


def answer(cli: click.Command) -> int:
    """Print the completions; print nothing on errors, because it would appear in the command line."""
    try:
        return shell_complete(cli, {}, NAME, VARIABLE, os.environ[VARIABLE])
    except (click.ClickException, click.exceptions.Exit, InjectError, OSError, KeyError, ValueError):
        return ExitStatus.FAIL


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    It completes commands, options, functions and scenarios. Error-injectable functions come from
    the list of this kernel, which only root can read, all others from its symbols. For bash,
    put the first line into ~/.bashrc; for zsh, the second into ~/.zshrc, after
    `autoload -U compinit; compinit`.

    \b
    Examples:
      eval "$(inject completion bash)"
      eval "$(inject completion zsh)"
    """
    chosen = get_completion_class(shell)
    assert chosen is not None
    click.echo(chosen(ctx.find_root().command, {}, NAME, VARIABLE).source())
