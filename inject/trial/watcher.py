"""What a trial asks of somebody who watches the points that it reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from inject.engine.engine import Engine
from inject.model.reached import Point
from inject.model.scenario import Scenario
from inject.process.cgroup import Cgroup


class PointWatcher(Protocol):
    """Attached before the trial's faults are known, armed with them, asked after the workload."""

    def attach(self, scenario: Scenario, engine: Engine) -> None:
        """Attach, disarmed, unless it is attached already."""

    def arm(self, group: Cgroup) -> None:
        """Watch the tasks of ``group`` from the first injection on."""

    def disarm(self) -> None:
        """Stop watching; any thread may call it."""

    def take(self) -> tuple[Sequence[Point], Sequence[str]]:
        """The points that were not known, and notes on what was lost."""
