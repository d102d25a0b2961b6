"""The reports of one host on the scenarios it was given, and the verdicts that it could not give itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Callable, Optional

from inject.fleet.host import Ending, Lost, Patience
from inject.fleet.lastwords import LastInjections
from inject.fleet.ledger import Ledger, Stage
from inject.fleet.request import Request
from inject.kernel.config import SLOWEST
from inject.model.event import (
    Armed,
    ErrorTraced,
    Event,
    FunctionSkipped,
    Injected,
    PointReached,
    RunEnded,
    RunStarted,
)
from inject.model.scenario import Scenario
from inject.model.text import printable
from inject.model.verdict import Complaint, Reason, Status, Verdict
from inject.report.jsonl import NotAnEvent, read_line
from inject.trial.judge import Judgement, command_again, with_finding

SLACK = 600.0
"""Seconds that making, checking and removing filesystems may take in all, apart from the scripts."""

SCRIPT = 120.0
"""Seconds that inject allows each script of a scenario, or its timeout if longer (trial/surroundings.py)."""

LOG_LINES = 200
"""Lines of the console of a host that was lost: an oops of Linux 6.12 has about 90."""

MOST_UNREADABLE = 100
"""Lines of a host that are ignored before inject ends the host."""


@dataclass
class Journal:
    """The run on one host, from its JSON lines to the ledger. ``on_event`` gets each event that is fit for the report.

    ``current`` is the scenario that the host was given and has not settled; ``moved``
    counts the time since the host's last event, ``whole`` the time since ``current`` was given.
    A host with a line that is not an event, or not of the scenario under way, gets no other
    scenario (``unusable``); after MOST_UNREADABLE of them ``untrusted`` says why it must end.
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
    untrusted: str = ""
    moved: Patience = field(default_factory=lambda: Patience(SLACK))
    whole: Patience = field(default_factory=lambda: Patience(2 * SLACK))
    last: LastInjections = field(default_factory=LastInjections)
    """The injections of ``current``."""
    _started: bool = False
    _reported: set[str] = field(default_factory=set)
    """Scenarios that this host settled."""
    _told: tuple[int, int] = (0, 0)
    """Lines dropped and lines unreadable that :meth:`missing` has reported."""

    @property
    def armed(self) -> bool:
        """True if the scenario under way was armed."""
        return self.current is not None and self.ledger.stage(self.current.name) is Stage.ARMED

    def give(self, scenario: Scenario) -> None:
        """Note that the host is asked to run ``scenario``."""
        self.current = scenario
        self._reported.discard(scenario.name)
        self.last = LastInjections()
        self.moved = Patience(bound(scenario))
        self.whole = Patience(2 * bound(scenario))

    def overdue(self) -> str:
        """Why this host counts as hung although it lives; "" if it does not."""
        if self.moved.over():
            return f"nothing happened for {self.moved.limit:g} s"
        if self.current is not None and self.whole.over():
            return f"the scenario did not end within {self.whole.limit:g} s"
        return ""

    # ------------------------------------------------------------ what the host reports

    def take(self, line: bytes) -> None:
        """Take one line of the host: count it, note what it says, pass it on."""
        try:
            event = read_line(line)
            self._check(event)
        except NotAnEvent:
            self.unreadable += 1
            self.unusable = self.unusable or "it reported what is not an event"
            if self.unreadable > MOST_UNREADABLE:
                self.untrusted = f"{self.unreadable} lines of its report are not an event"
            return
        self.moved.reset()
        if isinstance(event, RunEnded):
            self.ended = True
        elif isinstance(event, Verdict):
            self.unusable = self.unusable or event.unusable
            if self._is_late(event):
                self.ledger.settle(event)
                self.on_event(event)
            else:
                self._settle(event)
        else:
            if isinstance(event, Armed):
                self.ledger.arm(event.scenario)
                event = replace(event, memory=None)
            elif isinstance(event, Injected):
                self.last.take(event.injection)
            elif isinstance(event, PointReached):
                self.ledger.reach(event)
            self.on_event(event)

    def _check(self, event: Event) -> None:
        """Raise NotAnEvent for an event that cannot be true: of another scenario, or out of order."""
        if isinstance(event, RunEnded):
            return
        if isinstance(event, RunStarted):
            if self._started:
                raise NotAnEvent("a second start")
            self._started = True
            return
        if event.trial:
            raise NotAnEvent("a trial that was not asked for")
        if self._is_late(event):
            return
        if self.current is None or event.scenario != self.current.name:
            raise NotAnEvent("a scenario that was not asked for")
        if isinstance(event, (Injected, ErrorTraced)) and not self.armed:
            raise NotAnEvent("an injection before the scenario was armed")
        if isinstance(event, Armed) and self.armed:
            raise NotAnEvent("a second arming")
        if isinstance(event, (PointReached, FunctionSkipped)):
            observed = isinstance(event, PointReached) and self.request.observe is not None and self.armed
            if self.request.record is None and not observed:
                raise NotAnEvent("a recording that was not asked for")
            return
        fault = event.injection.fault if isinstance(event, Injected) else 0
        fault = event.path.fault if isinstance(event, ErrorTraced) else fault
        if not 0 <= fault < len(self.current.faults):
            raise NotAnEvent("a fault that the scenario does not have")

    def _is_late(self, event: Event) -> bool:
        """True if it is the second verdict of a scenario of this host: its log had a splat after the trial."""
        return isinstance(event, Verdict) and event.status is Status.FAIL and event.scenario in self._reported

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
        self._reported.add(verdict.scenario)
        self.settled += 1
        self.ledger.settle(verdict)
        self.on_event(verdict)

    def blame(self, lost: Lost) -> None:
        """Settle the scenario under way, because the host is lost."""
        if self.current is not None:
            if self.armed and not lost.host_fault and lost.ending is not Ending.UNTRUSTED:
                for injection in self.last.complete(lost.remains, len(self.current.faults)):
                    self.on_event(Injected(self.current.name, 0, injection))
            self._settle(verdict_of(self.current, lost, armed=self.armed, request=self.request, last=self.last))

    def unreported(self, status: int, said: str) -> None:
        """Settle the scenario under way as an error of inject, which ended with ``status`` and gave no verdict."""
        if self.current is None:
            return
        log = tuple(printable(line) for line in said.rstrip("\n").split("\n")[-LOG_LINES:])
        last = next((line for line in reversed(log) if line.strip()), "it printed nothing")
        detail = f"inject in the guest ended with exit code {status} without a verdict: {last}"
        command = command_again(self.request.reproduce, self.current, self.request.seed)
        self._settle(Verdict(self.current.name, Status.ERROR, None, detail, reproduce=command, log=log))


def bound(scenario: Scenario) -> float:
    """Seconds within which the next event of a scenario must come, from a kernel as slow as any."""
    return 3 * max(SCRIPT, SLOWEST * scenario.timeout) + SLACK


def verdict_of(
    scenario: Scenario, lost: Lost, *, armed: bool, request: Request, last: Optional[LastInjections] = None
) -> Verdict:
    """The verdict on a scenario whose host is lost: a finding only if it was armed and this machine did nothing.

    ``last`` is what is known of its injections; more may have followed.
    """
    last = last or LastInjections()
    log = _own_part(lost.console, scenario.name)[-LOG_LINES:]
    command = command_again(request.reproduce, scenario, request.seed)
    if not armed or lost.host_fault or lost.ending is Ending.UNTRUSTED:
        when = "while" if armed else "before"
        detail = f"{lost.message} ({when} the scenario was armed)"
        return Verdict(scenario.name, Status.ERROR, None, detail, reproduce=command, log=log)
    reason = Reason.HANG if lost.ending is Ending.HUNG else Reason.CRASH
    detail = f"with {_points(scenario)} armed, {lost.message}; {last.sentence()}"
    log = (*last.lines(), *log)
    judgement = Judgement(Status.FAIL, (Complaint(reason, detail, log),))
    verdict = with_finding(scenario, judgement).verdict(scenario, reproduce=command)
    counts = last.counts(len(scenario.faults))
    return replace(verdict, counts=counts, notes=verdict.notes + last.notes())


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
