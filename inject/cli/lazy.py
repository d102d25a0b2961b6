"""A group that imports a command when it is used: imports are most of what a short command costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Optional

import click

NAME = "inject"
VARIABLE = "_INJECT_COMPLETE"
"""Environment variable with which a shell asks for completions; it names the shell."""


class Commands(click.Group):
    """A group of commands in the order of their use, not of the alphabet.

    ``homes`` gives for each name the module and the object in it, ``inject.cli.run:run``;
    commands that are added in the usual way come before them.
    """

    def __init__(self, *args: Any, homes: Optional[Mapping[str, str]] = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._homes = dict(homes or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they were added, then in that of the table."""
        return [*self.commands, *self._homes]

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        """The command of this name, imported if it was not; None if there is none."""
        home = self._homes.get(cmd_name)
        if home is None:
            return super().get_command(ctx, cmd_name)
        module, _, name = home.partition(":")
        found = getattr(import_module(module), name)
        assert isinstance(found, click.Command)
        return found


def contexts(
    command: click.Command, parent: Optional[click.Context] = None, name: str = NAME
) -> Iterator[click.Context]:
    """A context for ``command`` and for each command below it, a group before its members, without hidden ones."""
    if command.hidden:
        return
    context = click.Context(command, parent=parent, info_name=name, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None, inner
            yield from contexts(found, context, inner)


def path_of(context: click.Context) -> tuple[str, ...]:
    """Words after `inject` that name the command of ``context``."""
    return tuple(context.command_path.split()[1:])
