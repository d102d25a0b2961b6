"""Faults under a user's eye: all attached and counting, each armed, disarmed or changed while things run.

A rule that is off stays in the kernel and counts; it lets every call through. The
kernel's own deadline is a lease that :meth:`Session.tick` renews: if inject stops or
hangs, injection ends within LEASE seconds.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.engine.rule import Plan, Rule
from inject.kernel.log import LogWriter
from inject.model.event import Injection
from inject.model.scenario import Fault, Probe, Scope
from inject.model.trigger import Trigger
from inject.model.verdict import Counts

LEASE = 5.0
"""Seconds that the kernel goes on failing calls unless the lease is renewed."""

RENEW = 1.0
"""Seconds between two renewals, and between two rates."""

NEVER = (1 << 64) - 1
"""As `after`: more calls than there will be."""


class State(enum.Enum):
    """State of a fault."""

    OFF = "off"
    ARMED = "armed"
    ONCE = "once"
    SPENT = "spent"


@dataclass
class Row:
    """One fault: what it is, what it does now, and what was counted since the beginning.

    ``rate`` is in calls seen per second.
    """

    fault: Fault
    rule: Rule
    state: State = State.OFF
    counts: Counts = field(default_factory=Counts)
    rate: float = 0.0
    last: Optional[Injection] = None
    goal: int = 0
    """Injections at which it is spent; 0: never."""


class Session:
    """The faults of one `inject watch`. A context manager: leaving it disarms and detaches.

    Raises InjectError if a fault cannot be planned, before anything is attached.
    """

    def __init__(self, engine: Engine, planner: Planner, faults: Sequence[Fault], probe: Probe = Probe.AUTO) -> None:
        self._engine = engine
        self._seed = planner.seed
        self._probe = probe
        self._log = LogWriter("watch")
        self.rows = [Row(fault, planner.rule(fault, index)) for index, fault in enumerate(faults)]
        self._renewed = 0.0
        self._before: tuple[float, tuple[Counts, ...]] = (0.0, ())
        self._marks = 0

    def __enter__(self) -> Session:
        self._engine.attach(Plan(tuple(_quiet(row.rule) for row in self.rows)), self._probe, errnos=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.detach()
        self._log.end()

    def start(self, cgroup: int, level: int) -> None:
        """Begin to count calls of tasks below ``cgroup`` (its id and depth), everything still off."""
        self._log.begin(self._seed)
        self._engine.arm(cgroup, level, LEASE)
        self._renewed = time.monotonic()
        self._before = (self._renewed, self._engine.counts())

    # ------------------------------------------------------------ changing

    def arm(self, index: int) -> None:
        """Let it fire by its trigger, counted from now."""
        row = self.rows[index]
        self._fire(index, row.fault.when.trigger)
        row.state = State.ARMED

    def once(self, index: int) -> None:
        """Fail the next call that its conditions take, and no more."""
        self._fire(index, Trigger(times=1))
        self.rows[index].state = State.ONCE

    def disarm(self, index: int) -> None:
        """Let every call through, and go on counting."""
        row = self.rows[index]
        self._engine.rewrite(index, _quiet(row.rule))
        row.state, row.goal = State.OFF, 0

    def arm_all(self) -> None:
        """Arm every fault."""
        for index in range(len(self.rows)):
            self.arm(index)

    def disarm_all(self) -> None:
        """Switch every fault off."""
        for index in range(len(self.rows)):
            self.disarm(index)

    def retrigger(self, index: int, trigger: Trigger) -> None:
        """Give a fault another trigger; at once if it is armed, otherwise it is off."""
        row = self.rows[index]
        row.fault = replace(row.fault, when=replace(row.fault.when, trigger=trigger))
        row.rule = replace(row.rule, trigger=trigger)
        if row.state is State.ARMED:
            self.arm(index)
        else:
            self.disarm(index)

    def _fire(self, index: int, trigger: Trigger) -> None:
        """Let ``trigger`` count from now: the kernel's counters go on, so it starts at their values."""
        row = self.rows[index]
        self._engine.rewrite(index, _quiet(row.rule))
        counts = self._engine.counts()[index]
        drawn, limit = self._engine.drawn(index), trigger.limit
        row.goal = counts.injected + limit if limit else 0
        moved = replace(trigger, after=counts.matched + trigger.after, times=drawn + limit if limit else None)
        self._engine.rewrite(index, replace(row.rule, trigger=moved))

    def mark(self) -> str:
        """Write a numbered line to the kernel log; returns what it says, or why it could not."""
        self._marks += 1
        return self._log.note(f"mark {self._marks}") or f"kernel log: inject: watch: mark {self._marks}"

    # ------------------------------------------------------------ looking

    def tick(self) -> list[Injection]:
        """Renew the lease, take what was counted, and return what fired since the last call."""
        now = time.monotonic()
        if now - self._renewed >= RENEW:
            self._engine.revive(LEASE)
            self._renewed = now
        fired = self._engine.poll(0)
        for injection in fired:
            self._log.injection(injection)
            self.rows[injection.fault].last = injection
        counts = self._engine.counts()
        then, before = self._before
        rated = now - then >= RENEW
        for index, (row, new) in enumerate(zip(self.rows, counts)):
            row.counts = new
            if rated:
                row.rate = (new.seen - before[index].seen) / (now - then)
            if row.goal and row.state in (State.ARMED, State.ONCE) and new.injected >= row.goal:
                row.state = State.SPENT
        if rated:
            self._before = (now, counts)
        return fired


def _quiet(rule: Rule) -> Rule:
    """The same rule, which counts and never fires."""
    return replace(rule, trigger=replace(rule.trigger, after=NEVER))


def for_any_task(faults: Sequence[Fault]) -> list[Fault]:
    """The same faults for calls of every task."""
    return [replace(fault, scope=Scope.ANY) for fault in faults]
