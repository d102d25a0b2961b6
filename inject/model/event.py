"""What happens while a trial is armed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Injection:
    """One call that was made to fail, as the kernel reported it."""

    fault: int
    function: str
    returned: str
    value: int
    ordinal: int
    """Which match of its fault this was, from 1."""
    pid: int
    tid: int
    comm: str
    time_ns: int
    """Nanoseconds of CLOCK_MONOTONIC."""
    stack: tuple[str, ...] = ()
    """Innermost first, ``symbol+0xoff``."""
