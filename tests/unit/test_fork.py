"""The guest that is saved for trials: what it reports until its scenario is held."""

from __future__ import annotations

import errno
import json
from unittest.mock import MagicMock, Mock

import pytest

from inject.errors import InjectError
from inject.fleet.request import Request
from inject.model.event import Event, RunStarted, ScenarioHeld
from inject.model.scenario import Fault, Scenario
from inject.model.verdict import Status, Verdict
from inject.report.jsonl import to_json
from inject.vm import template
from inject.vm.fork import Forks, Origins, Waiting
from inject.vm.guest import GuestOptions

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


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/cache/memory"), "/cache/memory: No space left on device"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "this machine: Cannot allocate memory"),
        (InjectError("the guest does not stop"), "the guest does not stop"),
    ],
)
def test_trials_go_on_in_booted_guests_if_none_can_be_saved(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception, why: str
) -> None:
    monkeypatch.setattr(template, "is_for", lambda *_: True)
    monkeypatch.setattr(Forks, "_accelerator", lambda *_: "tcg")
    monkeypatch.setattr(Forks, "_made", Mock(side_effect=trouble))
    guests, said = MagicMock(), list[str]()
    trials = [Scenario(str(number), "s.yaml", (Fault("f", "-EIO"),), "true") for number in range(3)]
    with Forks(guests, trials, Request(1)) as forks:
        for _ in trials:
            with forks.open(GuestOptions(), on_result=Mock(), say=said.append, tick=Mock()) as host:
                assert host is guests.open.return_value.__enter__.return_value
    assert forks.origins == Origins(forked=0, booted=3, failed=0)
    assert said == [f"no guest can be saved for the trials ({why}); each begins with its filesystem"]
