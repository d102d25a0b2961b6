"""`inject vm exec` and `inject vm shell` as a user has them: real pipes, a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import pytest

from inject.vm.guest import Artefacts
from tests.support import ROOT

LIMIT = 300
"""Seconds after which a command counts as hung."""

pytestmark = pytest.mark.usefixtures("artefacts")


def vm(*words: str) -> list[str]:
    return [sys.executable, "-m", "inject", "vm", *words]


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


class Terminal:
    """A process whose terminal is ours to play."""

    def __init__(self, command: Sequence[str], rows: int, columns: int) -> None:
        self.seen = b""
        self.fd, theirs = pty.openpty()
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.resize(rows, columns)
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=_control
        )

    def resize(self, rows: int, columns: int) -> None:
        """The user changes the window's size."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        """The user types."""
        os.write(self.fd, keys)

    def expect(self, text: bytes) -> None:
        """Wait until ``text`` has been shown since the last time."""
        until = time.monotonic() + LIMIT
        while text not in self.seen:
            assert time.monotonic() < until, self.seen
            if select.select([self.fd], [], [], 1)[0]:
                self.seen += os.read(self.fd, 65536)
            else:
                assert self.process.poll() is None, self.seen
        self.seen = self.seen.partition(text)[2]

    def end(self) -> Optional[int]:
        """The exit code, with whatever is still shown taken."""
        until = time.monotonic() + LIMIT
        while self.process.poll() is None and time.monotonic() < until:
            if select.select([self.fd], [], [], 0.2)[0]:
                self.seen += os.read(self.fd, 65536)
        while select.select([self.fd], [], [], 0)[0]:
            self.seen += os.read(self.fd, 65536)
        return self.process.poll()

    def restored(self) -> bool:
        """Whether the terminal's modes are as before."""
        return termios.tcgetattr(self.theirs) == self.before


def _control() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture()
def shell(artefacts: Artefacts) -> Iterator[Terminal]:
    """`inject vm shell` on a terminal of 33 rows and 111 columns."""
    terminal = Terminal(vm("shell"), 33, 111)
    try:
        yield terminal
    finally:
        terminal.process.terminate()
        terminal.process.wait(LIMIT)
        os.close(terminal.fd)
        os.close(terminal.theirs)


def test_shell(shell: Terminal) -> None:
    """Size, change of size, Ctrl-C, exit code; the terminal as it was."""
    shell.expect(b"# ")
    assert not shell.restored()
    shell.type(b"stty size; tty\r")
    shell.expect(b"33 111\r\n/dev/pts/")
    shell.resize(44, 132)
    shell.type(b"trap 'echo sized' WINCH; until stty size | grep '44 132'; do sleep 0.2; done\r")
    shell.expect(b"44 132\r\n")
    shell.type(b"sleep 600\r")
    shell.expect(b"sleep 600\r\n")
    time.sleep(1)
    shell.type(b"\x03")
    shell.expect(b"# ")
    shell.type(b"exit 17\r")
    assert shell.end() == 17, shell.seen
    assert shell.restored()


@pytest.mark.slow
def test_shell_restores_the_terminal_when_the_guest_is_lost(shell: Terminal) -> None:
    shell.expect(b"# ")
    shell.type(b"echo c >/proc/sysrq-trigger\r")
    assert shell.end() == 128, shell.seen
    assert shell.restored()
    assert b"the guest panicked: sysrq triggered crash" in shell.seen


@pytest.mark.slow
def test_shell_restores_the_terminal_when_it_is_terminated(shell: Terminal) -> None:
    shell.expect(b"# ")
    shell.process.send_signal(signal.SIGTERM)
    assert shell.end() == 130, shell.seen
    assert shell.restored()


def test_shell_without_a_terminal_says_what_to_do() -> None:
    done = subprocess.run(vm("shell"), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT)
    assert done.returncode == 3
    assert b"vm shell needs a terminal" in done.stderr and b"vm exec" in done.stderr
