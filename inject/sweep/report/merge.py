"""Journals of the shards of one sweep, merged into the lines of one journal. Pure, except `read`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from inject.errors import InjectError
from inject.model.text import listed, printable, shown
from inject.model.verdict import Reason, Status
from inject.store import read_file
from inject.sweep.agenda import ALONE, ELSEWHERE
from inject.sweep.journal import LARGEST, NAME, Line, lines_of
from inject.sweep.kernel import difference
from inject.sweep.keys import HEAD
from inject.sweep.report.account import missing_shards
from inject.sweep.shot import Mode
from inject.sweep.state import state_of
from inject.sweep.sweeper import ADDED, WHOLE

SAME = ("scenario", "text", "functions", "checked", "errno", "checks", "kernel")
"""What the first lines of all shards agree in."""

PASSING = ("sweep", "round", "reducing", "left")
"""Lines that say what a run is about to do, or that a later one changes: they are not merged one by one."""

INTERRUPTED = "interrupted"
"""Why a sweep ended whose journal does not say so."""


@dataclass(frozen=True)
class Part:
    """A journal: that of a sweep, or of one of its shards. ``cut`` are the bytes of a last line that was not whole."""

    path: Path
    lines: Sequence[Line]
    cut: int = 0

    def at(self, number: int) -> str:
        """The place of a line, counted from 1."""
        return f"{self.path}:{number}"


def read(path: Path) -> Part:
    """The journal at ``path``, or in the directory ``path``; another process may be writing it.

    Raises InjectError if it cannot be read, or is not the journal of a sweep.
    """
    if path.is_dir():
        path = path / NAME
    try:
        data = read_file(path, LARGEST)
    except OSError as error:
        raise InjectError(f"cannot read {path}: {error.strerror}", "name the directory of a sweep") from None
    lines, cut = lines_of(data, path)
    if not lines or lines[0]["type"] != "sweep":
        raise InjectError(f"{path}:1: not the first line of a sweep's journal", "name the directory of a sweep")
    for key in HEAD:
        if key not in lines[0]:
            raise InjectError(f"{path}:1: a damaged sweep line: it has no {key}")
    return Part(path, lines, cut)


@dataclass
class _Merge:
    """What the journals said so far."""

    head: Line
    shards: dict[str, None] = field(default_factory=dict)
    points: dict[str, Line] = field(default_factory=dict)
    skipped: dict[tuple[str, str], Line] = field(default_factory=dict)
    recorded: dict[str, None] = field(default_factory=dict)
    """Notes of the recordings."""
    begun: dict[str, Line] = field(default_factory=dict)
    trials: dict[str, tuple[Line, str, frozenset[str]]] = field(default_factory=dict)
    """With their places, and the shards of their journals."""
    torn: dict[str, None] = field(default_factory=dict)
    """Trials that ended differently in two shards."""
    findings: dict[str, Line] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    """Why a point has no trial, by its id."""
    owned: set[str] = field(default_factory=set)
    """Points that a part has whose trials it makes, or says why not."""
    kernel: Optional[tuple[Line, str]] = None
    """What the first recording ran on, and the place of that line."""
    others: dict[str, Line] = field(default_factory=dict)
    """Lines of types that are not known here, each once."""
    ends: list[Line] = field(default_factory=list)


def merged(parts: Sequence[Part], home: Path) -> list[Line]:
    """The lines of one journal that says what all ``parts`` say; it may be merged again.

    Trials stand in the order of their points. Paths in it are relative to ``home``, where it will be. Raises
    InjectError for journals of different sweeps, and for two of one shard that end a trial differently: of two
    shards, which may both have a point that showed up in a trial, the worse end counts.
    """
    first = parts[0]
    shards = {str(shard): None for part in parts for shard in _shards(part)}
    merge = _Merge(first.lines[0], dict.fromkeys(sorted(shards)))
    for part in parts:
        _agree(parts, part)
        _take(merge, part, home)
    for identity, (line, place, _) in merge.trials.items():
        if line["point"] not in merge.points:
            raise InjectError(f"{place}: trial {shown(identity)} is of a point that no recording has")
    return list(_lines(merge))


def _shards(part: Part) -> Sequence[str]:
    """The shards that a journal is of: one, or those that were merged."""
    head = part.lines[0]
    shards = head.get("shards", [head.get("shard", WHOLE)])
    if not isinstance(shards, list):
        raise InjectError(f"{part.at(1)}: a damaged sweep line: shards")
    return shards


def _agree(parts: Sequence[Part], part: Part) -> None:
    """Raise InjectError unless ``part`` is of the same sweep as the first of ``parts`` that says so."""
    for key in SAME:
        first = next((one for one in parts if key in one.lines[0]), part) if key in ADDED else parts[0]
        ours, theirs = part.lines[0].get(key), first.lines[0].get(key)
        if (key in part.lines[0] or key not in ADDED) and ours != theirs:
            raise InjectError(
                f"{part.at(1)}: another sweep: {key} is {_value(ours)} here, and {_value(theirs)} in {first.at(1)}",
                "merge the shards of one sweep",
            )


def _value(value: Any) -> str:
    return shown(str(value), 80)


def _take(merge: _Merge, part: Part, home: Path) -> None:
    """Add what ``part`` says."""
    try:
        state = state_of(part.lines)
    except InjectError as error:
        raise InjectError(f"{part.path}: {error.message}") from None
    points: dict[str, Line] = {}
    skipped: dict[tuple[str, str], Line] = {}
    own: dict[str, tuple[Line, str]] = {}
    findings: dict[str, Line] = {}
    ends: list[Line] = []
    kernel: Optional[tuple[Line, str]] = None
    closed = False  # whether the last run wrote its end
    for number, line in enumerate(part.lines, 1):
        kind = line["type"]
        closed = kind == "end" or (closed and kind != "begun")
        try:
            if kind == "recording":
                points, skipped = {}, {}
            elif kind == "point":
                points.setdefault(line["id"], line)
            elif kind == "skipped":
                skipped.setdefault((line["function"], line["module"]), line)
            elif kind == "recorded":
                merge.recorded.update(dict.fromkeys(map(str, line.get("notes", ()))))
            elif kind == "begun":
                merge.begun[line["trial"]] = line
            elif kind == "trial":
                own[line["trial"]] = line, part.at(number)
                Mode(line["mode"])
            elif kind == "finding":
                findings[str(line["signature"])] = line
            elif kind == "end":
                ends.append({**line, "seconds": _seconds(line)})
            elif kind == "kernel":
                kernel = line, part.at(number)
            elif kind not in PASSING:
                merge.others.setdefault(json.dumps(line, sort_keys=True), line)
        except (KeyError, TypeError, ValueError) as error:
            raise InjectError(f"{part.at(number)}: a damaged {kind} line: {printable(str(error))}") from None
    if kernel is not None:
        _add_kernel(merge, *kernel)
    if state.recorded:
        for identity, line in points.items():
            merge.points.setdefault(identity, line)
        merge.owned.update(point for point in points if state.left.get(point) != ELSEWHERE)
        merge.skipped.update({key: line for key, line in skipped.items() if key not in merge.skipped})
    shards = frozenset(map(str, _shards(part)))
    for identity, (line, place) in own.items():
        _add_trial(merge, identity, line, place, shards)
    for signature, line in findings.items():
        _add_finding(merge, signature, line, _rebased(str(line.get("directory") or ""), part, home))
    _leave(merge, state.left)
    reason = ends[-1].get("reason", "") if closed else INTERRUPTED
    merge.ends.append({"reason": reason, "seconds": sum(end["seconds"] for end in ends)})


def _seconds(end: Line) -> float:
    return float(end.get("seconds", 0))


def _add_trial(merge: _Merge, identity: str, line: Line, place: str, shards: frozenset[str]) -> None:
    """Add the end of a trial. Of two shards the worse end counts; raise InjectError if one shard has two ends."""
    known, elsewhere, others = merge.trials.setdefault(identity, (line, place, shards))
    ours, theirs = ((one["status"], one["reason"]) for one in (line, known))
    if ours == theirs:
        return
    if shards == others:
        raise InjectError(
            f"{place}: trial {shown(identity)} ended as {_ending(ours)} here, and as {_ending(theirs)} in {elsewhere}",
            "merge the shards of one sweep; repeated sweeps get a report each",
        )
    merge.torn[identity] = None
    if _badness(ours) < _badness(theirs):
        merge.trials[identity] = line, place, shards


def _badness(pair: tuple[str, str]) -> tuple[int, int]:
    """The place of an end among all, the worst first: a failure, a pass, what was not judged."""
    status, reason = pair
    judged = (Status.FAIL.value, Status.PASS.value)
    reasons = [one.value for one in Reason]
    return (
        judged.index(status) if status in judged else len(judged),
        reasons.index(reason) if reason in reasons else len(reasons),
    )


def _ending(pair: tuple[str, str]) -> str:
    status, reason = pair
    return printable(f"{status} ({reason})" if reason else status)


def _add_kernel(merge: _Merge, line: Line, place: str) -> None:
    """Note the kernel of a recording; raise InjectError if another shard had another one: its points are others."""
    known, elsewhere = merge.kernel = merge.kernel or (line, place)
    key = difference(line, known)
    if key:
        raise InjectError(
            f"{place}: another kernel: {key} is {_value(line[key])} here, and {_value(known[key])} in {elsewhere}",
            "merge shards of one kernel",
        )


def _leave(merge: _Merge, left: Mapping[str, str]) -> None:
    """Note why points have no trial."""
    for point, why in left.items():
        if why and (why != ELSEWHERE or point not in merge.left):
            merge.left[point] = why


def _rebased(directory: str, part: Part, home: Path) -> str:
    """A directory beside the journal, as seen from ``home``."""
    return os.path.relpath(part.path.absolute().parent / directory, home.absolute()) if directory else ""


def _add_finding(merge: _Merge, signature: str, line: Line, directory: str) -> None:
    """Add a finding; that of another shard with the same signature gets its trials."""
    own = {**line, "directory": directory}
    known = merge.findings.get(signature)
    if known is not None:
        trials = list(dict.fromkeys([*known.get("trials", ()), *line.get("trials", ())]))
        own = {**(known if known["directory"] or not directory else own), "trials": trials}
    merge.findings[signature] = own


def _lines(merge: _Merge) -> Iterator[Line]:
    """The lines of the merged journal, in an order that does not depend on who made the trials."""
    yield {**{key: value for key, value in merge.head.items() if key != "shard"}, "shards": list(merge.shards)}
    yield {"type": "recording"}
    if merge.kernel is not None:
        yield merge.kernel[0]
    yield from merge.points.values()
    yield from merge.skipped.values()
    yield {"type": "recorded", "notes": list(dict.fromkeys([*merge.recorded, *_torn(merge)]))}
    order = {identity: number for number, identity in enumerate(merge.points)}
    yield from (line for identity, line in sorted(merge.begun.items()) if identity not in merge.trials)
    trials = sorted(
        (line for line, _, _ in merge.trials.values()), key=lambda line: (order[line["point"]], line["trial"])
    )
    yield from trials
    yield from merge.findings.values()
    yield from _left(merge, {line["point"] for line in trials})
    yield from merge.others.values()
    reasons = [str(end.get("reason", "")) for end in merge.ends]
    seconds = round(sum(_seconds(end) for end in merge.ends), 3)
    yield {"type": "end", "seconds": seconds, "reason": next(filter(None, reasons), "")}


def _torn(merge: _Merge) -> list[str]:
    """A note on the trials that ended differently in two shards."""
    names = sorted(merge.torn)
    one = "the trial" if len(names) == 1 else f"{len(names)} trials"
    return [f"two shards made {one} {listed(names)}, which ended differently: the worse end counts"] if names else []


def _left(merge: _Merge, tried: set[str]) -> Iterator[Line]:
    """Why points have no trial, by reason."""
    by_why: dict[str, list[str]] = {}
    whole = not missing_shards(merge.shards)
    for identity, why in merge.left.items():
        if identity not in merge.points or identity in tried:
            continue
        if why == ELSEWHERE and identity in merge.owned:
            continue  # the part that makes its trials is here as well, and has ended none
        by_why.setdefault(ALONE if why == ELSEWHERE and whole else why, []).append(identity)
    yield from ({"type": "left", "why": why, "points": some} for why, some in sorted(by_why.items()))


def text_of(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of a journal as JSON."""
    for line in lines:
        yield json.dumps(line, separators=(",", ":")) + "\n"
