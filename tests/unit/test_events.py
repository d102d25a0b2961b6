"""Events that wait: in order, bounded, and what finds no room is counted by rule."""

from __future__ import annotations

import random

import pytest

from inject.engine import abi, events
from inject.engine.events import STRIDE, Backlog
from inject.engine.ring import HEADER


def event(number: int, slot: int = 0) -> bytes:
    """One event as it lies in the ring, its header before it."""
    frames = (0,) * abi.FRAMES
    return bytes(HEADER) + abi.EVENT.pack(0, number, 0, slot, 0, 0, 0, b"", 0, *frames)


def ordinals(taken: list[tuple[bytes, int]]) -> list[int]:
    return [abi.EVENT_HEAD.unpack_from(raw, at)[1] for raw, at in taken]


def test_the_oldest_come_first_from_any_chunk() -> None:
    backlog = Backlog()
    backlog.add(event(1) + event(2) + event(3))
    backlog.add(b"")
    backlog.add(event(4))
    assert ordinals(backlog.take(2)) == [1, 2]
    backlog.add(event(5) + event(6))
    assert ordinals(backlog.take(1)) == [3]
    assert ordinals(backlog.take(10)) == [4, 5, 6]
    assert backlog.take(10) == []


def test_any_pace_of_adding_and_taking() -> None:
    choose = random.Random(3)
    backlog, added, taken = Backlog(), 0, []
    while added < 300:
        count = choose.randrange(5)
        backlog.add(b"".join(event(added + number) for number in range(count)))
        added += count
        taken += ordinals(backlog.take(choose.randrange(5)))
    taken += ordinals(backlog.take(added))
    assert taken == list(range(added))


def test_what_finds_no_room_is_counted_by_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_EVENTS", 3)
    backlog = Backlog()
    backlog.add(event(1) + event(2))
    backlog.add(event(3) + event(4, slot=1) + event(5, slot=2) + event(6, slot=1))
    assert backlog.dropped == {1: 2, 2: 1}
    assert ordinals(backlog.take(1)) == [1]
    backlog.add(event(7) + event(8, slot=5))
    assert backlog.dropped == {1: 2, 2: 1, 5: 1}
    assert ordinals(backlog.take(9)) == [2, 3, 7]


def test_what_is_abandoned_is_counted_by_rule_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_EVENTS", 4)
    backlog = Backlog()
    backlog.add(event(1) + event(2, slot=3))
    backlog.add(event(3, slot=3) + event(4))
    backlog.take(1)
    backlog.abandon()
    assert backlog.dropped == {0: 1, 3: 2}
    assert backlog.take(9) == []
    backlog.add(b"".join(event(number) for number in range(5, 9)))
    assert ordinals(backlog.take(9)) == [5, 6, 7, 8]


def test_what_is_forgotten_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_EVENTS", 2)
    backlog = Backlog()
    backlog.add(event(1) + event(2))
    backlog.take(1)
    backlog.forget()
    assert backlog.take(9) == []
    backlog.add(event(3) + event(4))
    assert ordinals(backlog.take(9)) == [3, 4]
    assert backlog.dropped == {}


def test_an_event_is_a_whole_record() -> None:
    assert len(event(1)) == STRIDE and STRIDE % 8 == 0
