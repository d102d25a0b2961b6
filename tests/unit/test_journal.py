"""What the host makes of a guest's journal: who is blamed, with which word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from inject.fleet import journal as journals
from inject.fleet.host import Ending, Lost
from inject.fleet.journal import Journal
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.kernel.config import SLOWEST
from inject.model.event import (
    Armed,
    Event,
    FunctionSkipped,
    Injected,
    Injection,
    PointReached,
    RunEnded,
    RunStarted,
)
from inject.model.reached import Point, Skipped
from inject.model.scenario import Fault, Finding, Scenario
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.record.options import ObserveOptions, RecordOptions
from inject.report.jsonl import to_json
from inject.vm.channel import encode

Events = list[Event]
STARTED = RunStarted("0", "6.12", "", 1, ())


def scenario(name: str, **rest: Any) -> Scenario:
    return Scenario(name, f"scenarios/{name}.yaml", (Fault("__x64_sys_mkdir", "-ENOMEM"),), "mkdir x", **rest)


def journal(events: Iterable[Event], given: Scenario, **rest: Any) -> tuple[Journal, Events]:
    """Where the run of ``given`` stands after ``events``."""
    seen: Events = []
    ledger = Ledger([given, scenario("other")])
    made = Journal(ledger, Request(7), seen.append, **rest)
    made.give(given)
    for event in events:
        made.take(encode(to_json(event))[:-1])
    return made, seen


def armed(name: str) -> Armed:
    return Armed(name, 0, ())


def passed(name: str, **rest: Any) -> Verdict:
    return Verdict(name, Status.PASS, **rest)


def last(seen: Events) -> Verdict:
    assert isinstance(seen[-1], Verdict)
    return seen[-1]


def blamed(made: Journal, seen: Events, lost: Lost) -> Verdict:
    made.blame(lost)
    assert made.current is None
    return last(seen)


PANIC = Lost(Ending.PANICKED, "Fatal exception", console="one\ntwo")


def test_the_armed_scenario_crashed() -> None:
    verdict = blamed(*journal([armed("b")], scenario("b")), PANIC)
    assert (verdict.scenario, verdict.status, verdict.reason) == ("b", Status.FAIL, Reason.CRASH)
    assert verdict.detail == (
        "with __x64_sys_mkdir = -ENOMEM armed, the guest panicked: Fatal exception; no injection was reported before"
    )
    assert verdict.log == ("one", "two")
    assert verdict.reproduce == "inject vm run scenarios/b.yaml --only b --seed 7"


def injected(ordinal: int, **rest: Any) -> Injected:
    return Injected("b", 0, Injection(0, "f", "-EIO", -5, ordinal, 10, 11, "dd", 99, ("f+0x0", "g+0x1"), **rest))


@pytest.mark.parametrize("ending", [Ending.PANICKED, Ending.HUNG])
def test_a_lost_guest_names_its_last_injections(ending: Ending) -> None:
    made, seen = journal([armed("b"), *(injected(3 * number) for number in range(1, 8))], scenario("b"))
    verdict = blamed(made, seen, Lost(ending, "why", console="one\ntwo"))
    assert verdict.detail.endswith("; the last of at least 7 injections: dd/11: f returns -EIO (match 21)")
    assert verdict.counts == (Counts(seen=21, matched=21, injected=7),)
    assert verdict.log[:2] == ("last injections:", "  dd/11, match 9: f < g")
    assert verdict.log[5:] == ("  dd/11: f returns -EIO (match 21)", "    f+0x0", "    g+0x1", "one", "two")
    assert "there may be more" in verdict.notes[-1]


def test_the_injections_of_the_scenario_before_are_not_named() -> None:
    made, seen = journal([armed("b"), injected(1), passed("b")], scenario("b"))
    made.give(scenario("other"))
    made.take(encode(to_json(armed("other")))[:-1])
    verdict = blamed(made, seen, PANIC)
    assert (verdict.counts, "no injection was reported" in verdict.detail) == ((), True)


def test_a_guest_that_fell_silent_is_a_hang() -> None:
    verdict = blamed(*journal([armed("a")], scenario("a")), Lost(Ending.HUNG, "no heartbeat for 30 s", console=""))
    assert (verdict.status, verdict.reason) == (Status.FAIL, Reason.HANG)


def test_a_death_before_arming_is_no_finding() -> None:
    verdict = blamed(*journal([STARTED], scenario("a")), PANIC)
    assert (verdict.scenario, verdict.status, verdict.reason) == ("a", Status.ERROR, None)
    assert "before the scenario was armed" in verdict.detail


def test_what_this_machine_did_is_no_finding() -> None:
    lost = Lost(Ending.ENDED, "QEMU was ended by SIGKILL", console="", host_fault=True)
    verdict = blamed(*journal([armed("a")], scenario("a")), lost)
    assert (verdict.status, verdict.reason) == (Status.ERROR, None)
    assert "while the scenario was armed" in verdict.detail


def test_a_death_after_the_verdict_blames_the_next() -> None:
    made, seen = journal([armed("a"), passed("a")], scenario("a"))
    made.blame(PANIC)
    assert [type(event) for event in seen] == [Armed, Verdict]
    made.give(scenario("other"))
    verdict = blamed(made, seen, PANIC)
    assert (verdict.scenario, verdict.status) == ("other", Status.ERROR)


def test_a_known_bug_that_crashes_is_a_finding() -> None:
    known = scenario("a", finding=Finding(Reason.CRASH, "known since 6.7"))
    assert blamed(*journal([armed("a")], known), PANIC).finding == "known since 6.7"


def test_the_verdict_is_passed_on() -> None:
    made, seen = journal([STARTED, armed("a"), passed("a"), RunEnded(1)], scenario("a"))
    assert [type(event) for event in seen] == [RunStarted, Armed, Verdict]
    assert made.ledger.verdicts() == [last(seen)]
    assert (made.current, made.settled, made.ended, made.armed) == (None, 1, True, False)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"type":"verdict"}', b'{"type":"verdict","status":"odd"}'])
def test_nonsense_is_counted_and_settles_nothing(line: bytes) -> None:
    made, seen = journal([], scenario("a"))
    made.take(line)
    assert (made.unreadable, made.settled, seen) == (1, 0, [])


def test_a_verdict_that_nobody_asked_for_settles_nothing() -> None:
    made, seen = journal([passed("b")], scenario("a"))
    assert (made.unreadable, made.settled, seen) == (1, 0, [])
    made.take(encode(to_json(passed("a")))[:-1])
    made.take(encode(to_json(passed("a")))[:-1])
    assert (made.unreadable, made.settled, len(seen)) == (2, 1, 1)


def test_an_unusable_kernel_is_remembered() -> None:
    made, _ = journal([passed("a", unusable="tasks blocked")], scenario("a"))
    assert made.unusable == "tasks blocked"


def test_a_run_that_ends_without_a_verdict_is_our_error() -> None:
    made, seen = journal([], scenario("a"))
    made.unreported(1, "Traceback (most recent call last):\nValueError: odd\n")
    verdict = last(seen)
    assert (verdict.status, verdict.reproduce) == (Status.ERROR, "inject vm run scenarios/a.yaml --only a --seed 7")
    assert verdict.detail.endswith("without a verdict: ValueError: odd")
    made.unreported(1, "")
    assert (made.settled, len(seen)) == (1, 1)


def test_the_patience_for_one_event_covers_every_script() -> None:
    made, _ = journal([], scenario("a", timeout=1000.0))
    assert made.moved.limit == journals.bound(scenario("a", timeout=1000.0)) > 3 * SLOWEST * 1000.0


# ---------------------------------------------------------------- lines that are in no report


def test_lines_that_are_missing_are_noted_in_the_next_verdict_once() -> None:
    dropped = [0]
    made, seen = journal([armed("a")], scenario("a"), dropped=lambda: dropped[0])
    for line in (b"{", b"[]"):
        made.take(line)
    dropped[0] = 1
    assert made.incomplete()
    made.take(encode(to_json(passed("a", notes=("own",))))[:-1])
    assert last(seen).notes == (
        "own",
        "1 line of the host's report: too long, dropped",
        "2 lines of the host's report: unreadable, ignored",
    )
    assert not made.incomplete()
    made.take(b"{")
    assert (made.missing(), made.missing()) == (("1 line of the host's report: unreadable, ignored",), ())


def test_what_is_told_of_another_scenario_is_unreadable() -> None:
    made, seen = journal([armed("other")], scenario("a"))
    assert (made.unreadable, made.armed, seen) == (1, False, [])


def test_the_log_after_a_trial_may_change_its_verdict() -> None:
    """The host reports it a second time, also while the next scenario is under way."""
    late = Verdict("a", Status.FAIL, Reason.DMESG, "after the end of a: BUG")
    made, seen = journal([armed("a"), passed("a")], scenario("a"))
    made.give(scenario("other"))
    made.take(encode(to_json(late))[:-1])
    assert (last(seen), made.unusable, made.settled) == (late, "", 1)
    assert made.current is not None and made.current.name == "other"
    assert made.ledger.verdicts() == [late]


def test_a_scenario_that_is_given_again_is_judged_again() -> None:
    """Its failure is the verdict that is waited for, not one on the run before."""
    again = Verdict("a", Status.FAIL, Reason.DMESG)
    made, seen = journal([armed("a"), passed("a")], scenario("a"))
    made.give(scenario("a"))
    made.take(encode(to_json(again))[:-1])
    assert (made.current, made.settled, last(seen)) == (None, 2, again)


@pytest.mark.parametrize("event", [passed("a"), Verdict("b", Status.FAIL, Reason.DMESG)])
def test_no_other_second_verdict_is_believed(event: Verdict) -> None:
    made, _ = journal([armed("a"), passed("a"), event], scenario("a"))
    assert made.unusable == "it reported what is not an event" and made.unreadable == 1


RECORDED = (
    PointReached("a", 0, Point("f", "", ("g+0x1",))),
    FunctionSkipped("a", 0, Skipped("h", "", "returns nothing")),
)


def test_what_was_recorded_is_passed_on() -> None:
    seen: Events = []
    made = Journal(Ledger([scenario("a")]), Request(7, record=RecordOptions()), seen.append)
    made.give(scenario("a"))
    for event in (STARTED, *RECORDED, passed("a")):
        made.take(encode(to_json(event))[:-1])
    assert (seen, made.settled, made.unreadable) == ([STARTED, *RECORDED, passed("a")], 1, 0)


OBSERVED = Request(7, observe=ObserveOptions(RecordOptions()))


class Reached(Ledger):
    """Notes what happens, in order."""

    def __init__(self, *scenarios: Scenario) -> None:
        super().__init__(scenarios)
        self.told: list[object] = []

    def reach(self, event: PointReached) -> None:
        self.told.append(event.point)

    def settle(self, verdict: Verdict) -> None:
        self.told.append(verdict.status)
        super().settle(verdict)


def test_the_ledger_hears_of_points_before_the_verdict() -> None:
    ledger = Reached(scenario("a"))
    made = Journal(ledger, OBSERVED, lambda _: None)
    made.give(scenario("a"))
    for event in (STARTED, armed("a"), RECORDED[0], passed("a")):
        made.take(encode(to_json(event))[:-1])
    assert (ledger.told, made.unreadable) == ([RECORDED[0].point, Status.PASS], 0)


@pytest.mark.parametrize("events", [[RECORDED[0]], [armed("a"), RECORDED[1]]], ids=["unarmed", "skipped"])
def test_an_observed_trial_reports_points_once_it_is_armed_and_nothing_else(events: Events) -> None:
    ledger = Reached(scenario("a"))
    made = Journal(ledger, OBSERVED, lambda _: None)
    made.give(scenario("a"))
    for event in (STARTED, *events):
        made.take(encode(to_json(event))[:-1])
    assert (ledger.told, made.unreadable) == ([], 1)


@pytest.mark.parametrize("event", RECORDED)
def test_a_recording_that_was_not_asked_for_is_not_an_event(event: Event) -> None:
    made, seen = journal([STARTED, event], scenario("a"))
    assert (seen, made.unreadable) == ([STARTED], 1)
