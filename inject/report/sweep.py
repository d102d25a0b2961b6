"""A sweep, for people: findings by signature, what was left out and why, and the line that adds up."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from inject.model.text import listed, printable

SHOWN = 20
"""Signatures that are shown; the journal has all."""


def render(
    findings: Mapping[str, Sequence[str]],
    details: Mapping[str, tuple[str, str]],
    left: Mapping[str, Mapping[str, int]],
    total: str,
    *,
    width: int,
) -> str:
    """The report. ``findings`` has the trials of each signature, ``details`` what one of them
    found, and the command that shows it again.

    ``left`` has for "not reached again" and "skipped" the number of points by why.
    """
    lines: list[str] = []
    for number, (signature, trials) in enumerate(list(findings.items())[:SHOWN], 1):
        lines.append(f"finding {number}: {printable(signature)}")
        detail, command = details[signature]
        lines += textwrap.wrap(
            printable(detail), width, initial_indent="  ", subsequent_indent="  ", break_long_words=False
        )
        lines.append(f"  reproduce: {printable(command)}")
        lines.append(f"  in {len(trials)} trial{'s' * (len(trials) != 1)}: {listed(list(trials), 4)}")
    if len(findings) > SHOWN:
        lines.append(f"[... {len(findings) - SHOWN} more signatures; see the journal ...]")
    for what, reasons in left.items():
        for why, count in sorted(reasons.items(), key=lambda pair: -pair[1]):
            lines.append(f"{what}: {count} point{'s' * (count != 1)}, each {why}")
    return "\n".join([*lines, total]) + "\n"
