"""One trial of a sweep: one point, failed in one way."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from inject.model.point import ErrorType
from inject.model.reached import Point
from inject.model.scenario import Fault, When
from inject.model.trigger import Trigger

CALLERS = 28
"""Callers that a fault compares: the program sees 32 frames, and up to four of these are not callers."""


class Mode(enum.Enum):
    """How often a point is failed."""

    ONCE = "once"
    ONWARD = "onward"
    """Each time it is reached."""


@dataclass(frozen=True)
class Shot:
    """A point and a mode."""

    point: Point
    mode: Mode

    @property
    def id(self) -> str:
        """The name of the trial; it depends on neither the machine nor the time."""
        return f"{self.point.id}-{self.mode.value}"

    def fault(self, value: str) -> Fault:
        """The fault that fails the point with ``value``."""
        trigger = Trigger(nth=1) if self.mode is Mode.ONCE else Trigger()
        return Fault(self.point.function, value, when=When(stack=self.point.stack[:CALLERS], trigger=trigger))


def value_of(point: Point, errno: str) -> Optional[str]:
    """What a failed call returns, ``errno`` where it can; None if only its callers know which value is a failure."""
    values = {ErrorType.ERRNO: errno, ErrorType.ERRNO_NULL: errno, ErrorType.NULL: "NULL", ErrorType.TRUE: "true"}
    return values.get(ErrorType(point.error_type)) if point.error_type else None


UNKNOWN = "returns a value of which only its callers know whether it is a failure"
UNASKED = "was not asked for (--only)"
BEYOND = "is beyond the limit of trials (--limit)"
ALIKE = f"differs from another point only above {CALLERS} callers, which no fault compares"


@dataclass(frozen=True)
class Agenda:
    """The trials of a sweep, in order, and the points without any, by their ids, with why."""

    shots: tuple[Shot, ...]
    skipped: dict[str, str]


def agenda(points: Sequence[Point], modes: Sequence[Mode], errno: str, *, only: Sequence[str], limit: int) -> Agenda:
    """All trials: of ``points``, or those with an id that begins as one of ``only``; ``limit`` at most."""
    shots: list[Shot] = []
    skipped: dict[str, str] = {}
    seen: set[tuple[str, str, tuple[str, ...]]] = set()
    for point in points:
        alike = (point.function, point.module, point.stack[:CALLERS])
        if only and not point.id.startswith(tuple(only)):
            skipped[point.id] = UNASKED
        elif value_of(point, errno) is None:
            skipped[point.id] = UNKNOWN
        elif alike in seen:
            skipped[point.id] = ALIKE
        elif len(shots) + len(modes) > limit:
            skipped[point.id] = BEYOND
        else:
            shots += [Shot(point, mode) for mode in modes]
            seen.add(alike)
    return Agenda(tuple(shots), skipped)
