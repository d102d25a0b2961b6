"""The ledger of a sweep's trials: what happens is told to the sweep before it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from inject.fleet.ledger import Ledger, Stage
from inject.model.event import PointReached
from inject.model.scenario import Scenario
from inject.model.verdict import Verdict


class SweepLedger(Ledger):
    """A ledger that tells ``begin`` what a worker gives to its host, ``reached`` a point that a trial reached, and
    ``end`` a verdict, before either counts.

    Nothing waits any more once ``is_over`` says so.
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        begin: Callable[[str], None],
        end: Callable[[Verdict], None],
        is_over: Callable[[], bool] = lambda: False,
        reached: Callable[[PointReached], None] = lambda _: None,
    ) -> None:
        super().__init__(scenarios)
        self._begin = begin
        self._end = end
        self._is_over = is_over
        self._reached = reached

    def names(self, stage: Stage) -> list[str]:
        """The scenarios at this stage, in the order of the batch."""
        return [] if stage is Stage.WAITING and self._is_over() else super().names(stage)

    def give(self, name: str) -> bool:
        """Give the scenario to a host; False if it is no longer waiting."""
        given = super().give(name)
        if given:
            self._begin(name)
        return given

    def reach(self, event: PointReached) -> None:
        """Note a point that a trial reached."""
        self._reached(event)

    def settle(self, verdict: Verdict) -> None:
        """Record the verdict."""
        self._end(verdict)
        super().settle(verdict)
