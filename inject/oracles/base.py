"""Base class of a check, which runs before the fault, before the unmount, and after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Optional

from inject.fixture.filesystem import Fixture
from inject.kernel.log import LogReader
from inject.model.scenario import Scenario
from inject.model.verdict import Complaint, Reason
from inject.oracles.pages import Held
from inject.process.cgroup import Cgroup


@dataclass(frozen=True)
class Quiet:
    """What the kernel holds before mkfs."""

    allocated: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Memory of the filesystem's call sites (bytes, calls): leaks.allocated()."""
    pages: Optional[Held] = None
    """Pages of all filesystems: pages.held(); None where other programs use pages, too."""


@dataclass(frozen=True)
class Context:
    """What the checks of one trial may use."""

    scenario: Scenario
    fixture: Optional[Fixture]
    """The filesystem, if the scenario has one."""
    log: LogReader
    """Opened before the trial's first marker."""
    cgroup: Cgroup
    """Cgroup of the programs that a check runs; not the workload's."""
    allocated: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Memory of the filesystem's call sites (bytes, calls) before mkfs: leaks.allocated()."""
    pages: Optional[Held] = None
    """Pages that all filesystems held before mkfs: pages.held(); None if they are not compared."""
    patience: Optional[float] = None
    """Seconds that one reader or program may take at most, if the workload hung; None: its own limit."""

    def limit(self, seconds: float) -> float:
        """The time limit of a reader or program whose own is ``seconds``."""
        return seconds if self.patience is None else min(seconds, self.patience)


class Oracle:
    """One check. The trial calls each method once, in the order in which they are defined here.

    A method raises InjectError only if the check itself cannot run, never for a
    failure of the kernel.
    """

    name: ClassVar[str]
    reason: ClassVar[Reason] = Reason.CHECK
    """The verdict's reason if this check fails."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        """What the check left out because it reached a limit; the report of a pass shows it, too."""

    def applies(self, context: Context) -> bool:
        """True if the check makes sense for this scenario."""
        return context.fixture is not None

    def before(self, context: Context) -> None:
        """After ``setup`` and a sync, before arming: record the state to compare with."""

    def settled(self, context: Context) -> None:
        """After disarming and ``recover``, before the unmount."""

    def after(self, context: Context) -> Optional[Complaint]:
        """After the unmount: return what is wrong, or None. Unmounts what it mounts."""
        raise NotImplementedError

    def complaint(
        self, detail: str, log: tuple[str, ...] = (), *, inconclusive: bool = False, notice: bool = False
    ) -> Complaint:
        """A complaint with this check's reason."""
        return Complaint(self.reason, detail, log, inconclusive, notice)


def tail(text: str, lines: int = 20) -> tuple[str, ...]:
    """The last ``lines`` lines that are not empty."""
    return tuple(line.rstrip() for line in text.splitlines() if line.strip())[-lines:]
