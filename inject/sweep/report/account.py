"""What a sweep found, from the lines of its journal: each point with its trials, findings by their cause, totals."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inject.model.errorpath import Fate
from inject.model.event import FunctionSkipped
from inject.model.reached import Point, Skipped
from inject.model.text import listed
from inject.model.verdict import Status
from inject.report.jsonl import from_json
from inject.sweep.agenda import UNKNOWN
from inject.sweep.ending import End, end_line
from inject.sweep.journal import Line
from inject.sweep.shot import value_of
from inject.sweep.signature import digest
from inject.sweep.state import SPARED, UNENDED, UNJUDGED, UNREACHED, Ended, Totals, count, state_of

MOST_SHARDS = 10_000
"""Shards of one sweep that are looked for."""


class TrialOutcome(enum.Enum):
    """What came of a point in one trial, as reports say it, the worst first."""

    FINDING = "finding"
    KNOWN = "known finding"
    ERROR = "error"
    UNREACHED = "not reached again"
    SKIPPED = "no trial"
    SWALLOWED = "swallowed"
    """It passed, and a system call succeeded although a call below it failed."""
    PROPAGATED = "propagated"
    """It passed, and the failure reached the workload."""
    PASSED = "passed"


@dataclass(frozen=True)
class Tried:
    """A trial that has ended."""

    ended: Ended
    outcome: TrialOutcome
    mode: str
    seconds: float
    notes: tuple[str, ...] = ()
    how: str = ""
    """How its guest came to be, a fork or a boot; "" if the journal does not say, and on this machine."""
    fate: str = ""
    """What shows where the error went; "" if nothing does."""

    @property
    def said(self) -> str:
        """The outcome and its reason."""
        return f"{self.outcome.value} ({self.ended.reason})" if self.ended.reason else self.outcome.value


@dataclass(frozen=True)
class PointRow:
    """A point and its trials."""

    point: Point
    trials: tuple[Tried, ...]
    why: str
    """Why it was not failed; "" if it was."""
    round: int = 0
    under: str = ""
    """The trial that reached it first; "" for the recording."""

    @property
    def injected(self) -> int:
        """Injections in all its trials. A trial that failed counts one at least, as in the totals."""
        return sum(max(one.ended.injected, one.ended.hit) for one in self.trials)

    @property
    def worst(self) -> TrialOutcome:
        """The outcome that counts for the point."""
        found = {one.outcome for one in self.trials} or {TrialOutcome.SKIPPED}
        if self.injected and TrialOutcome.UNREACHED in found and len(found) > 1:
            found.discard(TrialOutcome.UNREACHED)
        return next(outcome for outcome in TrialOutcome if outcome in found)


@dataclass(frozen=True)
class Group:
    """Findings with one signature."""

    signature: str
    digest: str
    trials: tuple[Tried, ...]
    """The one that is shown comes first."""
    directory: str = ""
    """Where its files are, relative to the journal; "" if that is not known."""
    known: str = ""
    """The sentence that it is known by."""
    runs: int = 0
    failed: int = 0
    faults: int = 0
    lines: tuple[int, int] = (0, 0)
    """Lines of the workload that the reproducer keeps, of how many."""


@dataclass(frozen=True)
class SweepAccount:
    """All of it."""

    head: Line
    kernel: str
    """Release and configuration of the kernel; "" if the journal does not say."""
    rows: tuple[PointRow, ...]
    skipped: tuple[Skipped, ...]
    groups: tuple[Group, ...]
    totals: Totals
    notes: tuple[str, ...]
    seconds: float
    reason: str
    """Why it ended early; "" if it did not."""
    lines: tuple[Line, ...]
    """The journal, with the totals in its last line."""

    @property
    def name(self) -> str:
        """The name of the scenario."""
        return str(self.head["scenario"])

    @property
    def trials(self) -> list[Tried]:
        """All trials, in the order of their points."""
        return [one for row in self.rows for one in row.trials]


def account_of(lines: Sequence[Line]) -> SweepAccount:
    """The account of a journal that `merged` made."""
    state = state_of(lines)
    head, end = lines[0], lines[-1]
    raw = {line["trial"]: line for line in lines if line["type"] == "trial"}
    known = {str(line["signature"]): str(line.get("known") or "") for line in _of(lines, "finding")}
    exits = _exits(_of(lines, "baseline"))
    tried: dict[str, list[Tried]] = {}
    for one in state.ended.values():
        tried.setdefault(one.point, []).append(_tried(one, raw[one.shot], known, exits))
    left = _left(state.points, lines)
    totals = count(state.points, left, list(state.ended.values()))
    told = {line["id"]: line for line in _of(lines, "point")}
    rows = tuple(_row(point, tried.get(point.id, ()), told[point.id], left) for point in state.points)
    trials = [one for row in rows for one in row.trials]
    kernels = [f"{line.get('release', '')} ({line.get('config', '')})" for line in _of(lines, "kernel")]
    return SweepAccount(
        head,
        next(iter(kernels), ""),
        rows,
        tuple(event.skipped for event in map(from_json, _of(lines, "skipped")) if isinstance(event, FunctionSkipped)),
        tuple(_groups(trials, _of(lines, "finding"))),
        totals,
        (*_missing(head), *(str(note) for line in _of(lines, "recorded") for note in line.get("notes", ()))),
        float(end["seconds"]),
        str(end["reason"]),
        (*lines[:-1], {**end_line(totals, End.NOTHING, 0), **end}),
    )


def _exits(baselines: Iterable[Line]) -> set[int]:
    """The workload's exit codes with nothing failing."""
    passed = (line.get("exit") for line in baselines if line.get("status") == Status.PASS.value)
    return {exit for exit in passed if isinstance(exit, int)}


def missing_shards(had: Collection[str]) -> list[str]:
    """The shards of a sweep, as 2/3, that are not among those that are here."""
    parts = {shard.rpartition("/")[2] for shard in had}
    wanted = [f"{number}/{of}" for of in parts if of.isdecimal() for number in range(1, min(int(of), MOST_SHARDS) + 1)]
    return [shard for shard in wanted if shard not in had]


def _missing(head: Line) -> list[str]:
    """A note on shards whose journals are not among those that were merged."""
    missing = missing_shards([str(shard) for shard in head["shards"]])
    return [f"the journals of these shards are not in this report: {listed(missing)}"] if missing else []


def _of(lines: Iterable[Line], kind: str) -> list[Line]:
    return [line for line in lines if line["type"] == kind]


def _left(points: Sequence[Point], lines: Sequence[Line]) -> dict[str, str]:
    """Why points have no trial: as the journal says, or because none can be made."""
    errno = str(lines[0]["errno"])
    said = {str(point): str(line["why"]) for line in _of(lines, "left") for point in line["points"]}
    return {**said, **{point.id: UNKNOWN for point in points if value_of(point, errno) is None}}


def _tried(ended: Ended, line: Line, known: Mapping[str, str], exits: Collection[int]) -> Tried:
    """The trial of a ``line``; ``exits`` are the workload's exit codes with nothing failing."""
    passed, fate = _fate(ended, line, exits)
    if ended.status is Status.FAIL:
        outcome = TrialOutcome.KNOWN if known.get(ended.signature) else TrialOutcome.FINDING
    elif ended.status is not Status.PASS:
        outcome = TrialOutcome.ERROR
    else:
        outcome = passed if ended.injected else TrialOutcome.UNREACHED
    notes = tuple(map(str, line.get("notes", ())))
    return Tried(ended, outcome, str(line["mode"]), float(line["seconds"]), notes, str(line.get("how", "")), fate)


def _fate(ended: Ended, line: Line, exits: Collection[int]) -> tuple[TrialOutcome, str]:
    """What a trial that passed is called, and what shows it: the fates of its errors, or else the exit code."""
    fates = line.get("fates")
    told = {fate: _number(fates.get(fate.value)) for fate in Fate} if isinstance(fates, dict) else {}
    said = [f"{count} {fate.value}" for fate, count in told.items() if count]
    sentences = [f"errors that were followed: {', '.join(said)}"] if said else []
    exit = line.get("exit")
    reached = ended.injected > 0 and isinstance(exit, int) and len(exits) == 1 and exit not in exits
    if reached:
        sentences.append(f"the workload exited with {exit}, and with {next(iter(exits))} if nothing fails")
    if told.get(Fate.SWALLOWED):
        outcome = TrialOutcome.SWALLOWED
    elif reached or told.get(Fate.PROPAGATED) or told.get(Fate.TRANSLATED):
        outcome = TrialOutcome.PROPAGATED
    else:
        outcome = TrialOutcome.PASSED
    return outcome, "; ".join(sentences)


def _row(point: Point, trials: Sequence[Tried], line: Mapping[str, Any], left: Mapping[str, str]) -> PointRow:
    """The point of a ``line``; why it was not failed is what the totals say of it."""
    statuses = {one.ended.status for one in trials}
    if any(one.ended.hit for one in trials):
        why = ""
    elif statuses & {Status.PASS, Status.FAIL}:
        why = SPARED if any(one.ended.spared for one in trials) else UNREACHED
    else:
        why = UNJUDGED if trials else left.get(point.id) or UNENDED
    return PointRow(point, tuple(trials), why, int(line.get("round", 0)), str(line.get("under", "")))


def _groups(trials: Sequence[Tried], findings: Sequence[Line]) -> Iterable[Group]:
    """Findings by their signatures: those that the journal describes, then all others."""
    of: dict[str, list[Tried]] = {}
    for one in trials:
        if one.ended.status is Status.FAIL:
            of.setdefault(one.ended.signature, []).append(one)
    told = {str(line["signature"]): line for line in findings}
    for signature in (*(name for name in told if name in of), *(name for name in of if name not in told)):
        line = told.get(signature, {})
        yield Group(
            signature,
            str(line.get("digest") or digest(signature)),
            tuple(sorted(of[signature], key=lambda one: one.ended.shot != line.get("trial"))),
            str(line.get("directory") or ""),
            str(line.get("known") or ""),
            runs=_number(line.get("runs")),
            failed=_number(line.get("failed")),
            faults=_number(line.get("faults")),
            lines=_pair(line.get("lines")),
        )


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _pair(value: Any) -> tuple[int, int]:
    kept, of = value if isinstance(value, (list, tuple)) and len(value) == 2 else (0, 0)
    return _number(kept), _number(of)
