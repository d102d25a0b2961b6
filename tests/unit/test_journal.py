"""What the host makes of a guest's journal: who is blamed, with which word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from inject.fleet import journal as journals
from inject.fleet.host import Ending, Lost
from inject.fleet.journal import Journal
from inject.model.event import Armed, Event, RunEnded, RunStarted
from inject.model.scenario import Fault, Finding, Scenario
from inject.model.verdict import Reason, Status, Verdict
from inject.report.jsonl import to_json
from inject.vm.channel import encode

Events = list[Event]
STARTED = RunStarted("0", "6.12", "", 1, ())


def scenario(name: str, **rest: Any) -> Scenario:
    return Scenario(name, f"scenarios/{name}.yaml", (Fault("__x64_sys_mkdir", "-ENOMEM"),), "mkdir x", **rest)


def journal(events: Iterable[Event], given: Scenario, **rest: Any) -> tuple[Journal, Events]:
    """Where the run of ``given`` stands after ``events``."""
    seen: Events = []
    made = Journal(seen.append, **rest)
    made.give(given)
    for event in events:
        made.take(encode(to_json(event))[:-1])
    return made, seen


def armed(name: str) -> Armed:
    return Armed(name, 0, ())


def passed(name: str, **rest: Any) -> Verdict:
    return Verdict(name, Status.PASS, reproduce=f"sudo inject run {name}.yaml", **rest)


def last(seen: Events) -> Verdict:
    assert isinstance(seen[-1], Verdict)
    return seen[-1]


def blamed(made: Journal, seen: Events, lost: Lost) -> Verdict:
    made.blame(lost)
    assert made.current is None
    return last(seen)


PANIC = Lost(Ending.PANICKED, "Fatal exception", console="one\ntwo")


def test_the_armed_scenario_crashed() -> None:
    verdict = blamed(*journal([armed("b")], scenario("b"), seed=7), PANIC)
    assert (verdict.scenario, verdict.status, verdict.reason) == ("b", Status.FAIL, Reason.CRASH)
    assert verdict.detail == "with __x64_sys_mkdir = -ENOMEM armed, the guest panicked: Fatal exception"
    assert verdict.log == ("one", "two")
    assert verdict.reproduce == "inject vm run scenarios/b.yaml --only b --seed 7"


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
    made.give(scenario("b"))
    verdict = blamed(made, seen, PANIC)
    assert (verdict.scenario, verdict.status) == ("b", Status.ERROR)


def test_a_known_bug_that_crashes_is_a_finding() -> None:
    known = scenario("a", finding=Finding(Reason.CRASH, "known since 6.7"))
    assert blamed(*journal([armed("a")], known), PANIC).finding == "known since 6.7"


def test_the_verdict_is_passed_on_in_the_hosts_words() -> None:
    made, seen = journal([STARTED, armed("a"), passed("a"), RunEnded(1)], scenario("a"))
    assert [type(event) for event in seen] == [RunStarted, Armed, Verdict]
    assert last(seen).reproduce == "inject vm run a.yaml"
    assert (made.current, made.settled, made.ended, made.armed) == (None, 1, True, False)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"type":"verdict"}', b'{"type":"verdict","status":"odd"}'])
def test_nonsense_is_counted_and_settles_nothing(line: bytes) -> None:
    made, seen = journal([], scenario("a"))
    made.take(line)
    assert (made.bad_lines, made.settled, seen) == (1, 0, [])


def test_a_verdict_that_nobody_asked_for_settles_nothing() -> None:
    made, seen = journal([passed("b")], scenario("a"))
    assert (made.bad_lines, made.settled, seen) == (1, 0, [])
    made.take(encode(to_json(passed("a")))[:-1])
    made.take(encode(to_json(passed("a")))[:-1])
    assert (made.bad_lines, made.settled, len(seen)) == (2, 1, 1)


def test_an_unusable_kernel_is_remembered() -> None:
    made, _ = journal([passed("a", unusable="tasks blocked")], scenario("a"))
    assert made.unusable == "tasks blocked"


def test_a_run_that_ends_without_a_verdict_is_our_error() -> None:
    made, seen = journal([], scenario("a"), seed=3)
    made.unreported(1, "Traceback (most recent call last):\nValueError: odd\n")
    verdict = last(seen)
    assert (verdict.status, verdict.reproduce) == (Status.ERROR, "inject vm run scenarios/a.yaml --only a --seed 3")
    assert verdict.detail.endswith("without a verdict: ValueError: odd")
    made.unreported(1, "")
    assert (made.settled, len(seen)) == (1, 1)


def test_the_patience_for_one_event_covers_every_script() -> None:
    made, _ = journal([], scenario("a", timeout=1000.0))
    assert made.moved.limit == journals.bound(scenario("a", timeout=1000.0)) > 3 * 1000.0
