"""The manual page inject(1) in mdoc, rendered from the commands as docs/commands.py describes them.

click-man does not fit: it needs Python 3.11, makes a page for each command, and fills
the lines that a help text keeps.
"""

from __future__ import annotations

import datetime
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Optional

import click

from docs.commands import CommandText, Paragraph, walk

ELSEWHERE = "Exit codes:"
"""A part of the help of `inject` that has a section of its own."""

WIDTH = 74

INTRODUCTION = """\
.Sh NAME
.Nm inject
.Nd make error-injectable kernel functions fail, and check whether the kernel copes
.Sh SYNOPSIS
.Nm
.Ar command
.Op Ar option ...
.Op Ar argument ...
"""

END = """\
.Sh ENVIRONMENT
.Bl -tag -width "INJECT_CACHE"
.It Ev INJECT_CACHE
The cache directory, for kernels and guest images;
by default
.Pa $XDG_CACHE_HOME/inject
or
.Pa ~/.cache/inject .
.It Ev NO_COLOR
If it is set and not empty, output has no colour, not even on a terminal.
.El
.Sh EXIT STATUS
.Bl -tag -width "128"
.It 0
Everything passed.
.It 1
A scenario failed.
.It 2
Usage error, or an invalid scenario.
.It 3
This machine or kernel cannot run it, or a scenario was skipped under
.Fl -no-skip .
.It 4
.Nm
or the test machine failed; the kernel was not judged.
.It 128
The guest never answered.
.It 130
Interrupted.
.El
.Pp
.Nm Cm fail
and
.Nm Cm vm exec
exit with the exit code of the command that they ran.
.Sh SEE ALSO
bpf-helpers(7), qemu-system-x86_64(1), and
.Pa Documentation/fault-injection/fault-injection.rst
in the source of the kernel.
"""

_CALLED = re.compile(r"[A-Z%][a-zA-Z][a-z]?|[.,:;()\[\]?!|]")
"""A word that mdoc would take for a macro or for punctuation."""


def page(date: datetime.date, command: click.Command) -> str:
    """Write the page of ``command`` and everything below it as of ``date``."""
    whole, *inner = walk(command)
    lines = [f".Dd {date:%B} {date.day}, {date.year}", ".Dt INJECT 1", ".Os"]
    lines += INTRODUCTION.splitlines()
    described = [one for one in whole.paragraphs if one.head != ELSEWHERE]
    lines += [".Sh DESCRIPTION", *body(described), ".Pp", "The options are:", *_options(whole)]
    lines.append(".Sh COMMANDS")
    for each in inner:
        lines += _section(each)
    return "\n".join([*lines, *END.splitlines()]) + "\n"


def _section(command: CommandText) -> Iterator[str]:
    yield f".Ss {' '.join(command.words)}"
    usage = "".join(f" Cm {_word(word)}" for word in command.words[1:])
    options = " Op Ar option ..." if command.options else ""
    yield f".Nm{usage}{options}"
    for argument in command.arguments:
        yield f".Ar {' '.join(_word(word) for word in argument.split())}"
    if command.group:
        yield ".Ar command"
    yield ".Pp"
    yield from body(command.paragraphs)
    if command.options:
        yield from _options(command)


def body(paragraphs: Sequence[Paragraph]) -> Iterator[str]:
    """Write a help text: kept lines literally, everything else filled."""
    for number, paragraph in enumerate(paragraphs):
        if number and (paragraph.head or not paragraph.kept):
            yield ".Pp"
        if not paragraph.kept:
            yield from _filled(paragraph.text)
            continue
        if paragraph.head:
            yield _text(paragraph.head)
        yield ".Bd -literal -offset indent"
        for line in paragraph.lines:
            yield from _folded(line)
        yield ".Ed"


def _filled(text: str) -> Iterator[str]:
    """Running text, with each sentence on lines of its own."""
    for sentence in re.split(r"(?<=[.!?;:]) +(?=[A-Z(])|(?<=[.!?]) +", text):
        yield from (_text(line) for line in textwrap.wrap(sentence, WIDTH, break_on_hyphens=False))


def _folded(line: str) -> Iterator[str]:
    """A kept line; a command that is too long continues on the next line, as in a shell."""
    while len(line) > WIDTH:
        at = max(line.rfind(" --", 0, WIDTH - 2), line.rfind(" '", 0, WIDTH - 2))
        if at <= len(line) - len(line.lstrip()):
            break
        yield _text(f"{line[:at]} \\")
        line = f"     {line[at + 1 :]}"
    yield _text(line)


def _options(command: CommandText) -> Iterator[str]:
    yield ".Bl -tag -width Ds"
    for option in command.options:
        names = " , ".join(f"Fl {_word(name[1:])}" for name in option.names)
        value = "".join(f" Ar {_word(word)}" for word in option.value.split())
        yield f".It {names}{value}"
        yield from _filled(option.help)
    yield ".It Fl h , Fl \\-help"
    yield "Show the command's help."
    yield ".El"


def _word(text: str) -> str:
    """One word after a macro."""
    plain = text.replace("\\", "\\e").replace('"', "\\(dq").replace("-", "\\-")
    closed = f"{plain}\\&" if text.endswith((")", "]")) else plain
    return f"\\&{closed}" if _CALLED.fullmatch(text) else closed


def _text(line: str) -> str:
    """A line of text without any command to roff."""
    plain = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def renewed(old: str, today: datetime.date, command: click.Command) -> str:
    """Write the page again: with the date of ``old`` if nothing else would change, else as of ``today``."""
    same = page(date_of(old) or today, command)
    return old if old == same else page(today, command)


def date_of(text: str) -> Optional[datetime.date]:
    """Date of the page ``text``; None if it is not a page."""
    match = re.match(r"\.Dd (\w+ \d+, \d+)\n", text)
    return datetime.datetime.strptime(match[1], "%B %d, %Y").date() if match else None
