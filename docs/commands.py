"""The commands as click knows them, described once for the manual page and for docs/commands.md."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import click

from inject.cli.lazy import contexts

KEPT = "\b\n"
"""How a paragraph of a help text begins if its lines must not be filled."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of a help text; ``kept`` if its lines stand as they are written."""

    lines: tuple[str, ...]
    kept: bool = False
    head: str = ""
    """The title above kept lines: ``Examples:``."""

    @property
    def text(self) -> str:
        """The paragraph on one line."""
        return " ".join(" ".join((self.head, *self.lines)).split())


@dataclass(frozen=True)
class OptionText:
    """An option: its names, what follows them ("" for a flag), and what it does."""

    names: tuple[str, ...]
    value: str
    help: str


@dataclass(frozen=True)
class CommandText:
    """A command: the words that name it, its arguments, its help and its options without hidden ones."""

    words: tuple[str, ...]
    group: bool
    arguments: tuple[str, ...]
    paragraphs: tuple[Paragraph, ...]
    options: tuple[OptionText, ...]


def walk(command: click.Command) -> Iterator[CommandText]:
    """Describe ``command`` and each command below it, a group before its members, without hidden ones."""
    for context in contexts(command):
        one = context.command
        yield CommandText(
            tuple(context.command_path.split()),
            isinstance(one, click.Group),
            tuple(_argument(p) for p in one.params if isinstance(p, click.Argument)),
            tuple(paragraphs(one.help or "")),
            tuple(_option(p) for p in one.params if isinstance(p, click.Option) and not p.hidden),
        )


def paragraphs(text: str) -> Iterator[Paragraph]:
    """Cut a help text into its paragraphs."""
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text).strip()):
        if not part.startswith(KEPT):
            yield Paragraph(tuple(part.splitlines()))
            continue
        head, _, rest = part[len(KEPT) :].partition("\n")
        if head.endswith(":") and rest:
            yield Paragraph(tuple(textwrap.dedent(rest).splitlines()), kept=True, head=head)
        else:
            yield Paragraph(tuple(part[len(KEPT) :].splitlines()), kept=True)


def _argument(argument: click.Argument) -> str:
    if argument.metavar:
        return argument.metavar
    name = argument.human_readable_name.upper()
    return name if argument.required else f"[{name}]"


def _option(option: click.Option) -> OptionText:
    text = option.help or ""
    if option.show_default and option.default is not None:
        text = f"{text} Default: {option.default}."
    return OptionText((*option.opts, *option.secondary_opts), _value(option), text)


def _value(option: click.Option) -> str:
    """What follows the option: the same text with every version of click."""
    if option.is_flag or option.count:
        return ""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    if isinstance(option.type, click.Path):
        return "PATH"
    if option.type.name in ("float", "float range"):
        return "SECONDS"
    if option.type.name in ("integer", "integer range"):
        return "N"
    return option.human_readable_name.upper()
