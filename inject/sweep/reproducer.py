"""New findings, made smaller and repeated: each step is a trial, in the journal before it begins and after it ends."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from inject.fleet.request import Request
from inject.model.errorpath import as_lines
from inject.model.event import Event
from inject.model.reached import Point
from inject.model.scenario import Scenario
from inject.model.verdict import Reason, Status, Verdict
from inject.report.evidence import Evidence
from inject.scenario.derived import derived
from inject.scenario.load import parse
from inject.sweep import boots
from inject.sweep.findings import Cause
from inject.sweep.journal import Line, SweepJournal
from inject.sweep.kernel import refuse_another
from inject.sweep.ledger import SweepLedger
from inject.sweep.minimal import Candidate
from inject.sweep.reproduction import TRACE, Answers, Ask, Reproduction, is_judged
from inject.sweep.signature import signature
from inject.sweep.sweeper import Batch

BEFORE, AFTER, TRACED = "reducing", "reduced", "traced"
"""Types of the journal's lines: before a step, after it, and what the run with --trace saw."""

Key = tuple[str, str, str]
"""Type, finding and text of a line."""

Numbered = tuple[int, Line]
"""A line and its place in the journal."""

MOST = 40
"""Trials for each signature, unless the user says otherwise."""

LONGEST_BASE = 90
"""Characters of the scenario's name in those of its candidates, which have at most 128."""


@dataclass(frozen=True)
class Step:
    """One candidate as a scenario that can be run. ``key`` names its text."""

    of: Reproduction
    candidate: Candidate
    scenario: Scenario
    key: str

    @property
    def point(self) -> Point:
        """The point of its last fault, which the signature of a check names."""
        return self.of.points[self.candidate.kept[-1]]

    @property
    def line(self) -> dict[str, Any]:
        """What its lines in the journal have in common."""
        return {"finding": self.of.cause.digest, "what": self.candidate.what, "text": self.key}


@dataclass
class Track:
    """A reproduction under way: the steps that it waits for. ``ask`` is None at its end."""

    one: Reproduction
    asks: Generator[Ask, Answers, None]
    ask: Optional[Ask]
    steps: list[Step]


class Reproducer:
    """Tries candidates in trials of ``base``, keeps every step in ``journal``, and begins none once it ``is_over``."""

    def __init__(
        self, base: Scenario, journal: SweepJournal, seed: int, is_over: Callable[[], bool], boot: str = ""
    ) -> None:
        self._boot = boot
        self._base = base
        self._journal = journal
        self._seed = seed
        self._is_over = is_over
        self._lock = threading.Lock()
        self._number = 0
        self._done: dict[Key, list[Numbered]] = {}
        """The lines AFTER and TRACED, in the order of the journal; there is a second one if a verdict came late."""
        self._unjudged: dict[Key, Numbered] = {}
        """Steps that inject or the machine failed to make in an earlier run. They are made again, if there is time."""
        for line in journal.lines:
            self._note(line, earlier=True)

    def run(self, reproductions: Iterable[Reproduction], batch: Batch) -> None:
        """Try what each of them asks, side by side, until none asks any more or the time is over.

        What is asked after an answer joins the batch under way: a guest makes many steps.
        """
        tracks = []
        for one in reproductions:
            asks = one.asks()
            tracks.append(Track(one, asks, next(asks, None), []))
        for trace in (False, True):
            for track in tracks:
                self._advance(track)
            self._make([track for track in tracks if track.ask is not None and track.ask.trace is trace], batch, trace)
        for key, numbered in self._unjudged.items():
            self._done.setdefault(key, [numbered])
        for track in tracks:
            while track.ask is not None:
                self._send(track)

    def _advance(self, track: Track) -> list[Step]:
        """Go on with a reproduction as far as the journal has its answers; the steps that are to be made."""
        while track.ask is not None:
            track.steps = [self.step(track.one, candidate) for candidate in track.ask.candidates]
            left = [step for step in track.steps if not self._lines(track, step)]
            if left:
                return left
            self._send(track)
        return []

    def _lines(self, track: Track, step: Step) -> list[Numbered]:
        kind = TRACED if track.ask is not None and track.ask.trace else AFTER
        return self._done.get((kind, track.one.cause.digest, step.key), [])

    def _answers(self, track: Track) -> list[Optional[Line]]:
        """The journal's line of each step: the latest one at the time at which all had ended, so that a resume goes
        the same way. A patient question takes what came later, too."""
        assert track.ask is not None
        found = [self._lines(track, step) for step in track.steps]
        until = max((lines[0][0] for lines in found if lines), default=0)
        if track.ask.patient:
            until = self._number
        return [next((line for number, line in reversed(lines) if number <= until), None) for lines in found]

    def _send(self, track: Track) -> None:
        """Tell a reproduction what became of its candidates, and take what it asks next."""
        assert track.ask is not None
        track.steps = [self.step(track.one, candidate) for candidate in track.ask.candidates]
        lines = self._answers(track)
        if track.ask.trace and lines[0] is not None:
            track.one.trace = tuple(map(str, lines[0]["lines"]))
        try:
            track.ask = track.asks.send(lines)
        except StopIteration:
            track.ask = None

    def _note(self, line: Line, *, earlier: bool = False) -> None:
        """Remember a line of the journal; ``earlier``: it was there before this run."""
        self._number += 1
        if line["type"] in (AFTER, TRACED):
            key = line["type"], line["finding"], line["text"]
            if earlier and not is_judged(line):
                self._unjudged[key] = self._number, line
            else:
                self._done.setdefault(key, []).append((self._number, line))

    def _write(self, line: Line) -> None:
        self._journal.append(line)
        self._note(line)

    def step(self, one: Reproduction, candidate: Candidate) -> Step:
        """The candidate as a scenario."""
        name = f"{self._base.name[:LONGEST_BASE]}/{one.cause.digest}/{candidate.what}"
        text = derived(candidate.document, {"name": name})
        (scenario,) = parse(text, self._base.file, name)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        return Step(one, candidate, replace(scenario, text=text), key)

    def _make(self, tracks: Sequence[Track], batch: Batch, trace: bool) -> None:
        """Make the steps of ``tracks``, and those that they ask for afterwards, in one batch."""
        of = {step.scenario.name: (track, step) for track in tracks for step in self._advance(track)}
        if not of or self._is_over():
            return
        seen = Evidence()
        paths: dict[str, list[str]] = {}

        def take(event: Event) -> None:
            refuse_another(self._journal.lines, event)
            seen.take(event)
            if isinstance(event, Verdict) and event.status in (Status.PASS, Status.FAIL):
                paths[event.scenario] = [line for path in event.errors for line in as_lines(path)]

        def begin(name: str) -> None:
            self._journal.append({"type": BEFORE, **of[name][1].line, **boots.key(self._boot)})

        def end(verdict: Verdict) -> None:
            track, step = of[verdict.scenario]
            with self._lock:
                late = bool(self._done.get((AFTER, track.one.cause.digest, step.key)))
                self._write(after(step.line, verdict, step.of.cause, step.point))
                for more in () if late or trace or self._waits(track) else self._advance(track):
                    of[more.scenario.name] = (track, more)
                    if track.ask is not None and not track.ask.trace:
                        ledger.add(more.scenario)

        ledger = SweepLedger([step.scenario for _, step in of.values()], begin, end, self._is_over)
        batch(ledger, Request(self._seed, trace=trace), take)
        for name in paths if trace else ():
            self._write({"type": TRACED, **of[name][1].line, "lines": [*paths[name], *seen.of(name).lines()]})

    def _waits(self, track: Track) -> bool:
        """True if another step of the same question has not ended, or a verdict that comes late would count."""
        return (track.ask is not None and track.ask.patient) or any(
            not self._lines(track, step) for step in track.steps
        )


def under_way(lines: Iterable[Line]) -> list[Line]:
    """The lines BEFORE of steps that have not ended, nor did the run of inject that made them."""
    found: dict[tuple[str, str], Line] = {}
    for line in lines:
        if line["type"] == BEFORE:
            found[line["finding"], line["text"]] = line
        elif line["type"] in (AFTER, TRACED):
            found.pop((line["finding"], line["text"]), None)
        elif line["type"] == "end":
            found.clear()
    return list(found.values())


def cut_short(line: Line, cause: Cause, point: Point) -> list[Line]:
    """The lines for a step, begun as ``line`` says, that ended this machine."""
    verdict = boots.verdict_of(line["what"], point.function)
    about = {key: line[key] for key in ("finding", "what", "text")}
    traced = [{"type": TRACED, **about, "lines": [verdict.detail]}] if line["what"] == TRACE else []
    return [after(about, verdict, cause, point), *traced]


def after(about: Mapping[str, Any], verdict: Verdict, cause: Cause, point: Point) -> dict[str, Any]:
    """The journal's line for a step ``about`` ``cause`` that has ended; a run keeps its evidence."""
    line = {
        "type": AFTER,
        **about,
        "status": verdict.status.value,
        "reason": verdict.reason.value if verdict.reason else "",
        "detail": verdict.detail,
        "injected": sum(counts.injected for counts in verdict.counts),
        "seconds": round(verdict.seconds, 3),
        "same": is_same(verdict, cause.signature, point),
    }
    if about["what"].startswith("run-"):
        line.update(log=list(verdict.log), kernel_log=list(verdict.kernel_log))
    return line


def is_same(verdict: Verdict, expected: str, point: Point) -> bool:
    """True if it failed with this signature after an injection; a dead kernel may not have counted its own."""
    if verdict.status is not Status.FAIL:
        return False
    dead = verdict.reason in (Reason.CRASH, Reason.HANG) and not verdict.counts
    return (dead or any(counts.injected for counts in verdict.counts)) and signature(verdict, point) == expected


def is_step(name: str, base: Scenario) -> bool:
    """True if ``name`` is that of a step's scenario, not of a trial of the sweep of ``base``."""
    return name.count("/") == base.name[:LONGEST_BASE].count("/") + 2
