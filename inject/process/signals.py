"""Signals that end inject: turned into an exception, or blocked during work that must complete."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any, Optional

ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""Ctrl-C, kill(1), and a lost terminal."""


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does, so that inject cleans up.

    A signal that is ignored (nohup) stays ignored.
    """

    def end(_number: int, _frame: Optional[FrameType]) -> None:
        raise KeyboardInterrupt

    numbers = [n for n in sorted(ENDING - {signal.SIGINT}) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_held() -> Iterator[set[Any]]:
    """Block :data:`ENDING` in this thread and in those that it starts; yields the signals blocked before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def signal_name(number: int) -> str:
    """Name of a signal: ``SIGKILL`` for 9, ``signal 77`` if it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
