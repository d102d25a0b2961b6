"""Several guests' events as one report, and workers that end however the batch does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inject.errors import ExitStatus, InjectError
from inject.fleet import dispatch as batch
from inject.fleet import worker
from inject.fleet.dispatch import Merged, run_batch
from inject.fleet.host import Ending, Lost, Refused
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.model.event import Armed, Event, RunEnded, RunStarted
from inject.model.scenario import Fault, Scenario, VmWishes
from inject.model.verdict import Status, Verdict

Events = list[Event]


def scenario(name: str, **rest: Any) -> Scenario:
    return Scenario(name, f"{name}.yaml", (Fault("f", "-ENOMEM"),), "true", **rest)


def verdict(name: str) -> Verdict:
    return Verdict(name, Status.PASS)


def started(kernel: str) -> RunStarted:
    return RunStarted("0", kernel, "", 1, ())


def test_one_run_comes_first_whatever_comes_first() -> None:
    seen: Events = []
    merged = Merged(seen.append, 5)
    merged.take(verdict("b"))
    merged.take(started("one"))
    merged.take(Armed("a", 0, ()))
    merged.take(started("two"))
    merged.take(verdict("a"))
    merged.finish([verdict("a"), verdict("b")])
    assert seen == [started("one"), verdict("b"), Armed("a", 0, ()), verdict("a"), RunEnded(passed=2)]


def test_a_report_without_any_guests_word_has_a_run_too() -> None:
    seen: Events = []
    merged = Merged(seen.append, 5)
    merged.take(verdict("a"))
    merged.finish([verdict("a")])
    assert [type(event) for event in seen] == [RunStarted, Verdict, RunEnded]
    assert isinstance(seen[0], RunStarted) and seen[0].seed == 5


def test_the_request_starts_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Request(1).cwd == tmp_path


# ---------------------------------------------------------------- workers, with a guest that never boots


class FakeHosts:
    """Hosts whose :meth:`open` is the test's function."""

    key = "none"

    def __init__(self, opens: Callable[..., Any]) -> None:
        self.open = opens

    def kind(self, scenario: Scenario) -> VmWishes:
        """As the scenario has it."""
        return scenario.vm


def batch_of(opens: Callable[..., Any], cache: Path, count: int, jobs: int, seen: Events, **rest: Any) -> list[Verdict]:
    """A batch of ``count`` scenarios, the first of them in a guest of its own kind."""
    own = scenario("0", vm=VmWishes(cpus=1))
    ledger = Ledger((own, *(scenario(str(number)) for number in range(1, count))))
    return run_batch(ledger, Request(1), FakeHosts(opens), cache=cache, on_event=seen.append, jobs=jobs, **rest)


@pytest.mark.parametrize("jobs", [1, 4])
def test_when_no_guest_boots_that_is_said_once(tmp_path: Path, jobs: int) -> None:
    def dead(*_: Any, **__: Any) -> Any:
        raise Lost(Ending.NEVER_BOOTED, "no reason", console="last words")

    seen: Events = []
    with pytest.raises(Lost, match="never booted: no reason"):
        batch_of(dead, tmp_path, 5, jobs, seen)
    assert seen == []
    assert not _workers()


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_error_of_one_worker_ends_all(tmp_path: Path, jobs: int) -> None:
    """The others wait in their guests until the tick ends them."""
    first = threading.Lock()

    def one_fails(*_: Any, tick: Any, **__: Any) -> Any:
        if first.acquire(blocking=False):
            raise InjectError("no space")
        while True:
            tick()
            time.sleep(0.01)

    with pytest.raises(InjectError, match="no space"):
        batch_of(one_fails, tmp_path, 9, jobs, [])
    assert not _workers()


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_host_that_refuses_the_scenarios_ends_the_batch_as_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    def refuses(_: Any, _files: Any, output: Any) -> int:
        output.feed(b"s.yaml:9:13: f must not return 0\x1b[2J\n")
        return ExitStatus.USAGE

    monkeypatch.setattr(worker.HostSession, "run", refuses)
    seen: Events = []
    with pytest.raises(Refused) as caught:
        batch_of(lambda *_, **__: nullcontext(SimpleNamespace(results_dropped=int)), tmp_path, 5, jobs, seen)
    assert (caught.value.status, caught.value.placed) == (ExitStatus.USAGE, True)
    assert str(caught.value) == "s.yaml:9:13: f must not return 0\\x1b[2J"
    assert seen == [] and not _workers()


def test_a_host_that_was_given_nothing_judges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one took what waited while it booted, and more waits only after it was told that nothing does."""
    ledger = Ledger([scenario("0")])

    def opens(*_: Any, **__: Any) -> Any:
        if ledger.give("0"):
            ledger.settle(verdict("0"))
        return nullcontext(SimpleNamespace(results_dropped=int))

    def run(session: worker.HostSession, _files: Any, _output: Any) -> int:
        given = session._take()
        if given is None:
            ledger.add(scenario("late"))
        else:
            session._journal.current = given
            session._journal._settle(verdict(given.name))
        return ExitStatus.OK

    monkeypatch.setattr(worker.HostSession, "run", run)
    found = run_batch(ledger, Request(1), FakeHosts(opens), cache=tmp_path, on_event=lambda _: None)
    assert found == [verdict("0"), verdict("late")]


def test_an_interrupt_ends_all(tmp_path: Path) -> None:
    def waits(*_: Any, tick: Any, say: Any, **__: Any) -> Any:
        say("here")
        while True:
            tick()
            time.sleep(0.01)

    def interrupt(line: str) -> None:
        assert line.startswith("guest ")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch_of(waits, tmp_path, 9, 3, [], say=interrupt)
    assert not _workers()


def _workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("inject-")]


@pytest.fixture(autouse=True)
def _bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker that does not end fails the test, not the suite's patience."""
    monkeypatch.setattr(batch, "ENDING", 20.0)
    yield
