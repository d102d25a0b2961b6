"""The manual page inject(1), in mdoc, made of the commands as click knows them.

click-man does not fit: it needs Python 3.11, makes a page for each command, and fills
what help texts mark as lines to be kept.
"""

from __future__ import annotations

import datetime
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from inject.cli import cli
from inject.cli.lazy import contexts, path_of

KEPT = "\b\n"
"""What click's help texts begin a paragraph with whose lines are to be kept."""

WIDTH = 74

INTRODUCTION = """\
.Sh NAME
.Nm inject
.Nd make tagged kernel functions fail on purpose, and learn whether the kernel copes
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
Where kernels and guest images are kept;
by default
.Pa $XDG_CACHE_HOME/inject
or
.Pa ~/.cache/inject .
.It Ev NO_COLOR
If it is set to anything, there is no colour, not even on a terminal.
.El
.Sh EXIT STATUS
.Bl -tag -width "128"
.It 0
Everything passed.
.It 1
A scenario failed: a finding.
.It 2
Wrong usage, or an invalid scenario.
.It 3
It cannot run here, or a scenario was skipped under
.Fl -no-skip .
.It 4
An error of
.Nm
or of the machine, never of the kernel under test.
.It 128
The guest never gave an answer.
.It 130
Interrupted.
.El
.Pp
.Nm Cm fail
and
.Nm Cm vm exec
end with the exit code of the command that they ran.
.Sh SEE ALSO
bpf-helpers(7), qemu-system-x86_64(1), and
.Pa Documentation/fault-injection/fault-injection.rst
in the source of the kernel.
"""

_CALLED = re.compile(r"[A-Z%][a-zA-Z][a-z]?|[.,:;()\[\]?!|]")
"""Words that mdoc would take for a macro or for punctuation."""


def page(date: datetime.date) -> str:
    """The page as of ``date``."""
    lines = [f".Dd {date:%B} {date.day}, {date.year}", ".Dt INJECT 1", ".Os"]
    lines += INTRODUCTION.splitlines()
    context, *inner = contexts(cli)
    lines += [".Sh DESCRIPTION", *_help(cli, skip=("Exit codes",)), ".Pp", "The options are:", *_options(context)]
    lines.append(".Sh COMMANDS")
    for each in inner:
        lines += _section(each)
    return "\n".join([*lines, *END.splitlines()]) + "\n"


def _section(context: click.Context) -> Iterator[str]:
    command = context.command
    yield f".Ss {context.command_path}"
    usage = "".join(f" Cm {_word(word)}" for word in path_of(context))
    options = " Op Ar option ..." if _shown(command) else ""
    yield f".Nm{usage}{options}"
    for argument in command.params:
        if isinstance(argument, click.Argument):
            name = argument.metavar or argument.human_readable_name.upper()
            yield f".Ar {' '.join(_word(word) for word in name.split())}"
    if isinstance(command, click.Group):
        yield ".Ar command"
    yield ".Pp"
    yield from _help(command)
    if _shown(command):
        yield from _options(context)


def _help(command: click.Command, skip: Sequence[str] = ()) -> Iterator[str]:
    """The help text: paragraphs filled, those that click keeps line by line literal."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(command.help or "").strip())
    for number, paragraph in enumerate(paragraphs):
        kept = paragraph.startswith(KEPT)
        body = paragraph.replace(KEPT, "", 1)
        if skip and body.startswith(tuple(skip)):
            continue
        head, _, rest = body.partition("\n")
        begun = bool(kept and head.endswith(":") and rest)
        if number and (begun or not kept):
            yield ".Pp"
        if not kept:
            yield from _filled(body)
            continue
        if begun:
            yield _text(head)
        yield ".Bd -literal -offset indent"
        for line in textwrap.dedent(rest if begun else body).splitlines():
            yield from _folded(line)
        yield ".Ed"


def _filled(text: str) -> Iterator[str]:
    """Lines of running text, each sentence on lines of its own."""
    for sentence in re.split(r"(?<=[.!?;:]) +(?=[A-Z(])|(?<=[.!?]) +", " ".join(text.split())):
        yield from (_text(line) for line in textwrap.wrap(sentence, WIDTH, break_on_hyphens=False))


def _folded(line: str) -> Iterator[str]:
    """A line that is kept; a command that is too long goes on in the next, as a shell reads it."""
    while len(line) > WIDTH:
        at = max(line.rfind(" --", 0, WIDTH - 2), line.rfind(" '", 0, WIDTH - 2))
        if at <= len(line) - len(line.lstrip()):
            break
        yield _text(f"{line[:at]} \\")
        line = f"     {line[at + 1 :]}"
    yield _text(line)


def _shown(command: click.Command) -> list[click.Option]:
    return [p for p in command.params if isinstance(p, click.Option) and not p.hidden]


def _options(context: click.Context) -> Iterator[str]:
    yield ".Bl -tag -width Ds"
    for option in _shown(context.command):
        names = [f"Fl {_word(name[1:])}" for name in [*option.opts, *option.secondary_opts]]
        yield f".It {' , '.join(names)}{_value(option)}"
        yield from _filled(option.help or "")
        if option.show_default and option.default is not None:
            yield _text(f"Default: {option.default}.")
    yield f".It {' , '.join(f'Fl {_word(name[1:])}' for name in context.help_option_names)}"
    yield "Show the command's help."
    yield ".El"


def _value(option: click.Option) -> str:
    """What follows the option, as click would call it, but the same with all its versions."""
    if option.is_flag or option.count:
        return ""
    if option.metavar:
        name = option.metavar
    elif isinstance(option.type, click.Choice):
        name = "|".join(map(str, option.type.choices))
    elif isinstance(option.type, click.Path):
        name = "PATH"
    elif option.type.name in ("integer", "integer range", "float", "float range"):
        name = "N"
    else:
        name = option.human_readable_name.upper()
    return f" Ar {_word(name)}"


def _word(text: str) -> str:
    """One word behind a macro."""
    plain = text.replace("\\", "\\e").replace('"', "\\(dq").replace("-", "\\-")
    closed = f"{plain}\\&" if text.endswith((")", "]")) else plain
    return f"\\&{closed}" if _CALLED.fullmatch(text) else closed


def _text(line: str) -> str:
    """A line of text, none of which is a command to roff."""
    plain = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def main(path: Path) -> None:
    """Write the page, with today's date unless nothing but that would change."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    old = path.read_text() if path.exists() else ""
    if old != page(date_of(old) or today):
        path.write_text(page(today))


def date_of(text: str) -> datetime.date | None:
    """Of the page in ``text``; None where it is none."""
    match = re.match(r"\.Dd (\w+ \d+, \d+)\n", text)
    return datetime.datetime.strptime(match[1], "%B %d, %Y").date() if match else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
