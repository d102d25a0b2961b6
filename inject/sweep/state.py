"""What a journal says: which points are known, which trials have ended, and how it adds up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from inject.errors import InjectError
from inject.fleet.ledger import Start
from inject.model.event import PointReached
from inject.model.reached import Point
from inject.model.verdict import Counts, Status, Verdict
from inject.report.jsonl import from_json, to_json
from inject.sweep.agenda import Agenda
from inject.sweep.journal import DELETE, Line
from inject.sweep.shot import Origin, Shot, is_single
from inject.sweep.signature import signature

KERNEL_LOG = 50
"""Lines of the kernel's log that a failed trial keeps; the runs that repeat a finding keep all of the verdict's."""


@dataclass(frozen=True)
class Ended:
    """A trial that has ended, as the journal keeps it."""

    shot: str
    point: str
    status: Status
    reason: str
    detail: str
    injected: int
    spared: int
    signature: str
    log: tuple[str, ...] = ()
    kernel_log: tuple[str, ...] = ()
    fired: tuple[int, ...] = ()
    """Injections of each fault; () if the guest died before it told them."""

    @property
    def hit(self) -> bool:
        """True if its point was failed: a lost guest need not have said so. Of two points the first may be to blame."""
        return self.injected > 0 or (self.status is Status.FAIL and is_single(self.shot) and not self.fired)


@dataclass
class SweepState:
    """The state of a sweep: the points, the recording's verdict line, and the last end of each trial."""

    points: list[Point] = field(default_factory=list)
    """Each one once."""
    origins: dict[str, Origin] = field(default_factory=dict)
    """Where each point was found, by its id."""
    recorded: bool = False
    baseline: Optional[float] = None
    """Seconds that the scenario takes if nothing fails; None before it has passed."""
    ended: dict[str, Ended] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    """How often each trial was begun."""
    left: dict[str, str] = field(default_factory=dict)
    """Why points have no trial, by their ids, as the last run that said so has it; "" if they may have one again."""
    under_way: dict[str, str] = field(default_factory=dict)
    """The trials that have begun and not ended, with the boot of the machine that makes them; "" in a guest."""

    @property
    def by_id(self) -> dict[str, Point]:
        """The points by their ids."""
        return {point.id: point for point in self.points}

    @property
    def fired(self) -> set[str]:
        """The trials that injected."""
        return {one.shot for one in self.ended.values() if one.injected}


def state_of(lines: Iterable[Line]) -> SweepState:
    """The state that the ``lines`` of a journal add up to. Points without the end of their recording do not count.

    Raises InjectError that names a line which is not one of a sweep's.
    """
    state = SweepState()
    for number, line in enumerate(lines, 1):
        try:
            _add(state, line)
        except (KeyError, TypeError, ValueError) as error:
            raise InjectError(
                f"line {number} of the journal is damaged: {type(error).__name__}: {error}", DELETE
            ) from None
    return state


def _add(state: SweepState, line: Line) -> None:
    kind = line["type"]
    if kind == "recording":
        state.points, state.origins, state.recorded = [], {}, False
    elif kind == "point":
        event = from_json(line)
        assert isinstance(event, PointReached)
        origin = Origin(int(line.get("round", 0)), str(line.get("under", "")))
        if state.origins.setdefault(event.point.id, origin) is origin:
            state.points.append(event.point)
    elif kind == "recorded":
        state.recorded = line.get("points", len(state.points)) == len(state.points)
    elif kind == "baseline" and line["status"] == Status.PASS.value:
        state.baseline = float(line["seconds"])
    elif kind == "begun":
        state.begun[line["trial"]] = state.begun.get(line["trial"], 0) + 1
        state.under_way[line["trial"]] = str(line.get("boot", ""))
    elif kind == "trial":
        state.ended[line["trial"]] = _ended(line)
        state.under_way.pop(line["trial"], None)
    elif kind == "left":
        state.left.update(dict.fromkeys(map(str, line["points"]), str(line["why"])))
    elif kind == "end":
        state.under_way.clear()  # inject lived longer than the trial: no end of the machine cut it short


def _ended(line: Line) -> Ended:
    return Ended(
        line["trial"],
        line["point"],
        Status(line["status"]),
        line["reason"],
        str(line["detail"]),
        int(line["injected"]),
        int(line["spared"]),
        str(line["signature"]),
        tuple(map(str, line["log"])),
        tuple(map(str, line.get("kernel_log", ()))),
        tuple(map(int, line.get("fired", ()))),
    )


def judged(verdict: Verdict) -> Verdict:
    """``verdict`` as that on a trial: a failure with nothing injected is not of its point, and so an error."""
    if verdict.status is not Status.FAIL or not verdict.counts or any(one.injected for one in verdict.counts):
        return verdict
    detail = f"it failed with nothing injected: {verdict.detail}"
    return replace(verdict, status=Status.ERROR, reason=None, detail=detail)


def point_line(event: PointReached, origin: Origin) -> dict[str, Any]:
    """The journal's line for a point."""
    return {**to_json(event), "round": origin.round, "under": origin.under}


def trial_line(shot: Shot, verdict: Verdict, start: Optional[Start] = None) -> dict[str, Any]:
    """The journal's line for a trial that has ended. Of two faults the last one is that of its point.

    ``start`` is how its guest came to be; None for a trial on this machine.
    """
    verdict = judged(verdict)
    point = verdict.counts[-1] if verdict.counts else Counts()
    return {
        "type": "trial",
        "trial": shot.id,
        "point": shot.point.id,
        "mode": shot.mode.value,
        **({"how": start.value} if start is not None else {}),
        "status": verdict.status.value,
        "reason": verdict.reason.value if verdict.reason else "",
        "detail": verdict.detail,
        "injected": point.injected,
        "spared": point.spared,
        "fired": [counts.injected for counts in verdict.counts],
        "exit": verdict.exit,
        **({"fates": _fates(verdict)} if verdict.errors else {}),
        "seconds": round(verdict.seconds, 3),
        "signature": signature(verdict, shot.point) if verdict.status is Status.FAIL else "",
        "notes": list(verdict.notes),
        "log": list(verdict.log),
        **({"kernel_log": list(verdict.kernel_log[-KERNEL_LOG:])} if verdict.kernel_log else {}),
    }


def _fates(verdict: Verdict) -> dict[str, int]:
    """How many errors of the last fault, that of the point, had each fate, if they were followed."""
    fates: dict[str, int] = {}
    for path in verdict.errors:
        if path.fault == max(0, len(verdict.counts) - 1):
            fates[path.fate.value] = fates.get(path.fate.value, 0) + path.count
    return fates


UNREACHED = "was not reached again"
SPARED = "was reached only for callers that never fail (NOFAIL)"
UNENDED = "has no trial that ended"
UNJUDGED = "has only trials that inject or the machine failed to make"


@dataclass(frozen=True)
class Totals:
    """How a sweep adds up: each point is one of three, each trial one of three."""

    points: int
    injected: int
    unreached: Mapping[str, int]
    """By why."""
    skipped: Mapping[str, int]
    """By why."""
    trials: int
    passed: int
    findings: int
    signatures: int
    errors: int

    @property
    def line(self) -> str:
        """The last line."""
        return (
            f"points {self.points}: {self.injected} injected, {sum(self.unreached.values())} not reached again, "
            f"{sum(self.skipped.values())} skipped; trials {self.trials}: {self.passed} passed, "
            f"{self.findings} findings ({self.signatures} signatures), {self.errors} errors"
        )


def totals(points: Sequence[Point], plan: Agenda, ended: Mapping[str, Ended]) -> Totals:
    """The totals of all trials that have ended, those that are not of ``plan`` as well: an earlier run made them."""
    return count(points, plan.skipped, list(ended.values()))


def count(points: Sequence[Point], left: Mapping[str, str], own: Sequence[Ended]) -> Totals:
    """The totals of the trials ``own``; ``left`` says by their ids why the other points have none."""
    of: dict[str, list[Ended]] = {}
    for one in own:
        of.setdefault(one.point, []).append(one)
    injected, unreached, skipped = 0, dict[str, int](), dict[str, int]()
    for point in points:
        some = of.get(point.id, [])
        if any(one.hit for one in some):
            injected += 1
        elif any(one.status in (Status.PASS, Status.FAIL) for one in some):
            why = SPARED if any(one.spared for one in some) else UNREACHED
            unreached[why] = unreached.get(why, 0) + 1
        else:
            why = UNJUDGED if some else left.get(point.id) or UNENDED
            skipped[why] = skipped.get(why, 0) + 1
    failed = [one for one in own if one.status is Status.FAIL]
    passed = sum(one.status is Status.PASS for one in own)
    return Totals(
        len(points),
        injected,
        unreached,
        skipped,
        len(own),
        passed,
        len(failed),
        len({one.signature for one in failed}),
        len(own) - passed - len(failed),
    )
