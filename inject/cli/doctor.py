"""`inject doctor`: whether injection can work here, and how to fix what is missing."""

from __future__ import annotations

import shutil
import sys
import textwrap

import click

from inject import doctor as diagnosis
from inject.errors import ExitStatus
from inject.kernel.kernel import Kernel
from inject.report.paint import paint, wanted


@click.command()
def doctor() -> int:
    """Say what injection lacks here, and how to fix it.

    Each requirement is one line: ok, no, or -- for one that only some work needs. The
    exit code is 0 if this kernel can run scenarios, else 3.

    \b
    Example:
      inject doctor
    """
    checks = diagnosis.examine(Kernel())
    colour = wanted(sys.stdout)
    width = max(len(check.name) for check in checks)
    room = max(40, shutil.get_terminal_size((100, 24)).columns - width - 8) if sys.stdout.isatty() else 10_000
    for item in checks:
        word, style = {True: ("ok", "green"), False: ("no", "red"), None: ("--", "yellow")}[item.ok]
        text = item.detail + (f". Fix: {item.fix}" if item.fix and item.ok is not True else "")
        first, *rest = textwrap.wrap(text, room, break_long_words=False) or [""]
        click.echo(f"{paint(word, style, colour)}  {item.name:<{width}}  {first}".rstrip())
        for line in rest:
            click.echo(" " * (width + 6) + line)
    here, guests = diagnosis.can_inject(checks), diagnosis.can_boot_guests(checks)
    click.echo(f"\nThis kernel {'can' if here else 'cannot'} run scenarios (`inject run`).")
    click.echo(f"This machine {'can' if guests else 'cannot'} run them in a guest (`inject vm run`).")
    return ExitStatus.OK if here else ExitStatus.CANNOT_RUN
