"""The guest that is saved for trials: what it reports until its scenario is held."""

from __future__ import annotations

import json

import pytest

from inject.model.event import Event, RunStarted, ScenarioHeld
from inject.model.verdict import Status, Verdict
from inject.report.jsonl import to_json
from inject.vm.fork import Origins, Waiting

STARTED = RunStarted("0.1", "6.12", "abc", 1, ())


def line(event: Event) -> bytes:
    return json.dumps(to_json(event)).encode()


def test_a_scenario_is_held() -> None:
    waiting = Waiting("a")
    waiting.take(line(STARTED))
    assert (waiting.held, waiting.why) == (False, "")
    waiting.take(line(ScenarioHeld("a")))
    assert (waiting.held, waiting.why, waiting.report) == (True, "", [line(STARTED)])


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (line(Verdict("a", Status.ERROR, detail="`setup` ended with exit code 1")), "`setup` ended with exit code 1"),
        (line(Verdict("a", Status.PASS)), "a ended: pass"),
        (line(ScenarioHeld("b")), "it reported of b"),
        (b"nonsense", "it reported what is not an event"),
    ],
)
def test_anything_else_ends_the_wait(said: bytes, why: str) -> None:
    waiting = Waiting("a")
    waiting.take(said)
    assert waiting.why.startswith(why)
    assert not waiting.held


def test_origins() -> None:
    assert Origins(5, 2, 1).sentence == "5 guests continued from the one that was saved, 2 were booted anew"
