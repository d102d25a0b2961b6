"""One trial of a sweep: one point, failed in one way, perhaps after another one."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from inject.model.point import ErrorType
from inject.model.reached import Point
from inject.model.scenario import Fault, When
from inject.model.trigger import Trigger

CALLERS = 28
"""Callers that a fault compares: the program sees 32 frames, and up to four of these are not callers."""

BESIDE = "+"
"""Stands between the trials of two points in the name of the trial that fails both."""


class Mode(enum.Enum):
    """How often a point is failed."""

    ONCE = "once"
    ONWARD = "onward"
    """Each time it is reached."""


@dataclass(frozen=True)
class Origin:
    """Where a point was found."""

    round: int = 0
    """0: in the recording; else in trials of this round, from 1."""
    under: str = ""
    """The trial that reached it first; "" for the recording."""


RECORDED = Origin()


@dataclass(frozen=True)
class Shot:
    """A point and a mode. ``first`` is failed as well: the point shows up only then."""

    point: Point
    mode: Mode
    first: Optional[Shot] = None

    @property
    def id(self) -> str:
        """The name of the trial; it depends on neither the machine nor the time."""
        own = f"{self.point.id}-{self.mode.value}"
        return f"{self.first.id}{BESIDE}{own}" if self.first is not None else own

    def fault(self, value: str) -> Fault:
        """The fault that fails the point with ``value``."""
        trigger = Trigger(nth=1) if self.mode is Mode.ONCE else Trigger()
        return Fault(self.point.function, value, when=When(stack=self.point.stack[:CALLERS], trigger=trigger))

    def faults(self, errno: str) -> list[Fault]:
        """All its faults, that of the point last; each returns ``errno`` where it can."""
        value = value_of(self.point, errno)
        assert value is not None
        return [*(self.first.faults(errno) if self.first is not None else []), self.fault(value)]


def shot_of(trial: str, points: Mapping[str, Point]) -> Optional[Shot]:
    """The trial of this name, as Shot.id makes it; None if it is not one, or of none of ``points``."""
    names, first = trial.split(BESIDE), None
    for name in names:
        point, _, mode = name.rpartition("-")
        if point not in points or mode not in {one.value for one in Mode}:
            return None
        first = Shot(points[point], Mode(mode), first)
    return first


def points_of(trial: str) -> list[str]:
    """The ids of the points that the trial of this name fails, in the order of its faults."""
    return [part.rpartition("-")[0] for part in trial.split(BESIDE)]


def is_single(trial: str) -> bool:
    """True if the trial of this name fails one point only."""
    return BESIDE not in trial


def value_of(point: Point, errno: str) -> Optional[str]:
    """What a failed call returns, ``errno`` where it can; None if only its callers know which value is a failure."""
    values = {ErrorType.ERRNO: errno, ErrorType.ERRNO_NULL: errno, ErrorType.NULL: "NULL", ErrorType.TRUE: "true"}
    return values.get(ErrorType(point.error_type)) if point.error_type else None
