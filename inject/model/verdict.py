"""The verdict on a trial."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional

from inject.model.errorpath import ErrorPath


class Status(enum.Enum):
    """Status of a scenario or trial."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"


class Reason(enum.Enum):
    """Reason of a failure. If several apply, the first in this order counts."""

    CRASH = "crash"
    HANG = "hang"
    DMESG = "dmesg"
    NOT_INJECTED = "not-injected"
    EXIT = "exit"
    ERRNO = "errno"
    CHECK = "check"
    RECOVER = "recover"


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong with a trial: ``detail`` in one sentence, ``log`` as evidence."""

    reason: Reason
    detail: str
    log: tuple[str, ...] = ()
    inconclusive: bool = False
    """The evidence is incomplete, or a program is missing: an error, not a verdict on the kernel."""
    notice: bool = False
    """It only says that a filesystem went read-only: the complaint of another check explains that and replaces it."""
    parts: tuple[tuple[str, ...], ...] = ()
    """Lines of each failure, if it is several in one: a known failure must explain each of them."""


@dataclass(frozen=True)
class Counts:
    """Calls of one fault: seen in scope, matched by all conditions, injected."""

    seen: int = 0
    matched: int = 0
    injected: int = 0
    spared: int = 0
    """Calls that were skipped because their caller is NOFAIL."""
    lost: int = 0
    """Injections that are counted, but whose event did not fit into the buffer."""
    unread: int = 0
    """Calls whose string argument was not in memory, so that it was not compared and the call did not match."""
    missed: int = 0
    """Calls at most that the probe did not see, because a BPF program was busy on that CPU; the rest are exact."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a trial. ``reason`` is set if and only if ``status`` is FAIL."""

    scenario: str
    status: Status
    reason: Optional[Reason] = None
    detail: str = ""
    trial: int = 0
    counts: tuple[Counts, ...] = ()
    seconds: float = 0.0
    workload: float = 0.0
    """Seconds of ``seconds`` in which ``run`` ran; 0 if it never did."""
    reproduce: str = ""
    finding: str = ""
    """Text of the known failure, if the scenario has one and it occurred."""
    log: tuple[str, ...] = ()
    """Lines that explain a failure: splats, stacks of blocked tasks, the console's end, output."""
    kernel_log: tuple[str, ...] = ()
    """The last lines of the kernel's log in a trial that failed; () if its log was not checked."""
    unusable: str = ""
    """Why this kernel must not run another trial (blocked tasks, an oops); "" if it may."""
    exit: Optional[int] = None
    """The workload's exit code as in a shell (128 plus the signal); None if it never ran."""
    notes: tuple[str, ...] = ()
    """Remarks that do not change the status, such as a bound that was reached; shown for a pass too."""
    errors: tuple[ErrorPath, ...] = ()
    """Where the injected errors went, each path once; () if the run did not trace them."""
