"""What a shell offers at TAB: commands and options by click, names of functions and scenarios by us."""

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
"""Where scenarios are looked for when none are named yet."""

Items = list[CompletionItem]


def functions(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Tagged functions of this kernel, where its list can be read; system calls once they are asked for."""
    try:
        points = Kernel().points.all
    except InjectError:
        return []
    found = sorted({point.function for point in points if point.function.startswith(incomplete)})
    shown = [name for name in found if incomplete.startswith("__") or not name.startswith("__x64_sys_")]
    return [CompletionItem(name) for name in shown]


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Whatever the shell finds."""
    return [CompletionItem(incomplete, type="file")]


def functions_or_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Functions, and where none begins so, files."""
    return functions(ctx, param, incomplete) or files(ctx, param, incomplete)


def names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Scenarios of the files on the line, or of the folder that is shipped; those named already are left out."""
    given: Sequence[str] = ctx.params.get("files") or (SHIPPED,)
    found, _errors = scenarios.load_all(given)
    taken = set(ctx.params.get("only") or ())
    return [CompletionItem(one.name) for one in found if one.name.startswith(incomplete) and one.name not in taken]


def answer(cli: click.Command) -> int:
    """Print what the shell asked for; silent where nothing can be said, for it would land in the command line."""
    try:
        return shell_complete(cli, {}, NAME, VARIABLE, os.environ[VARIABLE])
    except (click.ClickException, click.exceptions.Exit, InjectError, OSError, KeyError, ValueError):
        return ExitStatus.FAIL


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options, functions and scenarios.

    Functions are those of this kernel's list, which only root may read. For bash
    put the first line into ~/.bashrc, for zsh the second into ~/.zshrc, after its
    `autoload -U compinit; compinit`.

    \b
    Examples:
      eval "$(inject completion bash)"
      eval "$(inject completion zsh)"
    """
    chosen = get_completion_class(shell)
    assert chosen is not None
    click.echo(chosen(ctx.find_root().command, {}, NAME, VARIABLE).source())
