"""The reports of one host on the scenarios it was given, and the verdicts that it could not give itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Callable, Optional

from inject.fleet.host import Ending, Lost, Patience
from inject.fleet.ledger import Ledger, Stage
from inject.fleet.request import Request
from inject.model.event import Armed, Event, RunEnded
from inject.model.scenario import Scenario
from inject.model.verdict import Complaint, Reason, Status, Verdict
from inject.report.jsonl import from_json
from inject.trial.judge import Judgement, with_finding

SLACK = 600.0
"""Seconds that making, checking and removing filesystems may take in all, apart from the scripts."""

SCRIPT = 120.0
"""Seconds that inject allows each script of a scenario, or its timeout if longer (trial.SCRIPT_TIMEOUT)."""

LOG_LINES = 80


@dataclass
class Journal:
    """The run on one host, from its JSON lines to the ledger. ``on_event`` gets each event that is fit for the report.

    ``current`` is the scenario that the host was given and has not settled; ``moved``
    counts the time since the host's last line.
    """

    ledger: Ledger
    request: Request
    on_event: Callable[[Event], None]
    dropped: Callable[[], int] = lambda: 0
    """Number of lines of the host that were too long to be taken."""
    current: Optional[Scenario] = None
    settled: int = 0
    """Verdicts that this host gave or was given."""
    ended: bool = False
    unusable: str = ""
    unreadable: int = 0
    """Lines that are not an event, or not one that this host was asked for."""
    moved: Patience = field(default_factory=lambda: Patience(SLACK))
    _told: tuple[int, int] = (0, 0)
    """Lines dropped and lines unreadable that :meth:`missing` has reported."""

    @property
    def armed(self) -> bool:
        """True if the scenario under way was armed."""
        return self.current is not None and self.ledger.stage(self.current.name) is Stage.ARMED

    def give(self, scenario: Scenario) -> None:
        """Note that the host is asked to run ``scenario``."""
        self.current = scenario
        self.moved = Patience(bound(scenario))

    # ------------------------------------------------------------ what the host reports

    def take(self, line: bytes) -> None:
        """Take one line of the host: count it, note what it says, pass it on."""
        self.moved.reset()
        try:
            event = from_json(json.loads(line))
            if isinstance(event, (Armed, Verdict)):
                self._check(event)
        except ValueError:
            self.unreadable += 1
            return
        if isinstance(event, RunEnded):
            self.ended = True
        elif isinstance(event, Verdict):
            self.unusable = self.unusable or event.unusable
            self._settle(event)
        else:
            if isinstance(event, Armed):
                self.ledger.arm(event.scenario)
            self.on_event(event)

    def _check(self, event: Event) -> None:
        """Raise ValueError for an event of another scenario than the one under way."""
        assert isinstance(event, (Armed, Verdict))
        if self.current is None or event.scenario != self.current.name:
            raise ValueError(f"{event.scenario} was not asked for")

    def missing(self) -> tuple[str, ...]:
        """Notes on the host's lines that are in no report, each line once: how many, and why."""
        total = (self.dropped(), self.unreadable)
        dropped, unreadable = (now - told for now, told in zip(total, self._told))
        self._told = total
        return (
            *([f"{_lines(dropped)} of the host's report: too long, dropped"] if dropped else []),
            *([f"{_lines(unreadable)} of the host's report: unreadable, ignored"] if unreadable else []),
        )

    def incomplete(self) -> bool:
        """True if lines are missing since the last verdict."""
        return (self.dropped(), self.unreadable) != self._told

    # ------------------------------------------------------------ verdicts

    def _settle(self, verdict: Verdict) -> None:
        verdict = replace(verdict, notes=verdict.notes + self.missing())
        self.current = None
        self.settled += 1
        self.ledger.settle(verdict)
        self.on_event(verdict)

    def blame(self, lost: Lost) -> None:
        """Settle the scenario under way, because the host is lost."""
        if self.current is not None:
            self._settle(verdict_of(self.current, lost, armed=self.armed, request=self.request))

    def unreported(self, status: int, said: str) -> None:
        """Settle the scenario under way as an error of inject, which ended with ``status`` and gave no verdict."""
        if self.current is None:
            return
        log = tuple(said.rstrip("\n").split("\n")[-LOG_LINES:])
        last = next((line for line in reversed(log) if line.strip()), "it printed nothing")
        detail = f"inject in the guest ended with exit code {status} without a verdict: {last}"
        command = _reproduce(self.current, self.request)
        self._settle(Verdict(self.current.name, Status.ERROR, None, detail, reproduce=command, log=log))


def bound(scenario: Scenario) -> float:
    """Seconds within which the next event of a scenario must come."""
    return 3 * max(SCRIPT, scenario.timeout) + SLACK


def verdict_of(scenario: Scenario, lost: Lost, *, armed: bool, request: Request) -> Verdict:
    """The verdict on a scenario whose host is lost: a finding only if it was armed and this machine did nothing."""
    log = _own_part(lost.console, scenario.name)[-LOG_LINES:]
    command = _reproduce(scenario, request)
    if not armed or lost.host_fault:
        when = "while" if armed else "before"
        detail = f"{lost.message} ({when} the scenario was armed)"
        return Verdict(scenario.name, Status.ERROR, None, detail, reproduce=command, log=log)
    reason = Reason.HANG if lost.ending is Ending.HUNG else Reason.CRASH
    detail = f"with {_points(scenario)} armed, {lost.message}"
    judgement = Judgement(Status.FAIL, (Complaint(reason, detail, log),))
    return with_finding(scenario, judgement).verdict(scenario, reproduce=command)


def _reproduce(scenario: Scenario, request: Request) -> str:
    return f"{request.reproduce} {scenario.file} --only {scenario.name} --seed {request.seed}"


def _own_part(console: str, name: str) -> tuple[str, ...]:
    """The console from the scenario's own marker in the kernel log on; all of it without one."""
    lines = console.split("\n") if console else []
    begun = [number for number, line in enumerate(lines) if f"inject: begin {name} " in line]
    return tuple(lines[begun[-1] :] if begun else lines)


def _points(scenario: Scenario) -> str:
    """The fault points of a scenario: ``__filemap_add_folio = -ENOMEM``."""
    return ", ".join(f"{fault.function} = {fault.returns}" for fault in scenario.faults)


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"
