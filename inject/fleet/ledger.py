"""The record of how far each scenario of a batch is, which workers, reports and terminal share."""

from __future__ import annotations

import enum
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from inject.model.event import PointReached
from inject.model.scenario import Scenario
from inject.model.verdict import Verdict


class Stage(enum.Enum):
    """Progress of a scenario."""

    WAITING = "waiting"
    GIVEN = "given"
    """A host was asked to run it."""
    ARMED = "armed"
    """Its host is about to inject, or injects."""
    SETTLED = "settled"
    """It has its verdict."""


class Start(enum.Enum):
    """How the host of a scenario came to be."""

    BOOT = "boot"
    FORK = "fork"
    """It continued from one that was saved when all was ready for the faults."""


@dataclass
class Standing:
    """One scenario and how far it is. ``number`` counts the armings of a batch, from 1; 0 before."""

    scenario: Scenario
    stage: Stage = Stage.WAITING
    number: int = 0
    verdict: Optional[Verdict] = None
    start: Optional[Start] = None
    """None before a guest got it, and on this machine."""


class Ledger:
    """Stage and verdict of each scenario. Every method may be called from any thread.

    Names are unique; a method raises KeyError for one that is not in the batch.
    """

    def __init__(self, scenarios: Sequence[Scenario]) -> None:
        self.scenarios = tuple(scenarios)
        self._lock = threading.Lock()
        self._standings = {scenario.name: Standing(scenario) for scenario in scenarios}
        self._armings = 0

    def add(self, scenario: Scenario) -> None:
        """Let one more scenario wait, also while the batch runs; its host must be one that the batch has."""
        with self._lock:
            self.scenarios = (*self.scenarios, scenario)
            self._standings[scenario.name] = Standing(scenario)

    def scenario(self, name: str) -> Scenario:
        """The scenario of this name."""
        return self._standings[name].scenario

    def stage(self, name: str) -> Stage:
        """The stage of the scenario."""
        with self._lock:
            return self._standings[name].stage

    def number(self, name: str) -> int:
        """Number of scenarios of the batch that were armed up to this one."""
        with self._lock:
            return self._standings[name].number

    def give(self, name: str) -> bool:
        """Give the scenario to a host; False if it is no longer waiting."""
        with self._lock:
            standing = self._standings[name]
            if standing.stage is not Stage.WAITING:
                return False
            standing.stage = Stage.GIVEN
            return True

    def give_back(self, name: str) -> None:
        """Let the scenario wait again; it was given but not begun."""
        with self._lock:
            standing = self._standings[name]
            standing.stage, standing.start = Stage.WAITING, None

    def place(self, name: str, start: Start) -> None:
        """Note how the host came to be that gets the scenario."""
        with self._lock:
            self._standings[name].start = start

    def start(self, name: str) -> Optional[Start]:
        """How the host of the scenario came to be; None if no guest got it."""
        with self._lock:
            return self._standings[name].start

    def arm(self, name: str) -> None:
        """Note that the host is about to inject."""
        with self._lock:
            standing = self._standings[name]
            self._armings += 1
            standing.stage, standing.number = Stage.ARMED, self._armings

    def reach(self, event: PointReached) -> None:
        """Note a point that an armed scenario reached, which comes before its verdict."""

    def settle(self, verdict: Verdict) -> None:
        """Record the verdict."""
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
