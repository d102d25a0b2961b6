"""The last line of a sweep's journal: how it added up, and what ended it."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Any

from inject.model.verdict import Status
from inject.sweep.agenda import BEYOND, LATE
from inject.sweep.state import Ended, Totals

_NUMBER = re.compile(r"[0-9]+")


class End(enum.Enum):
    """What ended a sweep before all its trials were made."""

    NOTHING = ""
    LIMIT = "limit"
    TIME = "time"
    INTERRUPTED = "interrupted"
    UNUSABLE = "unusable"
    """The kernel of this machine must not run more trials before it boots anew."""


def end_of(totals: Totals, left: bool, *, interrupted: bool = False, unusable: bool = False) -> End:
    """What ended a sweep; ``left``: it has trials that were not made."""
    if interrupted:
        return End.INTERRUPTED
    if left:
        return End.UNUSABLE if unusable else End.TIME
    return End.LIMIT if {BEYOND, LATE} & set(totals.skipped) else End.NOTHING


def end_line(totals: Totals, end: End, seconds: float) -> dict[str, Any]:
    """The journal's last line; ``seconds`` is the time of this run, without those that it resumed."""
    return {
        "type": "end",
        "points": totals.points,
        "injected": totals.injected,
        "unreached": sum(totals.unreached.values()),
        "skipped": sum(totals.skipped.values()),
        "trials": totals.trials,
        "passed": totals.passed,
        "findings": totals.findings,
        "signatures": totals.signatures,
        "errors": totals.errors,
        "seconds": round(seconds, 3),
        "reason": end.value,
    }


NEXT = {
    End.LIMIT: "points are left, because of --limit or --rounds; fail them with a larger one and --resume",
    End.TIME: "trials are left, because the time is over (--time-budget); make them with --resume",
    End.INTERRUPTED: "interrupted; make the trials that are left with --resume",
    End.UNUSABLE: "this kernel must not run more trials; reboot, and make those that are left with --resume",
}
"""What to say about an end before that of all trials."""


def unjudged(ended: Iterable[Ended]) -> list[str]:
    """A sentence for each cause for which trials among ``ended`` were not judged, the most frequent first."""
    causes: dict[str, list[str]] = {}
    for one in ended:
        if one.status in (Status.ERROR, Status.SKIP):
            causes.setdefault(_NUMBER.sub("N", one.detail), []).append(one.detail)
    return [
        f"{len(details)} trial{'s' * (len(details) != 1)} could not be judged: {details[0]}"
        for details in sorted(causes.values(), key=len, reverse=True)
    ]
