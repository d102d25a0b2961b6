"""Lines about long work, such as the build of a kernel, on standard error."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator

import click

from inject.model.text import printable

ELAPSED = re.compile(r", \d[\d.]* (s|min \d+ s|h \d+ min)$")
"""How a line about long work ends."""


class BuildProgress:
    """Shows lines ``SUBJECT: WHAT, ELAPSED``: overwritten in place on a terminal, one below the other otherwise."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._open = ""

    def __call__(self, line: str) -> None:
        """Show ``line``; the next of the same subject takes its place on a terminal."""
        if not self._terminal:
            click.echo(f"inject: {line}", err=True)
            return
        subject = line.partition(":")[0]
        if self._open not in ("", subject):
            self.end()
        room = columns() - 1
        lasting = len(line) > room and not ELAPSED.search(line)  # a remark: neither cut nor replaced
        text = printable(line) if lasting else shortened(printable(line), room)
        click.echo(f"\r\033[K{text}", err=True, nl=lasting)
        self._open = "" if lasting else subject

    def end(self) -> None:
        """Leave the last line standing."""
        if self._open:
            click.echo(err=True)
        self._open = ""


@contextlib.contextmanager
def building() -> Iterator[BuildProgress]:
    """Progress of long work; the last line is left standing."""
    progress = BuildProgress()
    try:
        yield progress
    finally:
        progress.end()


def shortened(line: str, room: int) -> str:
    """``line`` in ``room`` columns; one that is too long loses its middle, not the time at its end."""
    if len(line) <= room:
        return line
    found = ELAPSED.search(line)
    tail = found[0] if found and len(found[0]) <= room // 2 else ""
    return line[: max(0, room - 3 - len(tail))] + "..." + tail


def columns() -> int:
    """Columns of the terminal that standard error is; 80 if it does not say."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80
