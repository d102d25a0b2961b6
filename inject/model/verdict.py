"""What a trial showed."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional

from inject.model.errorpath import ErrorPath


class Status(enum.Enum):
    """How a scenario or trial ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"


class Reason(enum.Enum):
    """Why it failed; the order is the precedence when several hold at once."""

    CRASH = "crash"
    HANG = "hang"
    DMESG = "dmesg"
    NOT_INJECTED = "not-injected"
    EXIT = "exit"
    ERRNO = "errno"
    CHECK = "check"
    RECOVER = "recover"
    LIMIT = "limit"


@dataclass(frozen=True)
class Counts:
    """Of one fault: calls seen in scope, calls whose predicates held, calls failed."""

    seen: int = 0
    matched: int = 0
    injected: int = 0
    spared: int = 0
    """Calls that a known contract (NOFAIL) kept from being failed."""
    lost: int = 0
    """Injections that are counted but whose event did not fit the buffer."""


@dataclass(frozen=True)
class Verdict:
    """What a trial showed. ``reason`` is set exactly when ``status`` is FAIL."""

    scenario: str
    status: Status
    reason: Optional[Reason] = None
    detail: str = ""
    trial: int = 0
    counts: tuple[Counts, ...] = ()
    seconds: float = 0.0
    reproduce: str = ""
    finding: str = ""
    """Text of the known bug, where the scenario carries one and it showed."""
    log: tuple[str, ...] = ()
    """Lines that explain a failure: splats, blocked stacks, console tail, output."""
    unusable: str = ""
    """Why this kernel must not run another trial (blocked tasks, an oops); "" if it may."""
    exit: Optional[int] = None
    """The workload's exit code as a shell gives it (128 plus the signal); None if it never ran."""
    notes: tuple[str, ...] = ()
    """What changes no status, but what a reader of a pass, too, must know: a bound that was reached, a repetition."""
    errors: tuple[ErrorPath, ...] = ()
    """Where the injected errors went, each way once; () where nobody asked."""
