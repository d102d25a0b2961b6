"""Where each scenario of a batch stands: the one record that workers, reports and terminal share."""

from __future__ import annotations

import enum
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from inject.model.scenario import Scenario
from inject.model.verdict import Verdict


class Stage(enum.Enum):
    """How far a scenario is."""

    WAITING = "waiting"
    GIVEN = "given"
    """A host was asked to run it."""
    ARMED = "armed"
    """Its host is about to inject, or injects."""
    SETTLED = "settled"
    """It has its verdict."""


@dataclass
class Standing:
    """One scenario and how far it is. ``number`` counts the armings of a batch, from 1; 0 before."""

    scenario: Scenario
    stage: Stage = Stage.WAITING
    number: int = 0
    verdict: Optional[Verdict] = None


class Ledger:
    """Stage and verdict of each scenario. Every method may be called from any thread.

    Names are unique; a method raises KeyError for one that is not in the batch.
    """

    def __init__(self, scenarios: Sequence[Scenario]) -> None:
        self.scenarios = tuple(scenarios)
        self._lock = threading.Lock()
        self._standings = {scenario.name: Standing(scenario) for scenario in scenarios}
        self._armings = 0

    def scenario(self, name: str) -> Scenario:
        """The scenario of this name."""
        return self._standings[name].scenario

    def stage(self, name: str) -> Stage:
        """How far the scenario is."""
        with self._lock:
            return self._standings[name].stage

    def number(self, name: str) -> int:
        """How many scenarios of the batch were armed up to this one."""
        with self._lock:
            return self._standings[name].number

    def give(self, name: str) -> bool:
        """A host takes the scenario; False if it is no longer waiting."""
        with self._lock:
            standing = self._standings[name]
            if standing.stage is not Stage.WAITING:
                return False
            standing.stage = Stage.GIVEN
            return True

    def give_back(self, name: str) -> None:
        """The scenario was given but not begun: it waits again."""
        with self._lock:
            self._standings[name].stage = Stage.WAITING

    def arm(self, name: str) -> None:
        """The host is about to inject."""
        with self._lock:
            standing = self._standings[name]
            self._armings += 1
            standing.stage, standing.number = Stage.ARMED, self._armings

    def settle(self, verdict: Verdict) -> None:
        """The scenario has its verdict."""
        with self._lock:
            standing = self._standings[verdict.scenario]
            standing.stage, standing.verdict = Stage.SETTLED, verdict

    def names(self, stage: Stage) -> list[str]:
        """The scenarios at this stage, in the order of the batch."""
        with self._lock:
            return [name for name, standing in self._standings.items() if standing.stage is stage]

    def verdicts(self) -> list[Verdict]:
        """The verdicts so far, in the order of the batch."""
        with self._lock:
            return [standing.verdict for standing in self._standings.values() if standing.verdict is not None]
