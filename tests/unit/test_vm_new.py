"""`inject vm new`: what a guest answers reaches neither the terminal nor a file as it came."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner

from inject.cli import cli, new
from inject.errors import InjectError


def answered(monkeypatch: pytest.MonkeyPatch, out: bytes, err: bytes, status: int) -> Any:
    """`inject vm new` with a guest that answers so."""

    class Guest:
        requests = property(lambda self: self)

        def start(self, *_: Any, on_stdout: Any, on_stderr: Any) -> None:
            on_stdout(out)
            on_stderr(err)

        def wait(self, *_: Any) -> int:
            return status

    @contextlib.contextmanager
    def boot(*_: Any, **__: Any) -> Iterator[Guest]:
        yield Guest()

    monkeypatch.setattr(new, "ready_artifacts", mock.Mock())
    monkeypatch.setattr(new, "boot", boot)
    return CliRunner().invoke(cli, ["vm", "new", "bch2_x"], standalone_mode=False)


def test_an_error_cannot_act_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    done = answered(monkeypatch, b"", b"inject: no \x1b[2J\xff\n", 3)
    assert done.return_value == 3
    assert done.output == "inject: no \\x1b[2J\ufffd\n"


@pytest.mark.parametrize("text", [b"\xff\xfe", b"", b"\x1b[2J", b"faults: []\n", b"name: [" * 1000])
def test_what_is_no_scenario_is_a_sentence(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    done = answered(monkeypatch, text, b"", 0)
    assert isinstance(done.exception, InjectError) and str(done.exception).replace("\n", "").isprintable()
    assert "\x1b" not in done.output
