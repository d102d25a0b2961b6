"""Several scenarios one after the other: the budget they share, and a kernel that is no longer of use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inject.campaign import run
from inject.campaign.run import run_all
from inject.model.scenario import Fault, Scenario
from inject.model.verdict import Counts, Status, Verdict
from inject.trial.services import RunOptions


class Emitted(list):  # type: ignore[type-arg]
    """Services of which only the events are of interest."""

    def emit(self, event: Any) -> None:
        self.append(event)


def scenario(name: str) -> Scenario:
    return Scenario(name, f"{name}.yaml", (Fault("f", "-EIO"),), "true")


class FakeTrial:
    """Injects twice, in ``b`` leaves the kernel unusable, and shows its budget."""

    def __init__(self, subject: Scenario, _services: Any, options: RunOptions, before_arming: Any, hold: Any) -> None:
        assert hold is None
        self.scenario = subject
        self._name, self._budget = subject.name, options.budget
        self._before_arming = before_arming

    def run(self) -> Verdict:
        self._before_arming()
        unusable = "it has oopsed" if self._name == "b" else ""
        detail = f"budget {self._budget}"
        return Verdict(self._name, Status.PASS, detail=detail, counts=(Counts(9, 9, 2),), unusable=unusable)


class FakeAftermath:
    """The log in which a splat of ``l`` comes late."""

    def __init__(self) -> None:
        self._last: Any = None

    def __enter__(self) -> FakeAftermath:
        return self

    def __exit__(self, *_: object) -> None:
        self._last = None

    def follow(self, _scenario: Scenario, verdict: Verdict) -> None:
        self._last = verdict

    def late(self, _allow: Any = ()) -> Any:
        last, self._last = self._last, None
        return replace(last, status=Status.FAIL, detail="late") if last and last.scenario == "l" else None


@pytest.fixture(autouse=True)
def _no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "Trial", FakeTrial)
    monkeypatch.setattr(run, "Aftermath", FakeAftermath)


def verdicts(names: str, budget: int = 0, **rest: Any) -> list[Verdict]:
    """Of scenarios with these one-letter names; checks that each is begun, told and ended in order."""
    services, begun, ended = Emitted(), [], []
    found = run_all(
        [scenario(name) for name in names],
        services,  # type: ignore[arg-type]
        RunOptions(1, budget=budget),
        begin=lambda number, one: begun.append((number, one.name)),
        end=ended.append,
        **rest,
    )
    assert begun == list(enumerate(names[: len(found)], 1))
    assert found == ended == list(services)
    return found


def test_no_budget_stays_no_budget() -> None:
    assert [verdict.detail for verdict in verdicts("acd")] == ["budget 0"] * 3


def test_each_scenario_has_what_is_left_of_the_budget() -> None:
    found = verdicts("acde", budget=3)
    assert [verdict.detail for verdict in found[:2]] == ["budget 3", "budget 1"]
    assert [verdict.status for verdict in found[2:]] == [Status.ERROR] * 2
    assert found[2].detail == "the run's budget of 3 injections was used up before this scenario"


def test_on_an_unusable_kernel_no_other_scenario_runs() -> None:
    found = verdicts("abcd")
    assert [verdict.status for verdict in found] == [Status.PASS, Status.PASS, Status.ERROR, Status.ERROR]
    assert found[2].detail == "this kernel must not run more trials: it has oopsed"


def test_an_unusable_kernel_ends_the_run_if_asked() -> None:
    assert [verdict.scenario for verdict in verdicts("abcd", stop_when_unusable=True)] == ["a", "b"]


@pytest.mark.parametrize("names", ["l", "la", "al"])
def test_what_comes_late_in_the_log_changes_the_verdict_on_the_trial_before(names: str) -> None:
    services, ended = Emitted(), []
    found = run_all(
        [scenario(name) for name in names],
        services,  # type: ignore[arg-type]
        RunOptions(1),
        begin=lambda _number, _one: None,
        end=ended.append,
    )
    assert {verdict.scenario: verdict.status for verdict in found} == {
        name: Status.FAIL if name == "l" else Status.PASS for name in names
    }
    told = [(verdict.scenario, verdict.status) for verdict in ended]
    assert ended == list(services) and told.count(("l", Status.FAIL)) == told.count(("l", Status.PASS)) == 1
