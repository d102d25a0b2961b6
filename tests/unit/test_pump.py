"""The threads of an armed trial, on an engine that is a list."""

from __future__ import annotations

import threading
from typing import Any, Optional

import pytest

from inject.model.event import Injection
from inject.trial.pump import LEASE, PASSING, LeaseKeeper, Pump, Ticker
from tests.support.waiting import wait_for


def fired(ordinal: int) -> Injection:
    return Injection(0, "f", "-EIO", -5, ordinal, 1, 1, "dd", 0)


class FakeEngine:
    """Gives the injections and trails that a test puts in."""

    def __init__(self) -> None:
        self.injections: list[Injection] = []
        self.pending: list[Any] = []
        self.rest: list[Any] = []
        self.collected = 0
        self.abandoned: Optional[tuple[int, int]] = None

    def abandon(self, trails: int) -> None:
        self.abandoned = len(self.injections), trails

    def collect(self, _milliseconds: int) -> None:
        self.collected += 1

    def take(self, most: int) -> list[Injection]:
        taken, self.injections = self.injections[:most], self.injections[most:]
        return taken

    def trails(self, *, rest: bool = False) -> list[Any]:
        if rest:
            return self.rest
        ripe, self.pending = self.pending, []
        return ripe


def pump(engine: FakeEngine, error: Optional[Exception] = None, seconds: float = PASSING) -> tuple[Pump, list[Any]]:
    """A pump and what it passed on."""
    seen: list[Any] = []

    def take(injection: Injection) -> None:
        if error is not None:
            raise error
        seen.append(injection.ordinal)

    return Pump(engine, take, seen.append, seconds), seen  # type: ignore[arg-type]


def test_injections_come_before_their_trails_and_the_rest_at_the_end() -> None:
    engine = FakeEngine()
    engine.injections = [fired(1), fired(2)]
    engine.pending, engine.rest = ["trail"], ["last trail"]
    subject, seen = pump(engine)
    subject.start()
    wait_for(lambda: len(seen) == 3, "the injections and the trail")
    engine.injections = [fired(3)]
    subject.stop()
    assert seen == [1, 2, "trail", 3, "last trail"]
    assert engine.collected > 0


def test_without_a_start_stop_passes_on_what_is_there() -> None:
    engine = FakeEngine()
    engine.injections = [fired(1)]
    subject, seen = pump(engine)
    subject.stop()
    assert seen == [1]
    assert engine.abandoned == (0, 0)


def test_after_its_time_the_rest_is_only_counted() -> None:
    engine = FakeEngine()
    engine.injections = [fired(1), fired(2)]
    engine.pending, engine.rest = ["trail"], ["last trail"]
    subject, seen = pump(engine, seconds=-1.0)
    subject.stop()
    assert seen == []
    assert engine.abandoned == (2, 2)


def test_stop_raises_what_went_wrong_in_the_thread() -> None:
    engine = FakeEngine()
    engine.injections = [fired(1)]
    subject, _ = pump(engine, OSError("a full disk"))
    subject.start()
    wait_for(lambda: not subject.is_alive(), "the end of the thread")
    with pytest.raises(OSError, match="a full disk"):
        subject.stop()


def test_a_ticker_acts_until_it_is_stopped() -> None:
    acted = threading.Event()
    ticker = Ticker("test", 0.001, acted.set)
    ticker.start()
    assert acted.wait(10)
    ticker.stop()
    assert not ticker.is_alive()


def test_the_lease_ends_a_fixed_time_after_the_last_beat() -> None:
    """A main thread that hangs is not kept armed by another thread."""
    now = 100.0
    extended: list[float] = []
    lease = LeaseKeeper(extended.append, lambda: now)
    lease.beat()
    lease.act()
    now += 4
    lease.act()
    now += 5.5
    lease.act()
    assert extended == [LEASE, LEASE - 4, LEASE - 9.5]
    now += 1
    lease.act()
    assert len(extended) == 3
    lease.beat()
    lease.act()
    assert extended[3:] == [LEASE]
