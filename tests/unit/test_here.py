"""A batch on this machine: a scenario is given when the one before has its verdict, up to an unusable kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Callable

import pytest

from inject.errors import InjectError
from inject.fleet import here as module
from inject.fleet.here import Here
from inject.fleet.ledger import Ledger, Stage
from inject.fleet.request import Request
from inject.model.event import Event, PointReached, RunEnded, RunStarted
from inject.model.reached import Point
from inject.model.scenario import Fault, Scenario
from inject.model.verdict import Status, Verdict
from inject.record.options import RecordOptions


class FakeMachine:
    """Stands for this one; the verdict on ``spoils`` makes its kernel unusable."""

    release = "6.12"

    def __init__(self, spoils: str = "") -> None:
        self.spoils = spoils
        self.steps: list[str] = []

    def is_guest(self) -> bool:
        return True

    @contextlib.contextmanager
    def services(self, _kernel: object, emit: Callable[[Event], None], *_: object, **__: object) -> Iterator[Any]:
        self.emit = emit
        yield self

    def run(self, scenarios: Iterable[Scenario], *_: object, end: Callable[[Verdict], None], **__: object) -> None:
        for scenario in scenarios:
            self.steps.append(scenario.name)
            self.emit(PointReached(scenario.name, 0, Point("f", "", (), 1, 1, "ERRNO")))
            spoilt = "it has oopsed" if scenario.name == self.spoils else ""
            end(Verdict(scenario.name, Status.PASS, unusable=spoilt))
            if spoilt:
                return


class Reaching(Ledger):
    """A ledger that says what it is told."""

    def __init__(self, *names: str) -> None:
        super().__init__([Scenario(name, "a.yaml", (Fault("f", "-EIO"),), "true") for name in names])
        self.reached: list[str] = []

    def reach(self, event: PointReached) -> None:
        self.reached.append(event.scenario)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    made = FakeMachine()
    monkeypatch.setattr(module, "open_services", made.services)
    monkeypatch.setattr(module, "run_all", made.run)
    monkeypatch.setattr(module, "record_all", made.run)
    monkeypatch.setattr(module, "require_injection", lambda _: None)
    monkeypatch.setattr(module, "run_started", lambda *_: RunStarted("0", "6.12", "", 1, ()))
    return made


def here(machine: FakeMachine) -> Here:
    return Here(machine, None, lambda names: None)  # type: ignore[arg-type]


def test_all_are_settled_in_order_and_events_are_passed_on(machine: FakeMachine) -> None:
    ledger, events = Reaching("a", "b"), list[Event]()
    verdicts = here(machine).run(ledger, Request(1), events.append)
    assert [verdict.scenario for verdict in verdicts] == machine.steps == ledger.reached == ["a", "b"]
    assert isinstance(events[0], RunStarted) and isinstance(events[-1], RunEnded)


def test_the_points_of_a_recording_are_not_those_of_a_trial(machine: FakeMachine) -> None:
    ledger = Reaching("a")
    here(machine).run(ledger, Request(1, record=RecordOptions()), lambda _: None)
    assert (machine.steps, ledger.reached) == (["a"], [])


def test_one_is_given_only_when_the_one_before_has_its_verdict(machine: FakeMachine) -> None:
    ledger = Reaching("a", "b")
    given: list[list[str]] = []

    def look(event: Event) -> None:
        if isinstance(event, PointReached):
            given.append(ledger.names(Stage.GIVEN))

    here(machine).run(ledger, Request(1), look)
    assert given == [["a"], ["b"]]


def test_an_unusable_kernel_runs_no_more(machine: FakeMachine) -> None:
    machine.spoils = "a"
    made, ledger = here(machine), Reaching("a", "b")
    assert [verdict.scenario for verdict in made.run(ledger, Request(1), lambda _: None)] == ["a"]
    assert (made.unusable, ledger.names(Stage.WAITING)) == ("it has oopsed", ["b"])
    with pytest.raises(InjectError, match="must not run more trials: it has oopsed; reboot"):
        made.run(ledger, Request(1), lambda _: None)
