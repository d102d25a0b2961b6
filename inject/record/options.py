"""Options of a recording."""

from __future__ import annotations

from dataclasses import dataclass

ROOM = 16384
"""Points that there is room for; each takes 1 KB of the kernel's memory."""
MOST_ROOM = 1 << 20
MOST_NEW = 1000
"""Points that one trial may add to those that are known."""


@dataclass(frozen=True)
class RecordOptions:
    """Which functions are recorded, for which tasks, and how many points there is room for."""

    functions: tuple[str, ...] = ()
    """Globs, names, ``module:NAME`` and families.MARKED; () for what the scenario or the kernel says."""
    checked: bool = False
    """Only functions whose callers look at the result."""
    force: bool = False
    """Also functions whose names promise an effect that a failed call leaves out."""
    any_task: bool = False
    """Calls of any task and in interrupts, not only those of the workload."""
    room: int = ROOM


@dataclass(frozen=True)
class ObserveOptions:
    """What a trial reports of the points that it reaches while something fails: all but those that are known."""

    record: RecordOptions
    known: tuple[str, ...] = ()
    """Their ids."""
    types: tuple[tuple[str, str, str], ...] = ()
    """Functions, their modules and what their failed calls return, as far as it is known: to find out takes time."""
