"""Lines that a run prints as it goes: what begins, what is injected, how it ends."""

from __future__ import annotations

from inject.model.errorpath import ErrorPath, describe
from inject.model.event import Injection
from inject.model.text import printable
from inject.model.verdict import Status, Verdict
from inject.report.paint import paint, paint_status, status_word

CALLERS = 4
"""Callers shown in a line with a stack trace; the JSON lines have all of them."""


def begin_line(scenario: str, number: int, total: int, colour: bool = False) -> str:
    """``[2/7] page-cache/add-folio-write``; ``number`` counts from 1."""
    return f"{paint(f'[{number}/{total}]', 'dim', colour)} {printable(scenario)}"


def injection_line(injection: Injection) -> str:
    """``  write/123: bch2_x returns -ENOMEM (match 3)``."""
    who = printable(f"{injection.comm}/{injection.tid}")
    return f"  {who}: {injection.function} returns {injection.returned} (match {injection.ordinal})"


def path_line(injection: Injection, most: int = CALLERS) -> str:
    """``dd/123, match 4: bch2_x < bch2_write < ksys_write``: the call and at most ``most`` callers."""
    callers = [frame.partition("+")[0] for frame in injection.stack][1:]
    path = "".join(f" < {caller}" for caller in callers[:most]) + " < ..." * (len(callers) > most)
    return printable(f"{injection.comm}/{injection.tid}, match {injection.ordinal}: {injection.function}{path}")


def error_line(path: ErrorPath, ordinal: int) -> str:
    """``  match 3 of bch2_x: propagated: write(2) failed with ENOSPC``."""
    return f"  match {ordinal} of {path.function}: {describe(path)}"


def verdict_line(verdict: Verdict, colour: bool = False) -> str:
    """``pass smoke/mkdir 0.4 s``; if it is not a pass, the reason follows."""
    name = f"{verdict.scenario} #{verdict.trial}" if verdict.trial else verdict.scenario
    reason = f" ({verdict.reason.value})" if verdict.reason else ""
    first = verdict.detail.splitlines()[0] if verdict.detail and verdict.status is not Status.PASS else ""
    tail = f": {printable(first)}" if first else ""
    word = paint_status(verdict, status_word(verdict), colour)
    return f"{word}{reason} {printable(name)} {verdict.seconds:.1f} s{tail}"
