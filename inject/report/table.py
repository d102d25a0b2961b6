"""The table at the end of a run, and below it the evidence for every verdict other than a plain pass."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import Optional

from tabulate import MIN_PADDING, tabulate

from inject.model.errorpath import as_lines
from inject.model.text import duration, printable
from inject.model.verdict import Counts, Status, Verdict
from inject.report.evidence import Evidence, Fired
from inject.report.paint import paint, paint_status, status_word
from inject.report.progress import path_line

LOG_LINES = 40
"""Lines of evidence shown for one verdict; the JSON lines have all of them."""

ERROR_PATHS = 10
"""Different error paths shown for one verdict; the JSON lines have all of them."""

CALLERS = 12
"""Callers shown of the first injection of one verdict; the JSON lines have all of them."""

_LEAST_WIDTH = 72
_HEADERS = ("scenario", "status", "reason", "inj/match/seen", "s")


def render(
    verdicts: Sequence[Verdict],
    *,
    width: int,
    colour: bool,
    errors: bool = False,
    seconds: Optional[float] = None,
    evidence: Optional[Evidence] = None,
) -> str:
    """The whole report as text, at most ``width`` columns wide except for evidence and commands.

    With ``errors`` it also shows, for every verdict, where the injected errors went. ``seconds``
    is the run's duration. From ``evidence`` a verdict that is not a pass shows the first injection.
    """
    width = max(width, _LEAST_WIDTH)
    kept = evidence or Evidence()
    parts = [_table(verdicts, width, colour)]
    for verdict in verdicts:
        if verdict.status is not Status.PASS or verdict.finding or verdict.notes:
            parts.append(_explain(verdict, kept.of(verdict.scenario, verdict.trial), width, colour))
    if errors:
        parts += [_errors(v, colour) for v in verdicts if v.errors]
    parts.append(summary(verdicts, seconds))
    return "\n\n".join(parts) + "\n"


def summary(verdicts: Sequence[Verdict], seconds: Optional[float] = None) -> str:
    """One line: ``5 scenarios: 3 passed, 1 failed, 1 skipped in 41 s``; zeros are left out, except passes."""
    words = [status_word(verdict) for verdict in verdicts]
    counts = [
        (words.count("pass"), "passed"),
        (words.count("finding"), "known failure" if words.count("finding") == 1 else "known failures"),
        (words.count("fail"), "failed"),
        (words.count("skip"), "skipped"),
        (words.count("error"), "errors" if words.count("error") != 1 else "error"),
    ]
    shown = ", ".join(f"{n} {what}" for n, what in counts if n or what == "passed")
    noun = "scenario" if len({v.scenario for v in verdicts}) == len(verdicts) else "trial"
    took = "" if seconds is None else f" in {duration(seconds)}"
    return f"{len(verdicts)} {noun}{'' if len(verdicts) == 1 else 's'}: {shown}{took}"


def _table(verdicts: Sequence[Verdict], width: int, colour: bool) -> str:
    rows = [
        [
            _title(v),
            paint_status(v, status_word(v), colour),
            v.reason.value if v.reason else "",
            _counts(v.counts),
            f"{v.seconds:.1f}",
        ]
        for v in verdicts
    ]
    # Only the name's column shrinks: the width that the others need is known.
    bare = [line for row in _bare(verdicts) for line in zip_longest(*(cell.split("\n") for cell in row), fillvalue="")]
    fixed = [max(len(head) + MIN_PADDING, *(len(line[i]) for line in bare), 0) for i, head in enumerate(_HEADERS)][1:]
    room = max(16, width - sum(fixed) - 2 * len(fixed))
    for row in rows:
        row[0] = _shorten(row[0], room)
    if not rows:
        return tabulate([], headers=_HEADERS, tablefmt="simple")  # tabulate 0.9 looks for the columns to align
    align = ("left", "left", "left", "right", "right")
    return tabulate(rows, headers=_HEADERS, tablefmt="simple", colalign=align, disable_numparse=True)


def _bare(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """The cells without colour, to measure their widths; the name's is not needed."""
    return [
        ["", status_word(v), v.reason.value if v.reason else "", _counts(v.counts), f"{v.seconds:.1f}"]
        for v in verdicts
    ]


def _title(verdict: Verdict) -> str:
    name = printable(verdict.scenario)
    return f"{name} #{verdict.trial}" if verdict.trial else name


def _shorten(name: str, room: int) -> str:
    """Cut the beginning of a name; names differ at their ends."""
    return name if len(name) <= room else "..." + name[len(name) - room + 3 :]


def _counts(counts: Sequence[Counts]) -> str:
    """``1/8/40``, one line for each fault."""
    return "\n".join(f"{c.injected}/{c.matched}/{c.seen}" for c in counts)


def _explain(verdict: Verdict, fired: Fired, width: int, colour: bool) -> str:
    """Heading, detail, evidence, and the command that reproduces it."""
    word = status_word(verdict)
    reason = f" ({verdict.reason.value})" if verdict.reason else ""
    lines = [paint_status(verdict, f"{word}{reason}", colour) + " " + paint(_title(verdict), "bold", colour)]
    if verdict.finding:
        lines += _wrapped(verdict.finding, width)
    if verdict.detail:
        lines += _wrapped(verdict.detail, width)
    if fired.first and verdict.status in (Status.FAIL, Status.ERROR):
        lines += _wrapped(f"first injection in {path_line(fired.first[0], CALLERS)}", width)
    for note in verdict.notes:
        lines += _wrapped(f"note: {note}", width)
    shown = verdict.log[:LOG_LINES]
    lines += [paint("  | " + printable(line), "dim", colour) for line in shown]
    if len(verdict.log) > len(shown):
        lines.append(f"  | [... {len(verdict.log) - len(shown)} more lines; see --json ...]")
    if verdict.unusable:
        lines += _wrapped(f"This kernel must not run another trial: {verdict.unusable}", width)
    if verdict.reproduce and verdict.status in (Status.FAIL, Status.ERROR):
        lines.append(f"  reproduce: {printable(verdict.reproduce)}")
    return "\n".join(lines)


def error_lines(verdict: Verdict) -> list[str]:
    """Each error path, function by function; [] if no error was traced."""
    shown = verdict.errors[:ERROR_PATHS]
    text = [printable(line) for path in shown for line in as_lines(path)]
    if len(verdict.errors) > len(shown):
        text.append(f"[... {len(verdict.errors) - len(shown)} more paths; see --json ...]")
    return text


def _errors(verdict: Verdict, colour: bool) -> str:
    heading = "where the errors went: " + paint(_title(verdict), "bold", colour)
    return "\n".join([heading, *(f"  {line}" for line in error_lines(verdict))])


def _wrapped(text: str, width: int) -> list[str]:
    """Indented by two and wrapped at words; a longer word (a path) stays whole."""
    lines: list[str] = []
    for line in text.splitlines():
        lines += textwrap.wrap(
            printable(line),
            width,
            initial_indent="  ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
