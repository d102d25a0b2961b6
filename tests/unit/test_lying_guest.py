"""A guest that lies: each line costs that guest, with its name, and never the host."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inject.errors import InjectError
from inject.fleet import host as hosts
from inject.fleet import journal as journals
from inject.fleet.host import Command, Ending, Lost, Remains
from inject.fleet.journal import Journal
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.fleet.session import HostSession
from inject.model.errorpath import ErrorPath, Fate
from inject.model.event import (
    Armed,
    EngineMemory,
    ErrorTraced,
    Event,
    Injected,
    Injection,
    Overridden,
    RunEnded,
    RunStarted,
)
from inject.model.scenario import Fault, Probe, Scenario
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.process.capture import Output
from inject.report.jsonl import NotAnEvent, read_line, to_json
from inject.vm import requests
from inject.vm.answers import LONGEST, BadMessage
from inject.vm.channel import CHUNK, WINDOW, encode, pack
from inject.vm.requests import MOST_UNASKED, Requests

NESTED = b"[" * 100_000 + b"]" * 100_000
DEEP_VALUE = b'{"is":"out","id":1,"stream":1,"data":' + NESTED + b"}"
GIVEN = Scenario("a", "dir with space/a.yaml", (Fault("__x64_sys_mkdir", "-ENOMEM"),), "mkdir x")
INJECTION = Injection(0, "f", "-EIO", -5, 1, 10, 11, "dd", 99, ("f+0x0",))


# ---------------------------------------------------------------- the agent's port


class Port:
    """A host's end of the agent's port, and the guest's, on a socket pair."""

    def __init__(self) -> None:
        self.guest, host = socket.socketpair()
        self.guest.setblocking(False)
        self.requests = Requests(host.sendall, lambda: None)
        self.host = host

    def say(self, data: bytes) -> None:
        """What the guest writes, heard by the host as it comes."""
        rest, left = memoryview(data), len(data)
        while left:
            with contextlib.suppress(BlockingIOError):
                rest = rest[self.guest.send(rest) :] if rest else rest
            heard = self.host.recv(64 << 10)
            left -= len(heard)
            self.requests.hear(heard)

    def close(self) -> None:
        self.guest.close()
        self.host.close()


@pytest.fixture()
def port() -> Any:
    made = Port()
    yield made
    made.close()


def started(port: Port) -> Command:
    """A command, and something for it to be given."""
    command = port.requests.start(["cat"], stdin=True)
    assert command.id == 1
    return command


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"",
        b"[]",
        b"\xff\xfe",
        NESTED,
        DEEP_VALUE,
        b"{}",
        b'{"is":["out"],"id":1}',
        b'{"is":"out","id":[1]}',
        b'{"is":"out","id":"1"}',
        b'{"is":"out","id":1e400}',
        b'{"is":"out","id":1}',
        b'{"is":"out","id":1,"stream":1,"data":"a"}',
        b'{"is":"out","id":1,"stream":1,"data":"\\u00e9"}',
        b'{"is":"out","id":1,"stream":1,"data":[]}',
        b'{"is":"out","id":1,"stream":"one","data":""}',
        encode({"is": "out", "id": 1, "stream": 1, "data": pack(bytes(CHUNK + 1))})[:-1],
        b'{"is":"exit","id":1,"code":"0"}',
        b'{"is":"exit","id":1,"code":-1}',
        b'{"is":"exit","id":1,"signal":1000}',
        b'{"is":"exit","id":1}',
        b'{"is":"taken","id":1,"bytes":"many"}',
        b'{"is":"taken","id":1,"bytes":%d}' % (WINDOW + 1),
        b'{"is":"error","id":1}',
        b'{"is":"done","id":1}',
        b'{"is":"done","id":77}',
        b'{"is":"hello","init":"soon"}',
        b'{"is":"hello","init":NaN}',
        b"x" * (2 << 20),
    ],
    ids=lambda line: line[:40].decode("ascii", "replace"),
)
def test_a_line_that_the_agent_never_writes(port: Port, line: bytes) -> None:
    started(port)
    with pytest.raises(BadMessage) as caught:
        port.say(line + b"\n")
    assert str(caught.value).isprintable()


def test_a_line_without_an_end_takes_no_memory(port: Port) -> None:
    with pytest.raises(BadMessage, match="a line of more than"):
        port.say(b"x" * (LONGEST + (64 << 10)))


@pytest.mark.parametrize(
    "message",
    [{"is": "pong"}, {"is": "hello"}, {"is": "done", "id": 1}, {"is": "error", "id": 1, "message": "x"}, {"is": "new"}],
    ids=lambda message: str(message["is"]),
)
def test_an_endless_stream_of_answers(port: Port, message: dict[str, Any]) -> None:
    command = started(port)
    port.say(encode({"is": "exit", "id": command.id, "code": 0}))
    port.say(encode({"is": "hello"}))
    with pytest.raises(BadMessage, match="did not ask for"):
        for _ in range(MOST_UNASKED + 1):
            port.say(encode(message))
    assert port.requests._answers == {}


def test_text_of_the_agent_does_not_reach_the_terminal(port: Port) -> None:
    command = started(port)
    port.say(encode({"is": "error", "id": 1, "message": "\x1b]0;x\x07 \ud800"}))
    assert command.error == "\\x1b]0;x\\x07 \\ud800"


def answering(*answers: dict[str, Any]) -> Requests:
    """Requests to an agent that gives these answers in turn."""
    left = list(answers)

    def step() -> None:
        made.hear(encode({"id": made._last_id, **left.pop(0)}))

    made = Requests(lambda _: None, step)
    return made


@pytest.mark.parametrize(
    "answer",
    [{}, {"data": "a", "eof": True}, {"data": "", "eof": "no"}, {"data": pack(bytes(CHUNK + 1)), "eof": False}],
)
def test_a_file_that_is_none(answer: dict[str, Any]) -> None:
    with pytest.raises(InjectError, match="cannot read x in the guest"):
        answering({"is": "done", **answer}).read_file("x")


def test_a_file_that_comes_byte_by_byte_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "WHOLE", 0.0)
    with pytest.raises(InjectError, match="did not give all of x within 0 s"):
        answering(*[{"is": "done", "data": pack(b"x"), "eof": False}] * 9).read_file("x")


def test_a_file_without_an_end_ends(port: Port) -> None:
    assert answering({"is": "done", "data": "", "eof": False}).read_file("x") == b""


# ---------------------------------------------------------------- the results port


def journal() -> tuple[Journal, list[Event]]:
    seen: list[Event] = []
    made = Journal(Ledger([GIVEN]), Request(7), seen.append)
    made.give(GIVEN)
    return made, seen


def line(event: Event, **changed: Any) -> bytes:
    return encode({**to_json(event), **changed})[:-1]


PASSED = Verdict("a", Status.PASS)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        NESTED,
        b"\xff",
        b"x" * (2 << 20),
        b'{"type":"verdict"}',
        line(PASSED, scenario=["a"]),
        line(PASSED, scenario="other"),
        line(PASSED, seconds="1"),
        line(PASSED, counts=[3]),
        line(PASSED, errors=[{"path": [[]]}]),
        line(PASSED, status="fail"),
        line(PASSED, reason="crash"),
        line(PASSED, seconds=1e300),
        line(PASSED, trial=1),
        line(PASSED, exit=int("9" * 4000)),
        line(Injected("a", 0, INJECTION)),
        line(Armed("a", 0, GIVEN.faults), faults=[[]]),
        line(Armed("a", 0, GIVEN.faults), faults=[{"function": "f", "return": {}}]),
        line(Armed("a", 0, GIVEN.faults), faults=[{"function": "f", "return": []}]),
        line(RunEnded(), passed="1"),
    ],
    ids=lambda data: data[:40].decode("ascii", "replace"),
)
def test_a_line_that_is_not_an_event_costs_the_guest(data: bytes) -> None:
    made, seen = journal()
    made.take(data)
    assert (seen, made.unreadable, made.unusable) == ([], 1, "it reported what is not an event")
    made.take(line(PASSED))
    assert [event.notes for event in seen if isinstance(event, Verdict)] == [
        ("1 line of the host's report: unreadable, ignored",)
    ]


@pytest.mark.parametrize(
    "event",
    [
        Injected("a", 1, INJECTION),
        Injected("a", 0, replace(INJECTION, fault=1)),
        Injected("a", 0, replace(INJECTION, fault=-1)),
        ErrorTraced("a", 0, ErrorPath(1, "f", "-EIO", Fate.PROPAGATED), 1, 1),
    ],
    ids=repr,
)
def test_injections_that_cannot_be_take_no_memory(event: Event) -> None:
    """What is kept for each trial and each fault must not grow with what a guest makes up."""
    made, seen = journal()
    made.take(line(Armed("a", 0, GIVEN.faults)))
    made.take(line(event))
    assert (len(seen), made.unreadable, made.last.latest) == (1, 1, deque())


def test_a_guest_starts_once_and_arms_once() -> None:
    made, seen = journal()
    for event in (RunStarted("0", "6", "", 1, ()), Armed("a", 0, ())):
        made.take(line(event))
        assert made.unreadable == 0
        made.take(line(event))
        assert made.unreadable == 1
        made.unreadable = 0
    assert len(seen) == 2


class Liar:
    """A host that says ``says`` at each step and never ends."""

    results = "x"
    worker = None

    def __init__(self, says: Callable[[], object]) -> None:
        self.says = says

    def carry(self, *_: object) -> dict[str, str]:
        return {}

    def start(self, *_: object, **__: object) -> Command:
        return Command(1, None, None, WINDOW)

    def step(self) -> None:
        self.says()

    def show_blocked(self) -> None:
        raise InjectError("the guest did not write /proc/sysrq-trigger within 60 s")

    def results_dropped(self) -> int:
        return 0

    def remains(self) -> Remains:
        return Remains((Counts(9, 9, 9),), (INJECTION,))

    def console_tail(self, lines: int = 60) -> str:
        return "console"

    def feed(self, *_: object) -> None:
        pass

    end_input = feed


def run(says: Callable[[Journal], object]) -> tuple[Journal, Liar, list[Event]]:
    """A session with a liar, up to its end; raises Lost."""
    seen: list[Event] = []
    made = Journal(Ledger([GIVEN]), Request(7), seen.append)
    liar = Liar(lambda: says(made))
    given = iter([GIVEN])
    HostSession(liar, made, lambda: next(given, None)).run([], Output())  # type: ignore[arg-type]
    return made, liar, seen


def test_a_stream_of_nonsense_ends_the_guest_and_judges_nothing() -> None:
    with pytest.raises(Lost, match="cannot be trusted: 101 lines of its report") as caught:
        run(lambda made: made.take(b"nonsense"))
    made, seen = journal()
    made.take(line(Armed("a", 0, ())))
    made.blame(caught.value)
    verdict = seen[-1]
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.reason) == (Status.ERROR, None)
    assert verdict.reproduce == "inject vm run 'dir with space/a.yaml' --only a --seed 7"
    assert caught.value.ending is Ending.UNTRUSTED


def test_a_stream_of_events_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Injections without end are life, but the scenario's time is over at some point."""
    clock = itertools.count()
    monkeypatch.setattr(hosts, "time", SimpleNamespace(monotonic=lambda: next(clock) / 100))
    monkeypatch.setattr(journals, "bound", lambda _: 0.5)
    events = iter([Armed("a", 0, ())])
    _, _, seen = run(lambda made: made.take(line(next(events, Injected("a", 0, INJECTION)))))
    verdict = seen[-1]
    assert isinstance(verdict, Verdict)
    assert verdict.reason == Reason.HANG
    assert "did not end within 1 s" in verdict.detail
    assert (verdict.counts, verdict.notes) == ((Counts(9, 9, 9),), ())


# ---------------------------------------------------------------- anything at all

MEMORY = EngineMemory(1 << 63, 1 << 63, 1 << 63, 0, 0, (Overridden("f", ("f",), (1,), ("true",), Probe.KPROBE),))
EVENTS = [
    to_json(event)
    for event in (PASSED, Armed("a", 0, GIVEN.faults, memory=MEMORY), Injected("a", 0, INJECTION), RunEnded())
]
ANSWERS = [
    {"is": "out", "id": 1, "stream": 1, "data": pack(b"x")},
    {"is": "exit", "id": 1, "code": 0},
    {"is": "taken", "id": 1, "bytes": 0},
    {"is": "error", "id": 1, "message": "x"},
    {"is": "hello", "init": 1.0},
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def mutated(messages: list[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """Lines: any bytes, or a message in which one key has another value."""
    changed = st.builds(
        lambda message, at, value: json.dumps({**message, sorted(message)[at % len(message)]: value}).encode(),
        st.sampled_from(messages),
        st.integers(0, 20),
        VALUES,
    )
    return st.binary(max_size=200).map(lambda data: data.replace(b"\n", b"")) | changed


@settings(max_examples=300, deadline=None)
@given(mutated(EVENTS))
def test_any_line_is_an_event_or_not(data: bytes) -> None:
    try:
        event = read_line(data)
    except NotAnEvent:
        return
    assert read_line(encode(to_json(event))) == event
    made, _ = journal()
    made.take(data)
    made.take(line(PASSED))


@settings(max_examples=300, deadline=None)
@given(st.lists(mutated(ANSWERS), max_size=4))
def test_any_answer_is_one_or_a_bad_message(lines: list[bytes]) -> None:
    made = Requests(lambda _: None, lambda: None)
    made.start(["true"], on_stdout=lambda _: None)
    try:
        made.hear(b"".join(data + b"\n" for data in lines))
    except BadMessage as error:
        assert str(error).isprintable()
