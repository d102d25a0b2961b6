"""A sweep, for people: findings by signature, what was left out and why, and the line that adds up."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from inject.model.text import listed, printable

SHOWN = 20
"""Signatures that are shown; the journal has all."""


@dataclass(frozen=True)
class ShownFinding:
    """A finding as the report shows it. ``detail`` is what one of its ``trials`` found."""

    signature: str
    detail: str
    trials: Sequence[str]
    command: str
    """The command that shows it again."""
    again: str = ""
    """How often it failed when it was repeated, in words; "" if it was not repeated."""
    known: str = ""
    """Why it is known; "" if it is new."""


def render(
    findings: Sequence[ShownFinding], left: Mapping[str, Mapping[str, int]], total: str, *, width: int, file: str
) -> str:
    """The report: the known findings first, because the new ones must be seen.

    ``left`` has for "not reached again" and "skipped" the number of points by why. ``file`` is what a finding's
    directory has the entry for ``--known`` in.
    """
    lines: list[str] = []
    new = [one for one in findings if not one.known]
    for one in findings:
        if one.known:
            lines.append(f"known: {printable(one.signature)}: {_trials(one)}")
            lines += _indented(one.known, width)
    for number, one in enumerate(new[:SHOWN], 1):
        lines += _finding(number, one, width)
    if len(new) > SHOWN:
        lines.append(f"[... {len(new) - SHOWN} more signatures; see the journal ...]")
    if new:
        lines.append(f"Once a finding is judged, put the entry in its {file} into a file for --known.")
    for what, reasons in left.items():
        for why, count in sorted(reasons.items(), key=lambda pair: -pair[1]):
            lines.append(f"{what}: {count} point{'s' * (count != 1)}, each {why}")
    return "\n".join([*lines, total]) + "\n"


def _finding(number: int, one: ShownFinding, width: int) -> Iterator[str]:
    yield f"finding {number}: {printable(one.signature)}"
    yield from _indented(one.detail, width)
    yield f"  reproduce: {printable(one.command)}{f' ({one.again})' * bool(one.again)}"
    yield f"  in {_trials(one)}"


def _trials(one: ShownFinding) -> str:
    return f"{len(one.trials)} trial{'s' * (len(one.trials) != 1)}: {listed(list(one.trials), 4)}"


def _indented(text: str, width: int) -> list[str]:
    return textwrap.wrap(printable(text), width, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
