"""Which trials a sweep has, in order, and which points have none, and why. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from inject.model.reached import Point
from inject.sweep.options import SweepOptions
from inject.sweep.shot import CALLERS, RECORDED, Mode, Origin, Shot, is_single, value_of

UNKNOWN = "returns a value of which only its callers know whether it is a failure"
UNASKED = "was not asked for (--only)"
BEYOND = "is beyond the limit of trials (--limit)"
ALIKE = f"differs from another point only above {CALLERS} callers, which no fault compares"
LATE = "was found in the last round (--rounds)"
ELSEWHERE = "belongs to another part of the sweep (--shard)"
ALONE = "belongs to a part of the sweep whose recording did not reach it (--shard)"


@dataclass(frozen=True)
class Agenda:
    """The trials of a sweep, in order, and the points without any, by their ids, with why."""

    shots: tuple[Shot, ...]
    skipped: dict[str, str]
    rounds: dict[str, int] = field(default_factory=dict)
    """The round of each trial, from 1, by its name."""


def agenda(
    points: Sequence[Point],
    options: SweepOptions,
    origins: Mapping[str, Origin] = {},
    fired: Collection[str] = (),
) -> Agenda:
    """All trials of ``points``, round by round.

    ``origins`` says by their ids where points were found, ``fired`` are the trials that injected.
    """
    maker = _Maker(points, options, origins, fired)
    for point in sorted(points, key=lambda point: maker.origin(point).round):
        maker.add(point)
    return Agenda(tuple(maker.shots), maker.skipped, maker.rounds)


class _Maker:
    """An agenda while it grows, point by point."""

    def __init__(
        self,
        points: Sequence[Point],
        options: SweepOptions,
        origins: Mapping[str, Origin],
        fired: Collection[str],
    ) -> None:
        self._points = {point.id: point for point in points}
        self._options = options
        self._origins = origins
        self._fired = fired
        self._asked: set[str] = set()
        self._seen: set[tuple[str, str, tuple[str, ...]]] = set()
        self._room = options.limit
        self.shots: list[Shot] = []
        self.skipped: dict[str, str] = {}
        self.rounds: dict[str, int] = {}

    def origin(self, point: Point) -> Origin:
        """Where ``point`` was found."""
        return self._origins.get(point.id, RECORDED)

    def add(self, point: Point) -> None:
        """Give a point its trials, or say why it has none."""
        origin = self.origin(point)
        asked = self._is_asked(point, origin)
        if asked:
            self._asked.add(point.id)
        shots = self._shots(point, origin)
        alike = (point.function, point.module, point.stack[:CALLERS])
        if not asked:
            self.skipped[point.id] = UNASKED
        elif value_of(point, self._options.errno) is None:
            self.skipped[point.id] = UNKNOWN
        elif alike in self._seen:
            self.skipped[point.id] = ALIKE
        elif origin.round >= self._options.rounds:
            self.skipped[point.id] = LATE
        elif len(shots) > self._room:
            self.skipped[point.id] = BEYOND
        else:
            self._seen.add(alike)
            self._room -= len(shots)
            # What shows up in a trial is known only where that was made, so its trials are made there as well.
            own = [shot for shot in shots if origin.round or self._options.shard.holds(shot.id)]
            self.shots += own
            self.rounds.update(dict.fromkeys((shot.id for shot in own), origin.round + 1))
            if not own:
                self.skipped[point.id] = ELSEWHERE

    def _shots(self, point: Point, origin: Origin) -> list[Shot]:
        first = self._first(origin)
        if first is not None:
            return [Shot(point, Mode.ONCE, first)]
        return [Shot(point, mode) for mode in self._options.modes]

    def _first(self, origin: Origin) -> Optional[Shot]:
        """What else must be failed for a point to show up; None if it is tried alone."""
        if self._options.depth < 2 or origin.under not in self._fired or not is_single(origin.under):
            return None
        point, _, mode = origin.under.rpartition("-")
        return Shot(self._points[point], Mode(mode)) if point in self._points else None

    def _is_asked(self, point: Point, origin: Origin) -> bool:
        only = self._options.only
        if not only or point.id.startswith(only):
            return True
        return any(one.rpartition("-")[0] in self._asked for one in origin.under.split("+"))
