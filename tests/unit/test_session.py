"""One host that is given scenarios: what it is asked, and what becomes of a line that never came."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, Optional

import pytest

from inject.errors import InjectError, Place
from inject.fleet import journal as journals
from inject.fleet import session as sessions
from inject.fleet.host import Command, OnOutput, Remains
from inject.fleet.journal import Journal
from inject.fleet.ledger import Ledger, Stage, Start
from inject.fleet.request import Request, read_request, read_returns, read_scenario_line
from inject.fleet.session import HostSession, send
from inject.model.event import Armed, Event, RunEnded
from inject.model.scenario import Fault, Probe, Scenario
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.process.capture import Output
from inject.record.options import ObserveOptions, RecordOptions
from inject.report.jsonl import to_json
from inject.trial.preflight import WrittenReturn


def scenario(name: str) -> Scenario:
    return Scenario(name, f"{name}.yaml", (Fault("f", "-ENOMEM"),), "true")


class FakeHost:
    """Answers each scenario line with ``answer``; what is not an event counts as dropped."""

    results = "/dev/results"

    def __init__(self, answer: Callable[[str], list[Optional[Event]]], worker: Optional[Command] = None) -> None:
        self._answer = answer
        self.worker = worker
        self._to_tell: list[Optional[Event]] = []
        self._dropped = 0
        self.command: Optional[Command] = None
        self.on_result: Callable[[bytes], None] = lambda _: None
        self.asked: list[str] = []
        self.argv: Sequence[str] = ()
        self.blocked_shown = False

    def carry(self, files: Sequence[str], cwd: Path) -> Mapping[str, str]:
        return {}

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, on_stdout: OnOutput, on_stderr: OnOutput
    ) -> Command:
        self.argv = argv
        self.command = Command(1, on_stdout, on_stderr, credit=1 << 20)
        return self.command

    def feed(self, command: Command, data: bytes) -> None:
        self.asked.append(data.decode())
        if len(self.asked) > 2 or self.worker is not None:
            self._to_tell += self._answer(read_scenario_line(self.asked[-1])[1])

    def end_input(self, command: Command) -> None:
        self._to_tell.append(RunEnded())
        if self.worker is None:
            command.status = 0

    def step(self) -> None:
        if self._to_tell:
            event = self._to_tell.pop(0)
            if event is None:
                self._dropped += 1
            else:
                self.on_result(json.dumps(to_json(event)).encode())

    def remains(self) -> Remains:
        return Remains((Counts(3, 2, 0),))

    def show_blocked(self) -> None:
        self.blocked_shown = True

    def console_tail(self, lines: int = 60) -> str:
        return "console"

    def results_dropped(self) -> int:
        return self._dropped


def run(host: FakeHost, *names: str) -> tuple[Optional[int], Ledger]:
    ledger = Ledger([scenario(name) for name in names])
    journal = Journal(ledger, Request(5, Probe.KPROBE, stop_on_injection=True), lambda _: None)
    host.on_result = journal.take

    def take() -> Optional[Scenario]:
        waiting = ledger.names(Stage.WAITING)
        return ledger.scenario(waiting[0]) if waiting and ledger.give(waiting[0]) else None

    return HostSession(host, journal, take).run([], Output()), ledger


def told(name: str) -> list[Optional[Event]]:
    return [Armed(name, 0, ()), Verdict(name, Status.PASS)]


def test_one_after_the_other() -> None:
    host = FakeHost(told)
    status, ledger = run(host, "a", "b")
    assert (status, [verdict.status for verdict in ledger.verdicts()]) == (0, [Status.PASS] * 2)
    assert [ledger.start(name) for name in "ab"] == [Start.BOOT] * 2
    assert list(host.argv) == ["python3", "-m", "inject.fleet.remote", "/dev/results"]
    first, values = read_request(host.asked[0]), read_returns(host.asked[1])
    assert values == [WrittenReturn("f", "-ENOMEM", Place("a.yaml"))]
    assert (first.seed, first.probe, first.trace, first.stop_on_injection) == (5, Probe.KPROBE, False, True)
    assert [read_scenario_line(line) for line in host.asked[2:]] == [("a.yaml", "a", ""), ("b.yaml", "b", "")]


def test_a_host_on_which_inject_waits_gets_one_scenario() -> None:
    """It is not waited for after its report: a guest that was forked ends with its trial."""
    worker = Command(7, None, None, credit=1 << 20)
    host = FakeHost(told, worker)
    status, ledger = run(host, "a", "b")
    assert (status, worker.status, [verdict.scenario for verdict in ledger.verdicts()]) == (0, None, ["a"])
    assert ([read_scenario_line(line) for line in host.asked], host.argv) == ([("a.yaml", "a", "")], ())
    assert ledger.names(Stage.WAITING) == ["b"]
    assert (ledger.start("a"), ledger.start("b")) == (Start.FORK, None)


def test_a_host_on_which_inject_waits_gets_nothing_if_nothing_is_left() -> None:
    host = FakeHost(told, Command(7, None, None, credit=1 << 20))
    assert run(host)[0] == 0
    assert host.asked == []


def test_a_line_that_was_too_long_is_in_the_verdicts_notes() -> None:
    _, ledger = run(FakeHost(lambda name: [Armed(name, 0, ()), None, None, Verdict(name, Status.PASS)]), "a")
    assert ledger.verdicts()[0].notes == ("2 lines of the host's report: too long, dropped",)


@pytest.fixture()
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "bound", lambda _: 0.05)
    monkeypatch.setattr(sessions, "BLOCKED", 0.01)


@pytest.mark.usefixtures("impatient")
def test_a_host_that_tells_nothing_hangs() -> None:
    host = FakeHost(lambda name: [Armed(name, 0, ())])
    status, ledger = run(host, "a", "b")
    (verdict,) = ledger.verdicts()
    assert (status, verdict.status, verdict.reason, host.blocked_shown) == (None, Status.FAIL, Reason.HANG, True)
    assert (verdict.counts, verdict.detail.endswith("; nothing was injected before")) == ((Counts(3, 2, 0),), True)
    assert ledger.names(Stage.WAITING) == ["b"]


@pytest.mark.usefixtures("impatient")
def test_a_verdict_that_was_too_long_is_no_hang_of_the_kernel() -> None:
    _, ledger = run(FakeHost(lambda name: [Armed(name, 0, ()), None]), "a")
    (verdict,) = ledger.verdicts()
    assert (verdict.status, verdict.notes) == (Status.ERROR, ("1 line of the host's report: too long, dropped",))


def test_a_recording_is_asked_for_in_the_first_line() -> None:
    options = RecordOptions(("bch2_*", "module:xfs"), checked=True, room=77)
    assert read_request(Request(5, record=options).line().decode()).record == options
    assert read_request(Request(5).line().decode()).record is None


def test_a_request_says_what_is_known_of_the_points() -> None:
    seen = ObserveOptions(RecordOptions(("bch2_*",), room=9), ("a", "b"), (("f", "", "ERRNO"),))
    assert read_request(Request(5, observe=seen).line().decode()) == Request(5, observe=seen)
    assert read_request(Request(5).line().decode()).observe is None


def test_what_is_more_than_a_host_takes_at_once_comes_in_pieces() -> None:
    """As the points that a sweep knows, of which each takes 20 bytes."""
    taken: list[bytes] = []

    class Slow(FakeHost):
        def feed(self, command: Command, data: bytes) -> None:
            assert len(data) <= command.credit
            command.credit -= len(data)
            taken.append(data)

        def step(self) -> None:
            command.credit = min(10, command.credit + 4)

    command = Command(1, None, None, credit=10)
    send(Slow(told), command, b"x" * 25)
    assert b"".join(taken) == b"x" * 25 and len(taken[0]) == 10
    command.credit, command.status = 0, 1
    send(Slow(told), command, b"more")  # it has ended


def test_a_host_that_takes_no_more_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "TAKING", 0.0)
    with pytest.raises(InjectError, match="took no input for 0 s"):
        send(FakeHost(told), Command(1, None, None, credit=0), b"line\n")
