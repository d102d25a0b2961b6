"""What an oracle is: it looks before the fault, while the filesystem is still mounted, and afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Optional

from inject.fixture.filesystem import Fixture
from inject.kernel.log import LogReader
from inject.model.scenario import Scenario
from inject.model.verdict import Complaint, Reason
from inject.process.cgroup import Cgroup


@dataclass(frozen=True)
class Context:
    """What the oracles of one trial may look at."""

    scenario: Scenario
    fixture: Optional[Fixture]
    """The filesystem, where the scenario has one."""
    log: LogReader
    """Opened before the trial's first marker."""
    cgroup: Cgroup
    """Where tools run; never the workload's."""
    allocated: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Memory of the filesystem's call sites (bytes, calls) before it was made: leaks.allocated()."""


class Oracle:
    """One judge. The runner calls the methods in the order in which they stand here, each once a trial.

    None of them raises for what the kernel did; InjectError means that the
    oracle itself could not work.
    """

    name: ClassVar[str]
    reason: ClassVar[Reason] = Reason.CHECK
    """The verdict's reason if this oracle complains."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        """What was not looked at because a bound was reached; belongs in the report of a pass, too."""

    def applies(self, context: Context) -> bool:
        """Whether there is anything to look at."""
        return context.fixture is not None

    def before(self, context: Context) -> None:
        """After ``setup``, everything synced, before arming: take the baseline."""

    def settled(self, context: Context) -> None:
        """After disarming and ``recover``, before the unmount."""

    def after(self, context: Context) -> Optional[Complaint]:
        """After the unmount: judge. What an oracle mounts here it unmounts again."""
        raise NotImplementedError

    def complaint(
        self, detail: str, log: tuple[str, ...] = (), *, inconclusive: bool = False, notice: bool = False
    ) -> Complaint:
        """A complaint with this oracle's reason."""
        return Complaint(self.reason, detail, log, inconclusive, notice)


def tail(text: str, lines: int = 20) -> tuple[str, ...]:
    """The last ``lines`` lines with something on them."""
    return tuple(line.rstrip() for line in text.splitlines() if line.strip())[-lines:]
