"""A sweep in which nothing can be failed, and why: that is no sweep that found nothing. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from inject.errors import CannotRun, ExitStatus, InjectError
from inject.model.reached import Point
from inject.model.text import shown
from inject.sweep.agenda import ELSEWHERE, Agenda


class NoSuchPoint(InjectError):
    """What --only says is no point."""

    status = ExitStatus.USAGE


def refuse(name: str, points: Sequence[Point], plan: Agenda, only: Sequence[str], journal: Path) -> None:
    """Raise InjectError, with the next step, if the scenario ``name`` has no trials, or a word of ``only`` no point."""
    if not points:
        raise CannotRun(
            f"the workload of {name} reaches none of the functions that are recorded",
            "choose others (--functions); `inject vm record --verbose` lists those that were left out",
        )
    for word in only:
        if not any(point.id.startswith(word) for point in points):
            raise NoSuchPoint(
                f"no point's name begins with {shown(word)} (--only)", f"{journal} has the names of all {len(points)}"
            )
    whys = Counter(plan.skipped.values())
    if not plan.shots and ELSEWHERE not in whys:
        words = "; ".join(f"{count} {why}" for why, count in whys.most_common())
        raise CannotRun(f"none of the points of {name} can be failed: {words}", "choose other --functions")
