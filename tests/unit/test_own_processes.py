"""Numbers of inject's own processes for the BPF program."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inject.engine import own_processes as module
from inject.engine.own_processes import OwnProcesses, own_processes
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The file of a PID namespace that is not the first."""
    file = tmp_path / "pid"
    file.touch()
    return file


def test_without_a_proc_or_a_janitor_every_number_is_its_own() -> None:
    """A number that were 0 would spare the idle tasks."""
    assert own_processes(namespace=Path("/nonexistent")) == OwnProcesses(os.getpid(), os.getpid(), os.getpid())


def test_in_the_first_namespace() -> None:
    found = own_processes(janitor=7, agent=8, namespace=Path("/nonexistent"))
    assert found == OwnProcesses(os.getpid(), 7, 8)


def test_in_another_namespace_the_kernel_says(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The janitor's number there means another process outside."""
    monkeypatch.setattr(module, "_own_number", lambda: 4711)
    assert own_processes(janitor=7, agent=8, namespace=elsewhere) == OwnProcesses(4711, 4711, 8)


def test_a_kernel_that_does_not_say(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module, "_own_number", refuse)
    with pytest.raises(CannotRun, match="its own PID namespace.*Operation not permitted"):
        own_processes(namespace=elsewhere)


@pytest.mark.parametrize(("line", "expected"), [("init=/sbin/inject-init quiet", 41), ("quiet", 0)])
def test_the_agent_of_a_guest(tmp_path: Path, line: str, expected: int) -> None:
    """On other machines a file of that name means nothing."""
    for name, text in (("proc/cmdline", line), ("run/inject-agent.pid", "41")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert Kernel(tmp_path).agent() == expected
