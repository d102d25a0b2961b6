"""A sweep: record the points of a workload, fail each one, and keep every step in the journal."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Callable, Optional

from inject import __version__
from inject.errors import CannotRun, InjectError
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.model.event import Event, FunctionSkipped, PointReached, RunStarted
from inject.model.scenario import Scenario
from inject.model.verdict import Status, Verdict
from inject.record.options import MOST_NEW, ObserveOptions
from inject.report.jsonl import to_json
from inject.sweep import baseline, boots
from inject.sweep.agenda import Agenda, agenda
from inject.sweep.ending import End, end_line, end_of
from inject.sweep.findings import Cause, causes
from inject.sweep.journal import Line, SweepJournal
from inject.sweep.kernel import kernel_line, refuse_another
from inject.sweep.known import Known
from inject.sweep.ledger import SweepLedger
from inject.sweep.options import SweepOptions
from inject.sweep.scenarios import Scenarios
from inject.sweep.shot import RECORDED, Origin, Shot, shot_of
from inject.sweep.state import SweepState, Totals, point_line, state_of, totals, trial_line
from inject.sweep.tally import Tally

Batch = Callable[[Ledger, Request, Callable[[Event], None]], list[Verdict]]
"""Runs the scenarios of a ledger on hosts, and passes their events on."""


WHOLE = "1/1"
"""The shard of a sweep that is not split; journals of older versions name none."""

ADDED = ("checks",)
"""Keys of the first line whose values in journals of older versions, which lack them, are not known."""


class Sweeper:
    """The sweep of one scenario, whose YAML is in ``text``. The journal is all that it keeps."""

    def __init__(
        self,
        scenario: Scenario,
        text: str,
        options: SweepOptions,
        journal: SweepJournal,
        kernel: str,
        seed: int,
        *,
        boot: str = "",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scenario = scenario
        self._now = now
        self._started = now()
        self._scenarios = Scenarios(scenario, text, options)
        self._options = options
        self._journal = journal
        self._seed = seed
        self.boot = boot
        """The id of this boot, if the machine makes its trials itself; else ""."""
        self._known = 0, SweepState()
        self._judged: set[str] = set()
        """Trials that have ended in this run."""
        self.unusable = ""
        """Why the kernel of this machine must not run more; "" if it may."""
        if scenario.sweep is not None and scenario.sweep.by != "stack":
            raise InjectError(
                f"{scenario.name} has `sweep: {{by: {scenario.sweep.by}}}`, and a sweep fails stack traces only",
                "write `by: stack`, or leave it out",
            )
        head = {
            "type": "sweep",
            "scenario": scenario.name,
            "text": hashlib.sha256(text.encode()).hexdigest(),
            "functions": list(options.record.functions),
            "checked": options.record.checked,
            "errno": options.errno,
            "checks": "all" if options.checks is None else list(options.checks),
            "kernel": kernel,
            "shard": str(options.shard),
        }
        if journal.lines:
            _refuse_another(journal.lines[0], head)
        else:
            journal.append({**head, "version": __version__, "file": scenario.file})

    @property
    def state(self) -> SweepState:
        """What the journal says; it is read again only after it has grown."""
        lines = len(self._journal.lines)
        if lines != self._known[0]:
            self._known = lines, state_of(self._journal.lines)
        return self._known[1]

    def record(self, batch: Batch) -> None:
        """Record the points, unless the journal has them. Raises InjectError if that failed, or calls were lost."""
        if self.state.recorded:
            return
        self._journal.append({"type": "recording"})

        def take(event: Event) -> None:
            if isinstance(event, PointReached):
                self._journal.append(point_line(event, RECORDED), sync=False)
            elif isinstance(event, FunctionSkipped):
                self._journal.append(to_json(event), sync=False)
            elif isinstance(event, RunStarted):
                self._journal.append(kernel_line(event), sync=False)

        request = Request(self._seed, record=self._options.record)
        (verdict,) = batch(Ledger([self.scenario]), request, take)
        if verdict.status is Status.SKIP:
            raise CannotRun(f"{self.scenario.name} cannot be recorded: {verdict.detail}")
        if verdict.status is not Status.PASS:
            raise InjectError(
                f"{self.scenario.name} was not recorded completely: {verdict.detail}",
                "fix that, and start the sweep again",
            )
        points = len(self.state.points)
        self._journal.append({"type": "recorded", "points": points, "notes": list(verdict.notes)})

    def check(self, batch: Batch, say: Callable[[str], None] = lambda _: None) -> None:
        """Run the scenario with nothing failing, unless that passed before; raises InjectError if it does not pass."""
        shots = self.plan.shots
        if self.state.baseline is not None or not shots or self.unusable:
            return
        ledger = Ledger([self._scenarios.baseline(shots[0])])
        (verdict,) = batch(ledger, Request(self._seed), self._on_event)
        self._journal.append(baseline.baseline_line(verdict))
        for said in baseline.remarks(self.scenario.name, verdict):
            say(said)

    @property
    def plan(self) -> Agenda:
        """All trials of the sweep that are known by now."""
        state = self.state
        return agenda(state.points, self._options, state.origins, state.fired)

    @property
    def left(self) -> list[Shot]:
        """The trials that have not ended yet, or not in this run and with an error, which may be over."""
        ended = {id for id, one in self.state.ended.items() if id in self._judged or one.status is not Status.ERROR}
        return [shot for shot in self.plan.shots if shot.id not in ended]

    def blame_boots(self) -> list[str]:
        """Settle the trials that ended this machine, which has been booted since; a sentence for each."""
        state = self.state
        points = state.by_id
        blamed = [shot_of(trial, points) for trial in boots.ended(state.under_way, self.boot)]
        found = [shot for shot in blamed if shot is not None]
        for shot in found:
            self._journal.append(trial_line(shot, boots.verdict_of(shot.id, shot.point.function)))
        return [
            f"the machine was booted anew since the trial {shot.id} began, which counts as a crash" for shot in found
        ]

    def fail(self, batch: Batch, say: Callable[[str], None] = lambda _: None) -> None:
        """Make every trial that has not ended yet, round by round, until one brings no point that may be failed."""
        for number in range(1, self._options.rounds + 1):
            left = self._left_until(number)
            if left and not self.is_over():
                line = {"type": "round", "round": number, "points": len(self.state.points), "trials": len(left)}
                self._journal.append(line, sync=False)
                say(f"round {number}: {len(self.state.points)} points are known, {len(left)} trials")
                self._make(left, number, batch)
            if left and self._left_until(number):
                return

    def _left_until(self, number: int) -> list[Shot]:
        """The trials of rounds up to ``number`` that have not ended yet."""
        rounds = self.plan.rounds
        return [shot for shot in self.left if rounds[shot.id] <= number]

    def _make(self, shots: Sequence[Shot], number: int, batch: Batch) -> None:
        """Make the trials ``shots`` of one round."""
        left = {self._scenarios.name(shot): shot for shot in shots}
        points = self.state.points
        known = {point.id for point in points}
        lock = threading.Lock()
        shown: Counter[str] = Counter()

        def begin(name: str) -> None:
            shot = left[name]
            line = {"type": "begun", "trial": shot.id, "point": shot.point.id, "mode": shot.mode.value}
            self._journal.append({**line, **boots.key(self.boot)})

        def reached(event: PointReached) -> None:
            with lock:
                if event.point.id not in known and shown[event.scenario] < MOST_NEW:
                    shown[event.scenario] += 1
                    known.add(event.point.id)
                    origin = Origin(number, left[event.scenario].id)
                    line = point_line(replace(event, scenario=self.scenario.name), origin)
                    self._journal.append(line, sync=False)

        def end(verdict: Verdict) -> None:
            shot = left[verdict.scenario]
            self._judged.add(shot.id)
            self._journal.append(trial_line(shot, verdict, ledger.start(verdict.scenario)))

        scenarios = [self.trial(shot) for shot in left.values()]
        record = replace(self._options.record, functions=self._functions)
        types = {(point.function, point.module, point.error_type) for point in points}
        observe = ObserveOptions(record, tuple(sorted(known)), tuple(sorted(types))) if self._options.observed else None
        ledger = SweepLedger(scenarios, begin, end, self.is_over, reached)
        batch(ledger, Request(self._seed, trace=self._options.trace, observe=observe), self._on_event)

    def _on_event(self, event: Event) -> None:
        refuse_another(self._journal.lines, event)

    @property
    def _functions(self) -> tuple[str, ...]:
        """What the recording records: a trial has no `sweep` that says so."""
        asked = self.scenario.sweep
        return self._options.record.functions or (asked.functions if asked is not None else ())

    def seconds_left(self) -> Optional[float]:
        """Seconds in which trials may begin; None if there is no bound."""
        seconds = self._options.seconds
        return None if seconds is None else seconds - (self._now() - self._started)

    def is_over(self) -> bool:
        """True once no more trials may begin: the time that the sweep may take is over, or the kernel is unusable."""
        left = self.seconds_left()
        return bool(self.unusable) or (left is not None and left <= 0)

    def tally(self) -> Tally:
        """How far it is, for the trials that follow."""
        shots, state = self.plan.shots, self.state
        waiting = {shot.id for shot in self.left}
        ended = {shot.id for shot in shots} - waiting
        failed = sum(state.ended[name].status is Status.FAIL for name in ended)
        points = len(state.points)
        return Tally(shots, ended, points=points, findings=failed, seconds=self.seconds_left, now=self._now)

    def trial(self, shot: Shot) -> Scenario:
        """The scenario of one trial, with its YAML."""
        return self._scenarios.trial(shot, self.state.baseline)

    def document_of(self, shot: Shot) -> dict[str, Any]:
        """The keys of a scenario that makes the trial again, anywhere; unlike a trial it must inject."""
        return self._scenarios.document(shot)

    def findings(self, known: Sequence[Known] = ()) -> tuple[Cause, ...]:
        """The findings of all trials that have ended."""
        points = self.state.by_id
        ended = [one for one in self.state.ended.values() if shot_of(one.shot, points) is not None]
        return causes(ended, known, self._journal.lines)

    def leave(self) -> None:
        """Write to the journal which points get no trial, and why, if it says anything else: the options say so."""
        now, said = self.plan.skipped, self.state.left
        by_why: dict[str, list[str]] = {}
        for point in dict.fromkeys([*now, *said]):
            if now.get(point, "") != said.get(point, ""):
                by_why.setdefault(now.get(point, ""), []).append(point)
        for why, points in by_why.items():
            self._journal.append({"type": "left", "why": why, "points": points})

    def totals(self) -> Totals:
        """How it adds up now."""
        state = self.state
        return totals(state.points, self.plan, state.ended)

    def ending(self, *, interrupted: bool = False, unfinished: bool = False) -> End:
        """What ends the sweep now; ``unfinished``: a finding could be looked into further."""
        left = bool(self.left)
        unusable = bool(self.unusable) or (left and not self.is_over())
        return end_of(self.totals(), left or unfinished, interrupted=interrupted, unusable=unusable)

    def close(self, end: End) -> None:
        """Write the last line of this run."""
        self._journal.append(end_line(self.totals(), end, self._now() - self._started))


def _refuse_another(first: Line, head: Line) -> None:
    """Raise InjectError if the journal that begins with ``first`` is of another sweep than ``head`` begins."""
    for key, value in head.items():
        was = first.get(key, WHOLE if key == "shard" else value if key in ADDED else None)
        if was != value:
            raise InjectError(
                f"the journal is of another sweep: {key} was {was!r} and is {value!r}", "begin anew in another -o"
            )
