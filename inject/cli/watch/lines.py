"""`inject watch` without a table: plain lines, for a file, a pipe, or a terminal that cannot place text."""

from __future__ import annotations

import time

import click

from inject.cli.watch.subjects import Subject
from inject.engine.session import Session
from inject.model.event import Injection
from inject.model.text import printable
from inject.report import progress

LOOK = 0.25
"""Seconds between two looks at the counters."""


def announce(reason: str, armed: bool) -> None:
    """Say on standard error why there is no table."""
    idle = "" if armed else "; without --arm no call fails"
    click.echo(f"inject: printing lines instead of a table: {reason}{idle}", err=True)


def follow(session: Session, subject: Subject, timeout: float, interval: float) -> None:
    """Print a line for each injection, and every ``interval`` seconds one for each fault whose counters moved."""
    started = printed = time.monotonic()
    before: dict[int, tuple[str, object]] = {}
    _echo(0.0, f"watching {subject.noun}")
    subject.begin()
    while True:
        over = subject.ended() or ("the time is up" if time.monotonic() - started >= timeout else "")
        for injection in session.tick():
            _echo(time.monotonic() - started, progress.injection_line(injection).strip() + _callers(injection))
        if over or time.monotonic() - printed >= interval:
            printed = time.monotonic()
            for index, row in enumerate(session.rows):
                now = (row.state.value, row.counts)
                if before.get(index) != now:
                    before[index] = now
                    counts = row.counts
                    words = f"seen {counts.seen} matched {counts.matched} injected {counts.injected}"
                    _echo(printed - started, f"{row.fault.function} {row.state.value} {words}")
        if over:
            _echo(time.monotonic() - started, over)
            return
        time.sleep(min(LOOK, interval))


def summary(session: Session, subject: Subject) -> list[str]:
    """The last lines: the counters of each fault, and how the subject ended."""
    lines = []
    for row in session.rows:
        counts = row.counts
        lines.append(f"{row.fault.function}: {counts.seen} seen, {counts.matched} matched, {counts.injected} injected")
    return [*lines, f"{printable(subject.ended() or 'stopped')}; nothing is armed"]


def _callers(injection: Injection) -> str:
    callers = [frame.partition("+")[0] for frame in injection.stack[1:4]]
    return f" < {' < '.join(callers)}" if callers else ""


def _echo(seconds: float, text: str) -> None:
    click.echo(f"{seconds:8.1f}  {printable(text)}")
