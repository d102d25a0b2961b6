"""`inject vm exec` and `inject vm shell`: one command in a new guest, its streams joined to those of inject."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Callable, Optional

from inject.errors import CannotRun
from inject.fleet.host import Command
from inject.vm.boot import boot
from inject.vm.build.artifacts import Artifacts
from inject.vm.carry import checkout
from inject.vm.channel import CHUNK
from inject.vm.guest import Guest, GuestOptions
from inject.vm.luggage import NOTHING, Luggage

SHELL = ("bash", "-l")

_INTERRUPT = b"\x03"
"""Ctrl-C on a terminal that passes every key on."""

_SIGPIPE = 128 + signal.SIGPIPE


def vm_exec(
    argv: Sequence[str],
    artifacts: Artifacts,
    options: GuestOptions,
    *,
    cache: Path,
    say: Callable[[str], None] = lambda _: None,
    luggage: Luggage = NOTHING,
) -> int:
    """Run ``argv`` in a new guest; return its exit status, 128 plus the signal if one ended it.

    ``luggage`` is what it reads and writes. Standard input goes to the command unless it is a
    terminal. The first Ctrl-C goes to the command, the second ends the guest (KeyboardInterrupt),
    as does the first while a debugger holds it. Raises Lost, CannotRun, or CommandTimeout after
    ``options.timeout`` seconds.
    """
    stdin = None if _is_terminal(0) else 0
    with boot(artifacts, options, cache=cache, say=say) as guest:
        cwd = luggage.pack(guest, artifacts, cache)
        command = guest.requests.start(
            argv,
            stdin=stdin is not None,
            cwd=cwd,
            env=_environment(),
            on_stdout=lambda data: _write_all(1, data),
            on_stderr=lambda data: _write_all(2, data),
        )
        with _interrupt_goes_to(guest, command), Forward(guest, command, stdin):
            try:
                status = guest.requests.wait(command, options.timeout)
            except BrokenPipeError:
                return _SIGPIPE
        luggage.unpack(guest)
        return status


def vm_shell(
    artifacts: Artifacts,
    options: GuestOptions,
    *,
    cache: Path,
    argv: Sequence[str] = SHELL,
    greeting: str = f"a shell in the guest, in the checkout ({checkout.HOME}); `exit` ends both",
    say: Callable[[str], None] = lambda _: None,
    luggage: Luggage = NOTHING,
) -> int:
    """An interactive shell, or ``argv``, in a new guest, on this terminal; returns its exit status.

    The terminal is always restored. Raises CannotRun when standard input or output is
    not a terminal, Lost when the guest is lost.
    """
    if not (_is_terminal(0) and _is_terminal(1)):
        raise CannotRun("vm shell needs a terminal", "use `inject vm exec -- CMD` in scripts")
    raw = False

    def say_line(line: str) -> None:
        say(f"{line}\r" if raw else line)

    with boot(artifacts, options, cache=cache, say=say_line) as guest, _raw(0):
        raw = True
        cwd = luggage.pack(guest, artifacts, cache) or checkout.HOME
        if greeting:
            say_line(greeting)
        command = guest.requests.start(
            argv,
            stdin=True,
            tty=_size(1),
            cwd=cwd,
            env=_environment(),
            on_stdout=lambda data: _write_all(1, data),
        )
        with _follow_size(guest, command), Forward(guest, command, 0):
            status = guest.requests.wait(command)
        luggage.unpack(guest)
        return status


class Forward:
    """Passes what can be read from ``source`` to a command, as fast as the command takes it."""

    def __init__(self, guest: Guest, command: Command, source: Optional[int]) -> None:
        self.guest = guest
        self.command = command
        self.source = source

    def __enter__(self) -> Forward:
        if self.source is not None:
            self.guest.machine.watch(self.source, self._ready, lambda: self.command.credit > 0)
        return self

    def __exit__(self, *_: object) -> None:
        if self.source is not None:
            self.guest.machine.unwatch(self.source)

    def _ready(self) -> None:
        assert self.source is not None
        try:
            data = os.read(self.source, min(CHUNK, self.command.credit))
        except OSError:
            data = b""
        if _INTERRUPT in data and self.guest.held and _is_terminal(self.source):
            raise KeyboardInterrupt  # a guest that stands still cannot hear it
        if data:
            self.guest.requests.feed(self.command, data)
        else:
            self.guest.machine.unwatch(self.source)
            self.guest.requests.end_input(self.command)


@contextlib.contextmanager
def _interrupt_goes_to(guest: Guest, command: Command) -> Iterator[None]:
    """Send the first SIGINT to the command; the second raises KeyboardInterrupt."""
    count = 0

    def forward(_number: int, _frame: Optional[FrameType]) -> None:
        nonlocal count
        count += 1
        if count > 1 or guest.held:
            raise KeyboardInterrupt
        guest.later(lambda: guest.requests.signal(command, signal.SIGINT))

    before = signal.signal(signal.SIGINT, forward)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _follow_size(guest: Guest, command: Command) -> Iterator[None]:
    """Give the command's terminal the size of this one, now and at each change."""

    def changed(_number: int, _frame: Optional[FrameType]) -> None:
        guest.later(lambda: guest.requests.resize(command, *_size(1)))

    before = signal.signal(signal.SIGWINCH, changed)
    changed(signal.SIGWINCH, None)  # it may have changed during the boot
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    """The terminal passes every key on; restored at the end, without waiting for its output.

    A process in the background is stopped by SIGTTOU when it changes its terminal. Then the
    end would never come, and with it neither QEMU's, so the signal is held back there.
    """
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)
        yield
    finally:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            termios.tcsetattr(fd, termios.TCSANOW, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _size(fd: int) -> tuple[int, int]:
    """Rows and columns of a terminal; 24 by 80 if it does not know."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows or 24, columns or 80


def _environment() -> dict[str, str]:
    return {"TERM": os.environ.get("TERM", "dumb")}


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def _write_all(fd: int, data: bytes) -> None:
    """Write all of it, even to a non-blocking descriptor; raises BrokenPipeError when the reader is gone."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            _wait_writable(fd)


def _wait_writable(fd: int) -> None:
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    poller.poll()
