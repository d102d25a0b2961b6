"""The calls of a sweep's points in the kernel's source: which lines, what came of them, and the lines around. Pure."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from inject.model.text import printable
from inject.sweep.report.account import PointRow, TrialOutcome
from inject.sweep.report.debug_lines import SourcePlace

AROUND = 2
"""Lines that are shown before and after a call."""

ROOM = 100_000
"""Characters of source on a page, with what is said of it."""

LONGEST = 200
"""Characters of a line."""

_FILE, _CALL, _LINE = 60, 110, 9
"""Characters that a file, a call and a line cost beside their text."""


@dataclass(frozen=True)
class Call:
    """A line from which points were called."""

    place: SourcePlace
    rows: tuple[PointRow, ...]

    @property
    def worst(self) -> TrialOutcome:
        """The outcome that counts for the line."""
        found = {row.worst for row in self.rows}
        return next(outcome for outcome in TrialOutcome if outcome in found)

    @property
    def shown_point(self) -> str:
        """The id of a point with that outcome."""
        return next(row.point.id for row in self.rows if row.worst is self.worst)

    @property
    def said(self) -> str:
        """How many points have which outcome: ``finding 1, passed 2``."""
        counts = Counter(row.worst for row in self.rows)
        return ", ".join(f"{outcome.value} {counts[outcome]}" for outcome in TrialOutcome if counts[outcome])


@dataclass(frozen=True)
class SourceLine:
    """A line as it is shown; ``call`` if points were called from it."""

    number: int
    text: str
    call: Optional[Call] = None


@dataclass
class SourceFile:
    """A file with the parts of it that are shown."""

    path: str
    parts: list[list[SourceLine]] = field(default_factory=list)


@dataclass(frozen=True)
class SourceView:
    """The section of the page: its ``files``, and sentences about what is not in them."""

    files: Sequence[SourceFile] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class SourceCalls:
    """The ``calls`` of ``rows`` in the kernel's source, by file and line, and the ``texts`` of these files."""

    rows: Sequence[PointRow]
    calls: Sequence[Call]
    texts: Mapping[str, Sequence[str]]


def located(
    rows: Sequence[PointRow], places: Mapping[str, SourcePlace], text: Callable[[str], Sequence[str]]
) -> SourceCalls:
    """The lines from which points were called; ``places`` has those of frames, ``text`` the lines of a file."""
    texts = {file: text(file) for file in {place.file for place in places.values()}}
    found: dict[SourcePlace, list[PointRow]] = {}
    for row in rows:
        place = places.get(row.point.stack[0]) if row.point.stack else None
        if place is not None and place.line <= len(texts[place.file]):
            found.setdefault(place, []).append(row)
    return SourceCalls(rows, [Call(place, tuple(found[place])) for place in sorted(found)], texts)


def view(source: SourceCalls, room: int = ROOM) -> SourceView:
    """What the page shows of it, the calls with the worst outcomes first if there is no ``room`` for all."""
    calls = source.calls
    chosen = _chosen(calls, source.texts, room)
    notes = []
    unknown = len(source.rows) - sum(len(call.rows) for call in calls)
    if unknown:
        notes.append(f"{unknown} of {len(source.rows)} points: the debug information names no line of this source")
    if len(chosen) < len(calls):
        notes.append(f"{len(calls) - len(chosen)} of {len(calls)} lines are left out, to keep the page small")
    return SourceView(_files(sorted(chosen, key=lambda call: call.place), source.texts), notes)


def _chosen(calls: Sequence[Call], texts: Mapping[str, Sequence[str]], room: int) -> list[Call]:
    """The calls that there is room for, those with the worst outcomes first."""
    order = list(TrialOutcome)
    chosen: list[Call] = []
    files: set[str] = set()
    for call in sorted(calls, key=lambda call: order.index(call.worst)):
        lines = texts[call.place.file]
        around = _around(call.place.line, len(lines))
        room -= _CALL + len(call.said) + sum(_LINE + len(html.escape(_shown(lines[number - 1]))) for number in around)
        room -= 0 if call.place.file in files else _FILE + len(call.place.file)
        if room < 0:
            break
        files.add(call.place.file)
        chosen.append(call)
    return chosen


def _around(line: int, last: int) -> range:
    """The numbers of the lines around ``line`` in a file of ``last`` lines."""
    return range(max(1, line - AROUND), min(last, line + AROUND) + 1)


def _files(calls: Sequence[Call], texts: Mapping[str, Sequence[str]]) -> list[SourceFile]:
    files: dict[str, SourceFile] = {}
    for call in calls:
        file = files.setdefault(call.place.file, SourceFile(call.place.file))
        lines = texts[call.place.file]
        numbers = _around(call.place.line, len(lines))
        part = file.parts[-1] if file.parts and file.parts[-1][-1].number >= numbers.start - 1 else []
        if not part:
            file.parts.append(part)
        known = part[-1].number if part else 0
        part += [SourceLine(number, _shown(lines[number - 1])) for number in numbers if number > known]
        place = call.place.line - part[0].number
        part[place] = SourceLine(call.place.line, part[place].text, call)
    return list(files.values())


def _shown(line: str) -> str:
    text = printable(line.rstrip())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} [...]"
