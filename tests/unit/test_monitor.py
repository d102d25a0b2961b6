"""QEMU's monitor: commands get their own answers, and what is not QMP is ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inject.vm.monitor import Monitor, MonitorError


def answering(*said: bytes) -> Monitor:
    """The monitor of a QEMU that says these pieces, one at each wait, and then ends."""
    left = list(said)
    made = Monitor(lambda _: None, lambda: made.hear(left.pop(0)), lambda: bool(left))
    return made


@pytest.mark.parametrize(
    "noise",
    [
        b"qemu: a warning\n",
        b"[" * 100_000 + b"\n",
        b"\xff\n",
        b"[]\n",
        b'{"id": [1]}\n',
        b'{"id": {}, "return": 1}\n',
        b'{"id": 7, "return": 1}\n',
        b'{"event": []}\n',
        b'{"event": "SHUTDOWN", "data": 5}\n',
        b'{"event": "BLOCK_IO_ERROR", "data": []}\n',
    ],
)
def test_noise_is_ignored(noise: bytes) -> None:
    made = answering(noise, b'{"return": {"status": "running"}, "id": 1}\n', b"")
    assert made.ask("query-status") == {"status": "running"}
    assert (made.stopped, made.shutdown, made.out_of_space) == (False, "", False)


def test_an_answer_that_came_too_late_is_not_that_of_the_next_command() -> None:
    made = answering(b"", b'{"return": "one", "id": 1}\n', b'{"return": "two", "id": 2}\n', b"")
    with pytest.raises(MonitorError, match="no answer to first"):
        made.ask("first", timeout=-1)
    assert made.ask("second") == "two"


@pytest.mark.parametrize("error", [{"desc": "no \x1b[2J"}, "no \x1b[2J"])
def test_a_refusal_is_a_sentence(error: Any) -> None:
    made = answering(json.dumps({"id": 1, "error": error}).encode() + b"\n", b"")
    with pytest.raises(MonitorError, match=r"QEMU refused x: no \\x1b\[2J"):
        made.ask("x")
