"""A sweep: record the points of a workload, fail each one, and keep every step in the journal."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Optional

from inject import __version__
from inject.errors import CannotRun, InjectError
from inject.fleet.ledger import Ledger, Stage
from inject.fleet.request import Request
from inject.model.event import Event, FunctionSkipped, PointReached
from inject.model.scenario import Scenario
from inject.model.verdict import Status, Verdict
from inject.record.options import RecordOptions
from inject.report.jsonl import to_json
from inject.scenario.derived import derived, document_of
from inject.scenario.files import shared_directory
from inject.scenario.load import parse
from inject.scenario.writer import fault_keys
from inject.sweep.findings import Cause, causes
from inject.sweep.journal import SweepJournal
from inject.sweep.known import Known
from inject.sweep.shot import Agenda, Mode, Shot, agenda, value_of
from inject.sweep.state import SweepState, Totals, state_of, totals, trial_line

Batch = Callable[[Ledger, Request, Callable[[Event], None]], list[Verdict]]
"""Runs the scenarios of a ledger on hosts, and passes their events on."""


@dataclass(frozen=True)
class SweepOptions:
    """What is failed, and how."""

    record: RecordOptions = RecordOptions()
    modes: tuple[Mode, ...] = (Mode.ONCE,)
    errno: str = "-ENOMEM"
    """What functions return that can return any errno."""
    only: tuple[str, ...] = ()
    """Beginnings of the ids of points; () for all."""
    limit: int = 500
    """Trials at most."""
    checks: Optional[tuple[str, ...]] = None
    """The checks of a trial; None for those of the scenario."""
    seconds: Optional[float] = None
    """Time after which no trial begins; None: no bound."""


class SweepLedger(Ledger):
    """A ledger that tells ``begin`` what a worker gives to its host, and ``end`` a verdict, before either counts.

    Nothing waits any more once ``is_over`` says so.
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        begin: Callable[[str], None],
        end: Callable[[Verdict], None],
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(scenarios)
        self._begin = begin
        self._end = end
        self._is_over = is_over

    def names(self, stage: Stage) -> list[str]:
        """The scenarios at this stage, in the order of the batch."""
        return [] if stage is Stage.WAITING and self._is_over() else super().names(stage)

    def give(self, name: str) -> bool:
        """Give the scenario to a host; False if it is no longer waiting."""
        given = super().give(name)
        if given:
            self._begin(name)
        return given

    def settle(self, verdict: Verdict) -> None:
        """Record the verdict."""
        self._end(verdict)
        super().settle(verdict)


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
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scenario = scenario
        self._now = now
        self._started = now()
        self._document = document_of(text, scenario.name)
        self._options = options
        self._journal = journal
        self._seed = seed
        self._known = 0, SweepState()
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
            "kernel": kernel,
        }
        if journal.lines:
            self._refuse_another(head)
        else:
            journal.append({**head, "version": __version__, "file": scenario.file})

    def _refuse_another(self, head: dict[str, Any]) -> None:
        """Raise InjectError if the journal is of another sweep than ``head`` begins."""
        first = self._journal.lines[0]
        for key, value in head.items():
            if first.get(key) != value:
                raise InjectError(
                    f"the journal is of another sweep: {key} was {first.get(key)!r} and is {value!r}",
                    "begin anew in another -o",
                )

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
            if isinstance(event, (PointReached, FunctionSkipped)):
                self._journal.append(to_json(event))

        request = Request(self._seed, record=self._options.record)
        (verdict,) = batch(Ledger([self.scenario]), request, take)
        if verdict.status is Status.SKIP:
            raise CannotRun(f"{self.scenario.name} cannot be recorded: {verdict.detail}")
        if verdict.status is not Status.PASS:
            raise InjectError(f"{self.scenario.name} was not recorded completely: {verdict.detail}")
        self._journal.append({"type": "recorded", "notes": list(verdict.notes)})

    @property
    def plan(self) -> Agenda:
        """All trials of the sweep."""
        options = self._options
        points = self.state.points
        return agenda(points, options.modes, options.errno, only=options.only, limit=options.limit)

    @property
    def left(self) -> list[Shot]:
        """The trials that have not ended yet."""
        ended = self.state.ended
        return [shot for shot in self.plan.shots if shot.id not in ended]

    def fail(self, batch: Batch) -> None:
        """Make every trial that has not ended yet."""
        left = {self._name(shot): shot for shot in self.left}
        if not left:
            return

        def begin(name: str) -> None:
            shot = left[name]
            self._journal.append({"type": "begun", "trial": shot.id, "point": shot.point.id, "mode": shot.mode.value})

        def end(verdict: Verdict) -> None:
            self._journal.append(trial_line(left[verdict.scenario], verdict))

        scenarios = [self.trial(shot) for shot in left.values()]
        batch(SweepLedger(scenarios, begin, end, self.is_over), Request(self._seed), lambda _: None)

    def is_over(self) -> bool:
        """True once no more trials may begin, because the time that the sweep may take is over."""
        seconds = self._options.seconds
        return seconds is not None and self._now() - self._started >= seconds

    def _name(self, shot: Shot) -> str:
        return f"{self.scenario.name}/{shot.id}"

    def trial(self, shot: Shot) -> Scenario:
        """The scenario of one trial, with its YAML."""
        name = self._name(shot)
        text = self.text_of(shot)
        (scenario,) = parse(text, self.scenario.file, name)
        return replace(scenario, text=text)

    def text_of(self, shot: Shot, *, alone: bool = False) -> str:
        """The YAML of one trial: any exit code will do, and all checks must pass.

        With ``alone`` it can be moved anywhere: its scripts know where the shared ones are.
        """
        value = value_of(shot.point, self._options.errno)
        assert value is not None
        changes: dict[str, Any] = {
            "name": self._name(shot),
            "description": f"{shot.point.function} fails {shot.mode.value} where point {shot.point.id} is reached",
            "faults": [fault_keys(shot.fault(value))],
            "expect": {"exit": list(range(256)), "injected": ">=0"},
            "finding": None,
            "sweep": None,
        }
        if self._options.checks is not None:
            changes["checks"] = list(self._options.checks)
        shared = shared_directory(Path(self.scenario.file)) if alone else None
        if shared is not None:
            scripts = {"setup": self.scenario.setup, "run": self.scenario.run, "recover": self.scenario.recover}
            set_lib = f"export LIB={shlex.quote(str(shared))}\n"
            changes.update({key: set_lib + script for key, script in scripts.items() if script})
        return derived(self._document, changes)

    def findings(self, known: Sequence[Known] = ()) -> tuple[Cause, ...]:
        """The findings of the plan's trials; each new one, or one with more trials, gets a line in the journal."""
        ended, lines = self.state.ended, self._journal.lines
        planned = {shot.id for shot in self.plan.shots}
        own = [one for name, one in ended.items() if name in planned]
        found = causes(own, known, lines)
        written = {line["signature"]: line for line in lines if line["type"] == "finding"}
        for cause in found:
            if written.get(cause.signature) != cause.line():
                self._journal.append(cause.line())
        return found

    def totals(self) -> Totals:
        """How it adds up now."""
        state = self.state
        return totals(state.points, self.plan, state.ended)
