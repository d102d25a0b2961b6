"""Shell completion: click completes commands and options, this module functions and scenarios."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from inject import scenario as scenarios
from inject.cli.lazy import NAME, VARIABLE
from inject.errors import ExitStatus, InjectError
from inject.kernel.kernel import Kernel

SHELLS = ("bash", "zsh")
SHIPPED = "scenarios"
"""Directory of the scenarios to complete if the command line names no file."""

Items = list[CompletionItem]


def functions(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Error-injectable functions, if the list can be read; system calls only after their prefix."""
    try:
        points = Kernel().points.all
    except InjectError:
        return []
    found = sorted({point.function for point in points if point.function.startswith(incomplete)})
    shown = [name for name in found if incomplete.startswith("__") or not name.startswith("__x64_sys_")]
    return [CompletionItem(name) for name in shown]


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

    It completes commands, options, functions and scenarios. Functions come from the
    list of this kernel, which only root can read. For bash,
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
