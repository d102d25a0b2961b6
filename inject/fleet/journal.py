"""What one guest tells of the scenarios it was given, and the verdicts that it could not give itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Callable, Optional

from inject.fleet.host import Ending, Lost, Patience
from inject.model.event import Armed, Event, RunEnded
from inject.model.scenario import Scenario
from inject.model.verdict import Reason, Status, Verdict
from inject.report.jsonl import from_json
from inject.trial.judge import with_finding

IN_GUEST = "sudo inject run"
FROM_HOST = "inject vm run"
"""How a verdict's ``reproduce`` begins there, and what it has to be here."""

SLACK = 600.0
"""Seconds that making, checking and removing filesystems may take in all, apart from the scripts."""

SCRIPT = 120.0
"""Seconds that the guest allows each script of a scenario, or its timeout if longer (runner.SCRIPT_TIMEOUT)."""

LOG_LINES = 80


@dataclass
class Journal:
    """Where the run in one guest stands. ``on_event`` gets what is fit for the report, verdicts among it.

    ``current`` is the scenario that the guest was given and has not settled;
    ``moved`` counts the time since the last line of the guest.
    """

    on_event: Callable[[Event], None]
    seed: Optional[int] = None
    current: Optional[Scenario] = None
    armed: bool = False
    settled: int = 0
    """Verdicts that this guest gave or was given."""
    ended: bool = False
    unusable: str = ""
    bad_lines: int = 0
    moved: Patience = field(default_factory=lambda: Patience(SLACK))

    def give(self, scenario: Scenario) -> None:
        """The guest is asked to run ``scenario``."""
        self.current, self.armed = scenario, False
        self.moved = Patience(bound(scenario))

    def take(self, line: bytes) -> None:
        """One line of the results port: keep count, pass it on."""
        self.moved.reset()
        try:
            event = from_json(json.loads(line))
            if isinstance(event, Verdict):
                self._given(event)
                return
        except ValueError:
            self.bad_lines += 1
            return
        if isinstance(event, RunEnded):
            self.ended = True
            return
        if isinstance(event, Armed):
            self.armed = True
        self.on_event(event)

    def _given(self, verdict: Verdict) -> None:
        """The guest's own verdict; raises ValueError when it is not of the scenario that the guest was given."""
        if self.current is None or verdict.scenario != self.current.name:
            raise ValueError(f"nobody asked for {verdict.scenario}")
        if verdict.reproduce.startswith(IN_GUEST):
            verdict = replace(verdict, reproduce=FROM_HOST + verdict.reproduce[len(IN_GUEST) :])
        self.unusable = self.unusable or verdict.unusable
        self.settle(verdict)

    def settle(self, verdict: Verdict) -> None:
        """The scenario under way has its verdict."""
        self.current, self.armed = None, False
        self.settled += 1
        self.on_event(verdict)

    def blame(self, lost: Lost) -> None:
        """The guest is lost: the scenario under way gets the verdict."""
        if self.current is not None:
            self.settle(verdict_of(self.current, lost, armed=self.armed, seed=self.seed))

    def unreported(self, status: int, said: str) -> None:
        """`inject run` ended with ``status`` and the scenario under way has no verdict: our fault, not the kernel's."""
        if self.current is None:
            return
        log = tuple(said.rstrip("\n").split("\n")[-LOG_LINES:])
        last = next((line for line in reversed(log) if line.strip()), "it printed nothing")
        detail = f"inject run in the guest ended with exit code {status} without a verdict: {last}"
        command = _reproduce(self.current, self.seed)
        self.settle(Verdict(self.current.name, Status.ERROR, None, detail, reproduce=command, log=log))


def bound(scenario: Scenario) -> float:
    """Seconds until the next event of a scenario must have come."""
    return 3 * max(SCRIPT, scenario.timeout) + SLACK


def verdict_of(scenario: Scenario, lost: Lost, *, armed: bool, seed: Optional[int]) -> Verdict:
    """The verdict on a scenario whose guest is lost: a finding only when it was armed and the host did nothing."""
    log = _own_part(lost.console, scenario.name)[-LOG_LINES:]
    command = _reproduce(scenario, seed)
    if not armed or lost.host_fault:
        when = "while" if armed else "before"
        detail = f"{lost.message} ({when} the scenario was armed)"
        return Verdict(scenario.name, Status.ERROR, None, detail, reproduce=command, log=log)
    reason = Reason.HANG if lost.ending is Ending.HUNG else Reason.CRASH
    detail = f"with {_points(scenario)} armed, {lost.message}"
    return with_finding(scenario, Verdict(scenario.name, Status.FAIL, reason, detail, reproduce=command, log=log))


def _reproduce(scenario: Scenario, seed: Optional[int]) -> str:
    words = [FROM_HOST, scenario.file, "--only", scenario.name]
    return " ".join(words + (["--seed", str(seed)] if seed is not None else []))


def _own_part(console: str, name: str) -> tuple[str, ...]:
    """What the console shows from the scenario's own marker in the kernel log on; all of it without one."""
    lines = console.split("\n") if console else []
    begun = [number for number, line in enumerate(lines) if f"inject: begin {name} " in line]
    return tuple(lines[begun[-1] :] if begun else lines)


def _points(scenario: Scenario) -> str:
    """The fault points of a scenario: ``__filemap_add_folio = -ENOMEM``."""
    return ", ".join(f"{fault.function} = {fault.returns}" for fault in scenario.faults)
