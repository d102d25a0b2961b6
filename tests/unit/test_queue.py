"""Which guest gets which scenario, and when one more guest pays."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Optional

import pytest

from inject.fleet.ledger import Ledger, Stage
from inject.fleet.queue import START, Work
from inject.model.scenario import Fault, Scenario, VmWishes
from inject.vm.build.artifacts import Artifacts
from inject.vm.guest import GuestOptions
from inject.vm.hosts import Guests

OPTIONS = GuestOptions(cpus=2, memory=1 << 30)
NOTHING = Artifacts(Path("x"), None, None, None, Path("y"), "kernel", "image", "6.12")
KIND = Guests({"test": NOTHING}, OPTIONS, Path("z"), lambda _: "test").kind


def scenario(name: str, **rest: Any) -> Scenario:
    return Scenario(name, f"{name}.yaml", (Fault("f", "-ENOMEM"),), "true", **rest)


def names(work: Work, options: Optional[Hashable]) -> list[str]:
    """Everything that a guest of this kind is given."""
    assert options is not None
    found: list[str] = []
    while True:
        given = work.take(options)
        if given is None:
            return found
        found.append(given.name)


def test_one_worker_goes_in_the_order_given() -> None:
    ledger = Ledger([scenario("a"), scenario("b"), scenario("c")])
    work = Work(ledger, KIND, {"c": 99.0}, longest_first=False)
    options = work.join()
    assert options == OPTIONS
    assert (names(work, options), ledger.names(Stage.WAITING)) == (["a", "b", "c"], [])


def test_the_scenarios_of_a_kind_are_in_the_order_of_the_batch_whatever_their_stage() -> None:
    ledger = Ledger([scenario("a"), scenario("b", vm=VmWishes(cpus=1)), scenario("c")])
    work = Work(ledger, KIND, {"a": 1.0, "c": 99.0}, longest_first=True)
    options = work.join()
    assert options is not None
    assert names(work, options) == ["c", "a"]
    assert [one.name for one in work.of(options)] == ["a", "c"]


def test_what_is_added_meanwhile_waits_for_its_own_kind_of_guest() -> None:
    ledger = Ledger([scenario("a"), scenario("b", vm=VmWishes(cpus=1))])
    work = Work(ledger, KIND, {}, longest_first=True)
    options = work.join()
    assert names(work, options) == ["a"]
    ledger.add(scenario("c", vm=VmWishes(cpus=1)))
    ledger.add(scenario("d"))
    assert names(work, options) == ["d"]
    assert names(work, work.join()) == ["b", "c"]
    assert work.join() is None


def test_the_longest_come_first_and_the_unknown_count_as_usual() -> None:
    seconds = {"short": 1.0, "long": 9.0, "longest": 20.0}
    members = [scenario(name) for name in ("short", "new", "long", "longest")]
    work = Work(Ledger(members), KIND, seconds, longest_first=True)
    assert names(work, work.join()) == ["longest", "new", "long", "short"]


def test_scenarios_with_the_same_wishes_share_a_guest() -> None:
    one = VmWishes(cpus=1)
    members = [scenario("a"), scenario("b", vm=one), scenario("c"), scenario("d", vm=VmWishes(1, 4 << 30))]
    work = Work(Ledger(members), KIND, dict.fromkeys("abcd", 1.0), longest_first=False)
    kinds = []
    for _ in range(3):
        options = work.join()
        assert isinstance(options, GuestOptions)
        kinds.append((options.cpus, options.memory >> 30, names(work, options)))
        work.leave(options)
    assert sorted(kinds) == [(1, 1, ["b"]), (1, 4, ["d"]), (2, 1, ["a", "c"])]
    assert work.join() is None


def test_a_kind_without_a_guest_comes_before_help_for_another() -> None:
    seconds = {"a": 500.0, "b": 500.0, "own": 1.0}
    members = [scenario("a"), scenario("b"), scenario("own", vm=VmWishes(cpus=1))]
    work = Work(Ledger(members), KIND, seconds, longest_first=True)
    first, second, third = work.join(), work.join(), work.join()
    assert [options.cpus for options in (first, second, third) if isinstance(options, GuestOptions)] == [2, 1, 2]


@pytest.mark.parametrize(("each", "guests"), [(START / 4, 1), (START * 4, 3)])
def test_one_more_guest_has_to_pay(each: float, guests: int) -> None:
    members = [scenario("a"), scenario("b"), scenario("c")]
    work = Work(Ledger(members), KIND, dict.fromkeys("abc", each), longest_first=True)
    joined = [options for options in (work.join() for _ in range(3)) if options is not None]
    assert len(joined) == guests


def test_what_was_given_back_is_the_next() -> None:
    ledger = Ledger([scenario("a"), scenario("b")])
    work = Work(ledger, KIND, {}, longest_first=False)
    taken = work.take(OPTIONS)
    assert taken is not None
    ledger.give_back(taken.name)
    assert names(work, OPTIONS) == ["a", "b"]


def test_what_nobody_will_run_is_given_up_by_the_last() -> None:
    ledger = Ledger([scenario("a"), scenario("b")])
    work = Work(ledger, KIND, dict.fromkeys("ab", 2 * START), longest_first=False)
    assert work.join() == work.join() == OPTIONS
    assert work.give_up(OPTIONS) == []
    work.leave(OPTIONS)
    assert [one.name for one in work.give_up(OPTIONS)] == ["a", "b"]
    work.leave(OPTIONS)
    assert (ledger.names(Stage.WAITING), work.join()) == ([], None)
