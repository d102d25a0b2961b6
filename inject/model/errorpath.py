"""Where the error of an injection went."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional


class Fate(enum.Enum):
    """What became of an injected error on its way up to user space."""

    PROPAGATED = "propagated"
    """The system call failed with the same errno."""
    TRANSLATED = "translated"
    """It failed with another."""
    SWALLOWED = "swallowed"
    """It succeeded, in part or whole."""
    BLOCKED = "blocked"
    """It had not come back when the fault was disarmed."""
    UNSEEN = "unseen"
    """There was no system call above, and nobody seen to turn the error into success."""


@dataclass(frozen=True)
class Frame:
    """A function on the way up and what it returned: a number, an error's name, ``void``, ``?`` if not seen."""

    function: str
    returned: str


@dataclass(frozen=True)
class ErrorPath:
    """Where the error of one injection went, or of ``count`` injections that went the same way."""

    fault: int
    function: str
    returned: str
    fate: Fate
    errno: str = ""
    """What the system call failed with."""
    where: str = ""
    """The function that swallowed it, or that was last seen to carry it."""
    call: str = ""
    """The system call, ``write``; "" where none ended."""
    result: Optional[int] = None
    frames: tuple[Frame, ...] = ()
    """The callers, innermost first."""
    count: int = 1
