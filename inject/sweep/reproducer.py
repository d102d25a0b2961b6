"""New findings, made smaller and repeated: each step is a trial, in the journal before it begins and after it ends."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any, Callable

from inject.fleet.request import Request
from inject.model.errorpath import as_lines
from inject.model.event import Event
from inject.model.reached import Point
from inject.model.scenario import Scenario
from inject.model.verdict import Reason, Status, Verdict
from inject.report.evidence import Evidence
from inject.scenario.derived import derived
from inject.scenario.load import parse
from inject.sweep.journal import Line, SweepJournal
from inject.sweep.ledger import SweepLedger
from inject.sweep.minimal import Candidate
from inject.sweep.reproduction import Answers, Ask, Reproduction
from inject.sweep.signature import signature
from inject.sweep.sweeper import Batch

BEFORE, AFTER, TRACED = "reducing", "reduced", "traced"
"""Types of the journal's lines: before a step, after it, and what the run with --trace saw."""

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
    def line(self) -> dict[str, Any]:
        """What its lines in the journal have in common."""
        return {"finding": self.of.cause.digest, "what": self.candidate.what, "text": self.key}


class Reproducer:
    """Tries candidates in trials of ``base``, keeps every step in ``journal``, and begins none once it ``is_over``."""

    def __init__(self, base: Scenario, journal: SweepJournal, seed: int, is_over: Callable[[], bool]) -> None:
        self._base = base
        self._journal = journal
        self._seed = seed
        self._is_over = is_over
        self._steps: dict[str, Step] = {}

    def run(self, reproductions: Iterable[Reproduction], batch: Batch) -> None:
        """Try what each of them asks, side by side, until none asks any more or the time is over."""
        asking: list[tuple[Reproduction, Generator[Ask, Answers, None], Ask]] = []
        for one in reproductions:
            asks = one.asks()
            asking += [(one, asks, ask) for ask in [next(asks, None)] if ask is not None]
        while asking:
            for trace in (False, True):
                steps = [
                    self.step(one, candidate)
                    for one, _, ask in asking
                    if ask.trace is trace
                    for candidate in ask.candidates
                ]
                self._make(steps, batch, trace=trace)
            asking = [(one, asks, ask) for one, asks, ask in map(self._answer, asking) if ask is not None]

    def _answer(self, asked: tuple[Reproduction, Generator[Ask, Answers, None], Ask]) -> Any:
        """Tell a reproduction what became of its candidates; what it asks next, or None."""
        one, asks, ask = asked
        steps = [self.step(one, candidate) for candidate in ask.candidates]
        if ask.trace:
            traced = self._lines(TRACED).get((one.cause.digest, steps[0].key))
            one.trace = tuple(map(str, traced["lines"])) if traced is not None else ()
        done = self._lines(AFTER)
        try:
            return one, asks, asks.send([done.get((one.cause.digest, step.key)) for step in steps])
        except StopIteration:
            return one, asks, None

    def step(self, one: Reproduction, candidate: Candidate) -> Step:
        """The candidate as a scenario."""
        name = f"{self._base.name[:LONGEST_BASE]}/{one.cause.digest}/{candidate.what}"
        known = self._steps.get(name)
        if known is not None and known.of is one and known.candidate == candidate:
            return known
        text = derived(candidate.document, {"name": name})
        (scenario,) = parse(text, self._base.file, name)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._steps[name] = step = Step(one, candidate, replace(scenario, text=text), key)
        return step

    def _lines(self, kind: str) -> dict[tuple[str, str], Line]:
        """The journal's lines of this type, by finding and text."""
        return {(line["finding"], line["text"]): line for line in self._journal.lines if line["type"] == kind}

    def _make(self, steps: list[Step], batch: Batch, *, trace: bool) -> None:
        """Make the trials that the journal does not have."""
        done = self._lines(TRACED if trace else AFTER)
        left = {step.scenario.name: step for step in steps if (step.of.cause.digest, step.key) not in done}
        if not left or self._is_over():
            return
        evidence = Evidence()
        paths: dict[str, list[str]] = {}

        def take(event: Event) -> None:
            evidence.take(event)
            if isinstance(event, Verdict):
                paths[event.scenario] = [line for path in event.errors for line in as_lines(path)]

        ledger = SweepLedger(
            [step.scenario for step in left.values()],
            lambda name: self._journal.append({"type": BEFORE, **left[name].line}),
            lambda verdict: self._journal.append(after(left[verdict.scenario], verdict)),
            self._is_over,
        )
        batch(ledger, Request(self._seed, trace=trace), take)
        for name in paths if trace else ():
            lines = [*paths[name], *evidence.of(name).lines()]
            self._journal.append({"type": TRACED, **left[name].line, "lines": lines})


def after(step: Step, verdict: Verdict) -> dict[str, Any]:
    """The journal's line for a step that has ended; a run keeps its evidence."""
    line = {
        "type": AFTER,
        **step.line,
        "status": verdict.status.value,
        "reason": verdict.reason.value if verdict.reason else "",
        "detail": verdict.detail,
        "injected": sum(counts.injected for counts in verdict.counts),
        "seconds": round(verdict.seconds, 3),
        "same": is_same(verdict, step.of.cause.signature, step.of.point),
    }
    if step.candidate.what.startswith("run-"):
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
