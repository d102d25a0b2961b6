"""How far a sweep is: points and trials known and done, findings, trials a minute and the time that is left. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Callable, Optional

from inject.model.text import duration
from inject.model.verdict import Status, Verdict
from inject.sweep.shot import Shot

RECENT = 50
"""Trials of which the rate is told."""


class Tally:
    """Counts from the trials ``shots`` of which ``ended`` have ended; each other one is taken once, as it ends.

    ``points`` are known, ``findings`` were found before. Trials may begin for as long as ``seconds`` says;
    ``now`` is a clock.
    """

    def __init__(
        self,
        shots: Sequence[Shot],
        ended: Collection[str],
        *,
        points: int,
        findings: int = 0,
        seconds: Callable[[], Optional[float]] = lambda: None,
        now: Callable[[], float],
    ) -> None:
        self._waiting = {shot.id: shot.point.id for shot in shots if shot.id not in ended}
        self._trials = len(shots)
        self._points = points
        self._findings = findings
        self._seconds = seconds
        self._now = now
        self._started = now()
        self._recent: deque[float] = deque(maxlen=RECENT)

    def take(self, trial: str, verdict: Verdict) -> None:
        """Count a trial of this name that has ended; others do not count."""
        if self._waiting.pop(trial, None) is None:
            return
        self._findings += verdict.status is Status.FAIL
        self._recent.append(self._now())

    def rate(self) -> float:
        """Trials a second, of the recent ones; 0 before two have ended."""
        if len(self._recent) < 2:
            return 0.0
        since = self._recent[0] if len(self._recent) == RECENT else self._started
        counted = len(self._recent) - (len(self._recent) == RECENT)
        return counted / max(self._now() - since, 1e-6)

    def left(self) -> Optional[float]:
        """Seconds until all trials have ended, or none begins any more; None if that is not known."""
        rate, bound = self.rate(), self._seconds()
        by_rate = len(self._waiting) / rate if rate else None
        return min((one for one in (by_rate, bound) if one is not None), default=None)

    def line(self) -> str:
        """``points 37 of 420, trials 74 of 840, 2 findings, 61 a minute, 12 min 5 s left``."""
        done = self._points - len(set(self._waiting.values()))
        words = [
            f"points {done} of {self._points}",
            f"trials {self._trials - len(self._waiting)} of {self._trials}",
            f"{self._findings} finding{'s' * (self._findings != 1)}",
        ]
        rate, left = self.rate(), self.left()
        words += [f"{60 * rate:.{int(rate < 1 / 6)}f} a minute"] if rate else []
        words += [f"{duration(max(left, 0))} left"] if left is not None and self._waiting else []
        return ", ".join(words)
