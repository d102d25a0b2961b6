"""What the host makes of a guest's journal: who is blamed, with which word, and what is left to run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from inject.model import Fault, Finding, Reason, Scenario, Status, Verdict, VmWishes
from inject.vm import batch
from inject.vm.batch import Request
from inject.vm.channel import encode
from inject.vm.console import Console
from inject.vm.guest import Ending, Lost, Options

Events = list[dict[str, Any]]


def scenario(name: str, **rest: Any) -> Scenario:
    return Scenario(name, f"scenarios/{name}.yaml", (Fault("__x64_sys_mkdir", "-ENOMEM"),), "mkdir x", **rest)


def journal(events: Iterable[dict[str, Any]], *names: str) -> tuple[batch._Progress, Events]:
    """Where the run stands after ``events``."""
    seen: Events = []
    progress = batch._Progress([scenario(name) for name in names], seen.append)
    for event in events:
        progress.take(encode(event)[:-1])
    return progress, seen


def armed(name: str) -> dict[str, Any]:
    return {"type": "armed", "scenario": name, "trial": 0, "faults": []}


def passed(name: str, **rest: Any) -> dict[str, Any]:
    return Verdict(name, Status.PASS, reproduce=f"sudo inject run {name}.yaml", **rest).to_json()


def blamed(progress: batch._Progress, lost: Lost, **rest: Any) -> Verdict:
    said: list[str] = []
    batch._blame(Request(("scenarios",), tuple(progress.pending), **rest), progress, lost, True, said.append)
    assert bool(said) == bool(progress.pending)
    return progress.verdicts[-1]


PANIC = Lost(Ending.PANICKED, "Fatal exception", console="one\ntwo")


def test_the_armed_scenario_crashed() -> None:
    progress, _ = journal([armed("a"), passed("a"), armed("b")], "a", "b", "c")
    verdict = blamed(progress, PANIC, seed=7)
    assert (verdict.scenario, verdict.status, verdict.reason) == ("b", Status.FAIL, Reason.CRASH)
    assert verdict.detail == "with __x64_sys_mkdir = -ENOMEM armed, the guest panicked: Fatal exception"
    assert verdict.log == ("one", "two")
    assert verdict.reproduce == "inject vm run scenarios/b.yaml --only b --seed 7"
    assert [s.name for s in progress.pending] == ["c"]


def test_a_guest_that_fell_silent_is_a_hang() -> None:
    progress, _ = journal([armed("a")], "a")
    verdict = blamed(progress, Lost(Ending.HUNG, "no heartbeat for 30 s", console=""))
    assert (verdict.status, verdict.reason) == (Status.FAIL, Reason.HANG)


@pytest.mark.parametrize("events", [[], [{"type": "start", "scenario": "a"}]])
def test_a_death_before_arming_is_no_finding(events: Events) -> None:
    progress, _ = journal(events, "a", "b")
    verdict = blamed(progress, PANIC)
    assert (verdict.scenario, verdict.status, verdict.reason) == ("a", Status.ERROR, None)
    assert "before the scenario was armed" in verdict.detail


def test_what_this_machine_did_is_no_finding() -> None:
    progress, _ = journal([armed("a")], "a")
    verdict = blamed(progress, Lost(Ending.ENDED, "QEMU was ended by SIGKILL", console="", host_fault=True))
    assert (verdict.status, verdict.reason) == (Status.ERROR, None)
    assert "while the scenario was armed" in verdict.detail


def test_a_death_after_the_last_verdict_blames_the_next() -> None:
    progress, _ = journal([armed("a"), passed("a")], "a", "b")
    assert blamed(progress, PANIC).scenario == "b"


def test_a_known_bug_that_crashes_is_a_finding() -> None:
    progress, _ = journal([armed("a")], "a")
    progress.pending = [scenario("a", finding=Finding(Reason.CRASH, "known since 6.7"))]
    assert blamed(progress, PANIC).finding == "known since 6.7"


def test_events_pass_as_if_one_guest_had_run_it_all() -> None:
    progress, seen = journal([{"type": "run"}, armed("a"), passed("a")], "a", "b")
    progress.begin_guest()
    for event in ({"type": "run"}, armed("b"), passed("b"), {"type": "end"}):
        progress.take(encode(event)[:-1])
    assert [event["type"] for event in seen] == ["run", "armed", "verdict", "armed", "verdict"]
    assert (progress.pending, progress.ended) == ([], True)


def test_reproduce_speaks_of_the_host() -> None:
    _, seen = journal([passed("a")], "a")
    assert seen[0]["reproduce"] == "inject vm run a.yaml"


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"type":"verdict"}', b'{"type":"verdict","status":"odd"}'])
def test_nonsense_is_counted_and_settles_nothing(line: bytes) -> None:
    progress, seen = journal([], "a")
    progress.take(line)
    assert (progress.bad_lines, len(progress.pending), seen) == (1, 1, [])


def test_an_unusable_kernel_is_remembered() -> None:
    progress, _ = journal([passed("a", unusable="tasks blocked")], "a", "b")
    assert progress.unusable == "tasks blocked"
    progress.begin_guest()
    assert progress.unusable == ""


def test_scenarios_with_the_same_wishes_share_a_guest() -> None:
    one = VmWishes(cpus=1)
    scenarios = [scenario("a"), scenario("b", vm=one), scenario("c"), scenario("d", vm=VmWishes(1, 4 << 30))]
    groups = batch._groups(scenarios, Options(cpus=2, memory=1 << 30))
    assert [[s.name for s in group.scenarios] for group in groups] == [["a", "c"], ["b"], ["d"]]
    assert [(g.options.cpus, g.options.memory >> 30) for g in groups] == [(2, 1), (1, 1), (1, 4)]


def test_command_in_the_guest() -> None:
    request = Request(("my folder", "-odd"), (scenario("a"), scenario("b")), seed=3, arguments=("--no-skip",))
    words = batch.guest_argv(request, request.scenarios[1:])
    assert words[:4] == ["python3", "-m", "inject", "run"]
    assert words[-5:] == ["--only", "b", "--", "my folder", "-odd"]
    assert {"--stop-when-unusable", "--no-skip", "3"} <= set(words)


def test_a_run_that_ends_without_verdicts_is_our_error() -> None:
    progress, seen = journal([], "a", "b")
    output = Console()
    output.feed(b"Traceback (most recent call last):\nValueError: odd\n")
    batch._settle_unreported(progress, 1, output)
    assert [verdict.status for verdict in progress.verdicts] == [Status.ERROR, Status.ERROR]
    assert progress.verdicts[0].detail.endswith("without a verdict: ValueError: odd")
    assert (progress.pending, len(seen)) == ([], 2)


def test_the_patience_for_one_event_covers_every_script() -> None:
    progress, _ = journal([], "a")
    progress.pending = [scenario("a", timeout=1000.0)]
    assert progress.bound() > 3 * 1000.0


def test_the_request_starts_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Request((), ()).cwd == tmp_path
