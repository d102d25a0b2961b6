"""The kernel's deadline: armed by one write, put off in time, and never revived by accident."""

from __future__ import annotations

import time
from typing import Any

import pytest

from inject.engine import abi, lease
from inject.engine.lease import Arming, Lease
from inject.engine.own_processes import OwnProcesses

OWN = OwnProcesses(tool=11, janitor=12, agent=13)
ARMING = Arming(cgroup=77, level=3, budget=9, others=True)


class Memory:
    """The control area, and the order of writes to it."""

    def __init__(self) -> None:
        self.control = bytearray(abi.CONTROL.size)
        self.offsets: list[int] = []

    def write(self, area: str, value: bytes, slot: int = 0, offset: int = 0) -> None:
        """Put ``value`` into it."""
        assert (area, slot) == ("control", 0)
        self.control[offset : offset + len(value)] = value
        self.offsets.append(offset)

    def fields(self) -> dict[str, int]:
        """What the program reads."""
        return dict(zip(abi.CONTROL.fields, abi.CONTROL.unpack(self.control)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nanoseconds, to be set."""
    now = [10**9]
    monkeypatch.setattr(lease, "_now", lambda: now[0])
    return now


def made() -> tuple[Lease, Memory]:
    memory = Memory()
    maps: Any = memory
    return Lease(maps, OWN), memory


def test_the_flag_is_written_last(clock: list[int]) -> None:
    held, memory = made()
    held.begin(ARMING, 5.0)
    assert memory.offsets == [0, abi.ARMED]
    found = memory.fields()
    assert {
        name: found[name] for name in ("cgroup", "level", "budget", "tool", "janitor", "agent", "others", "armed")
    } == {
        "cgroup": 77,
        "level": 3,
        "budget": 9,
        "tool": 11,
        "janitor": 12,
        "agent": 13,
        "others": 1,
        "armed": 1,
    }
    assert found["deadline"] == 6 * 10**9


def test_it_is_put_off_in_time_and_not_afterwards(clock: list[int]) -> None:
    held, memory = made()
    held.begin(ARMING, 5.0)
    clock[0] += 4 * 10**9
    held.extend(5.0)
    assert memory.fields()["deadline"] == 10 * 10**9 and not held.lapsed
    clock[0] += 5 * 10**9
    held.extend(5.0)
    assert held.lapsed and memory.fields()["deadline"] == 10 * 10**9
    held.extend(5.0)
    assert memory.fields()["deadline"] == 10 * 10**9


def test_a_user_may_revive_it(clock: list[int]) -> None:
    held, memory = made()
    held.revive(5.0)
    assert memory.offsets == []
    held.begin(ARMING, 1.0)
    clock[0] += 3 * 10**9
    held.extend(1.0)
    held.revive(1.0)
    assert not held.lapsed and memory.fields()["deadline"] == 5 * 10**9


@pytest.mark.parametrize(("seconds", "lapsed"), [(1, True), (0.5, False)])
def test_the_end_disarms_and_notices_a_late_one(clock: list[int], seconds: float, lapsed: bool) -> None:
    held, memory = made()
    held.begin(ARMING, 1.0)
    clock[0] += int(seconds * 10**9)
    held.end()
    assert memory.fields()["armed"] == 0 and held.lapsed is lapsed
    held.extend(9.0)
    held.revive(9.0)
    assert memory.fields()["armed"] == 0
    held.begin(ARMING, 1.0)
    assert memory.fields()["armed"] == 1 and not held.lapsed


def test_the_clock_is_the_programs() -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert before <= lease._now() <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
