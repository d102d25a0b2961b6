"""`inject vm exec` and `inject vm shell` as a user has them: real pipes, a real terminal."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from inject.vm.build.artifacts import Artifacts
from tests.support import ROOT
from tests.support.command import COMMAND
from tests.support.terminal import Terminal, started

LIMIT = 300
"""Seconds after which a command counts as hung."""

pytestmark = pytest.mark.usefixtures("artifacts")


def vm(*words: str) -> list[str]:
    return [*COMMAND, "vm", *words]


def vm_exec(argv: Sequence[str], **rest: Any) -> subprocess.CompletedProcess[bytes]:
    """`inject vm exec -- argv`."""
    return subprocess.run([*vm("exec", "--"), *argv], cwd=ROOT, capture_output=True, timeout=LIMIT, check=False, **rest)


def test_streams_and_exit_code() -> None:
    data = bytes(range(256)) * 2000
    done = vm_exec(["sh", "-c", "cat; echo err >&2; exit 41"], input=data)
    assert (done.returncode, done.stdout) == (41, data)
    assert done.stderr.endswith(b"err\n")


def test_a_lost_guest_is_128_and_shows_its_console() -> None:
    done = vm_exec(["sh", "-c", "echo c >/proc/sysrq-trigger; sleep 600"], stdin=subprocess.DEVNULL)
    assert done.returncode == 128
    assert b"the guest panicked: sysrq triggered crash" in done.stderr
    assert b"Kernel panic - not syncing" in done.stderr


@pytest.mark.slow
def test_a_reader_that_goes_away() -> None:
    command = vm("exec", "--", "sh", "-c", "seq 1 10000000")
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"1\n"
        running.stdout.close()
        assert running.wait(LIMIT) == 128 + signal.SIGPIPE


def test_the_first_interrupt_goes_to_the_command_and_the_second_ends_the_guest() -> None:
    script = "trap 'echo ignored' INT; echo ready; while :; do sleep 0.1; done"
    command = vm("exec", "--", "sh", "-c", script)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        assert running.stdout.readline() == b"ignored\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(LIMIT) == 130


@pytest.fixture()
def shell(artifacts: Artifacts) -> Iterator[Terminal]:
    """`inject vm shell` on a terminal of 33 rows and 111 columns."""
    with started(vm("shell"), LIMIT) as terminal:
        yield terminal


def test_shell(shell: Terminal) -> None:
    """Size, change of size, Ctrl-C, exit code; the terminal as it was."""
    shell.expect("# ")
    assert not shell.restored()
    shell.type("stty size; tty\r")
    shell.expect("33 111\r\n/dev/pts/")
    shell.resize(44, 132)
    shell.type("trap 'echo sized' WINCH; until stty size | grep '44 132'; do sleep 0.2; done\r")
    shell.expect("44 132\r\n")
    shell.type("sleep 600\r")
    shell.expect("sleep 600\r\n")
    time.sleep(1)
    shell.type("\x03")
    shell.expect("# ")
    shell.type("exit 17\r")
    assert shell.end() == 17, shell.seen
    assert shell.restored()


@pytest.mark.slow
def test_shell_restores_the_terminal_when_the_guest_is_lost(shell: Terminal) -> None:
    shell.expect("# ")
    shell.type("echo c >/proc/sysrq-trigger\r")
    assert shell.end() == 128, shell.seen
    assert shell.restored()
    assert b"the guest panicked: sysrq triggered crash" in shell.seen


@pytest.mark.slow
def test_shell_restores_the_terminal_when_it_is_terminated(shell: Terminal) -> None:
    shell.expect("# ")
    shell.process.send_signal(signal.SIGTERM)
    assert shell.end() == 130, shell.seen
    assert shell.restored()


def test_shell_without_a_terminal_says_what_to_do() -> None:
    done = subprocess.run(vm("shell"), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT)
    assert done.returncode == 3
    assert b"vm shell needs a terminal" in done.stderr and b"vm exec" in done.stderr
