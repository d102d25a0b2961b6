"""Points that show only while something fails, observed in trials of a real kernel."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from inject.engine import maps
from inject.engine.abi import HASH, Table
from inject.engine.bcc import Bcc
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import Armed, Event, PointReached
from inject.model.reached import Point
from inject.model.verdict import Status, Verdict
from inject.record import observer as observers
from inject.record.observer import Observer
from inject.record.options import ObserveOptions, RecordOptions
from inject.scenario.load import parse
from inject.trial.services import RunOptions, Services, open_services
from inject.trial.trial import Trial
from tests.support.workbench import guest_only

pytestmark = guest_only

FUNCTIONS = ("do_rmdir", "do_mkdirat", "do_linkat")
TEXT = """\
name: t
faults: [{function: __x64_sys_mkdir, return: -ENOSPC, when: {nth: 2}}]
expect: {injected: '>=0'}
checks: [dmesg]
run: |
  rmdir none || :
  mkdir x
  mkdir y || rmdir none || :
"""
"""The first call of rmdir(2) comes before the injection, the second only because of it; both have one stack trace."""


class Stage:
    """Runs trials with one observer, and keeps their events."""

    def __init__(self, services: Services, observer: Observer, events: list[Event]) -> None:
        self._services = replace(services, observer=observer)
        self._events = events

    def run(self, text: str = TEXT) -> tuple[Verdict, list[Point]]:
        """The verdict on ``text``, and the points that were reported once it was armed."""
        (scenario,) = parse(text, "t.yaml", "t")
        self._events.clear()
        verdict = Trial(scenario, self._services, RunOptions(7, any_allowed=True)).run()
        armed = [isinstance(event, Armed) for event in self._events].index(True)
        points = [event.point for event in self._events if isinstance(event, PointReached)]
        later = [event.point for event in self._events[armed:] if isinstance(event, PointReached)]
        assert points == later
        return verdict, points


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def services(kernel: Kernel, types: Types, overrider: None, events: list[Event]) -> Iterator[Services]:
    with open_services(kernel, events.append, lambda _: None, types=types) as made:
        yield made


def observer(services: Services, known: Sequence[str] = (), functions: Sequence[str] = FUNCTIONS) -> Observer:
    return Observer(services, ObserveOptions(RecordOptions(tuple(functions)), tuple(known)))


def own_notes(verdict: Verdict) -> list[str]:
    """Its notes on points: a kernel without a list of error-injectable functions has one more."""
    return [note for note in verdict.notes if "point" in note]


def test_a_trial_reports_what_it_reaches_after_the_injection_once(
    services: Services, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known by its addresses is not named again, and what is known by its name is not reported."""
    named: list[int] = []
    points_of = observers.points_of
    monkeypatch.setattr(observers, "points_of", lambda raw, *rest: named.append(len(raw)) or points_of(raw, *rest))
    with observer(services) as made:
        stage = Stage(services, made, events)
        verdict, (point,) = stage.run()
        assert (verdict.status, verdict.counts[0].injected, own_notes(verdict)) == (Status.PASS, 1, [])
        assert (point.function, point.hits, point.first, point.error_type) == ("do_rmdir", 1, 0, "ERRNO")
        assert point.stack[0].startswith("__x64_sys_rmdir+0x")
        assert stage.run()[1] == [] and named == [1, 0]
    with observer(services, [point.id]) as made:
        assert Stage(services, made, events).run()[1] == [] and named == [1, 0, 1]


def test_without_an_injection_nothing_is_reported(services: Services, events: list[Event]) -> None:
    with observer(services) as made:
        verdict, points = Stage(services, made, events).run(TEXT.replace("nth: 2", "nth: 3"))
        assert (verdict.counts[0].seen, verdict.counts[0].injected, points) == (2, 0, [])


def test_the_failed_function_itself_may_be_observed(services: Services, events: list[Event]) -> None:
    """Its calls are seen, and its errors are injected, by two programs at one place."""
    with observer(services, functions=["__x64_sys_mkdir", "do_rmdir"]) as made:
        text = TEXT.replace("mkdir y ||", "mkdir y || mkdir z &&")
        verdict, points = Stage(services, made, events).run(text)
        assert verdict.counts[0].injected == 1
        assert {point.function for point in points} == {"__x64_sys_mkdir", "do_rmdir"}
        assert {point.hits for point in points if point.function == "__x64_sys_mkdir"} <= {1, 2}, (
            "one, or the failed one"
        )


def test_what_cannot_be_observed_is_a_note_and_the_trial_counts(services: Services, events: list[Event]) -> None:
    with observer(services, functions=["no_such_function"]) as made:
        verdict, points = Stage(services, made, events).run()
        assert (verdict.status, points) == (Status.PASS, [])
        (note,) = own_notes(verdict)
        assert note.startswith("points are not observed: no function of this kernel matches 'no_such_function'")


def test_more_points_than_are_reported_are_counted(
    services: Services, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observers, "MOST_NEW", 1)
    with observer(services) as made:
        text = TEXT.replace("mkdir y ||", "mkdir y || ln none x ||")
        verdict, points = Stage(services, made, events).run(text)
        assert len(points) == 1 and own_notes(verdict) == ["1 of 2 new points are not reported"]


@pytest.mark.parametrize("entries", [0, 1, 63, 64, 65, 500])
def test_a_table_is_read_and_emptied_in_parts(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "BATCH", 64)
    made = maps.Maps(Bcc(), {"t": Table(HASH, 8, 4, 500)}, {})
    try:
        expected = {struct.pack("<Q", n * n): struct.pack("<I", n) for n in range(entries)}
        for key, value in expected.items():
            made.update("t", key, value)
        found = made.drain("t")
        assert (len(found), dict(found), made.drain("t"), made.keys("t")) == (entries, expected, [], [])
    finally:
        made.close()


def test_a_table_that_cannot_be_read_is_a_sentence() -> None:
    made = maps.Maps(Bcc(), {"t": Table(6, 4, 8, 1)}, {})  # BPF_MAP_TYPE_PERCPU_ARRAY deletes nothing
    try:
        with pytest.raises(CannotRun, match="cannot read BPF map t: .*it needs Linux 5.6"):
            made.drain("t")
    finally:
        made.close()
