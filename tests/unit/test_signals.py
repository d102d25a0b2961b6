"""The signals that end a command: it cleans up, and what nohup ignores stays ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Callable

import pytest

from tests.support import ROOT

PROGRAM = """
import signal, sys, time
from inject import cli

def command(**_):
    try:
        print("ready", flush=True)
        time.sleep(float(sys.argv[1]))
    finally:
        print("cleaned up", flush=True)

cli.cli.main = command
cli.main()
"""
LIMIT = 60
"""Seconds after which the child counts as hung."""


def ended_by(number: int, before: Callable[[], object], seconds: float) -> tuple[int, str]:
    """Exit status and output of a command that gets a signal; ``before`` is done in the child first."""
    command = [sys.executable, "-c", PROGRAM, str(seconds)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=before
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        said, _ = child.communicate(timeout=LIMIT)
    return child.returncode, said


def heeded() -> None:
    """In the child: as a terminal's shell starts it, even if this test runs under nohup."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def ignored() -> None:
    """In the child: as nohup starts it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_as_an_interrupt(number: int) -> None:
    assert ended_by(number, heeded, 30) == (130, "cleaned up\ninject: interrupted\n")


def test_under_nohup_a_lost_terminal_ends_nothing() -> None:
    assert ended_by(signal.SIGHUP, ignored, 0.5) == (0, "cleaned up\n")
