"""A pseudo-terminal whose user is the test."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from tests.support import ROOT
from tests.support.emulator import Emulator
from tests.support.waiting import wait_for


class Terminal:
    """Both sides of a terminal: the test types and reads at ``fd``, ``process`` is given ``inner``."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self.process: Any = None
        """Popen or Tool that runs on it, once it is started; its end is the end of a wait."""
        self.seen = b""
        """What was shown and not yet expected."""
        self.fd, self.inner = pty.openpty()
        self._modes = termios.tcgetattr(self.inner)
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self.fd, keys.encode())

    def expect(self, pattern: str) -> str:
        """Wait until ``pattern`` is shown; return what was shown up to its end since the last time."""
        found = wait_for(
            lambda: self._find(pattern.encode()),
            lambda: f"{pattern!r} in {self.seen!r}",
            process=self.process,
            pause=0,
        )
        shown, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return shown.decode(errors="replace")

    def end(self) -> int:
        """The exit code of the process, with everything that it still shows taken."""
        wait_for(
            self._has_ended,
            lambda: f"the end of the process, which shows {self.seen!r}",
            pause=0,
        )
        self._read()
        code: int = self.process.poll()
        return code

    def _find(self, pattern: bytes) -> Optional[re.Match[bytes]]:
        self._read()
        return re.search(pattern, self.seen)

    def _has_ended(self) -> bool:
        self._read()
        return self.process.poll() is not None

    def _read(self) -> None:
        """Take what is shown, after a moment at most."""
        pause = 0.1
        while select.select([self.fd], [], [], pause)[0]:
            self.seen += os.read(self.fd, 65536)
            pause = 0

    def restored(self) -> bool:
        """Whether the terminal's modes are as they were."""
        return termios.tcgetattr(self.inner) == self._modes

    def close(self) -> None:
        """The user's side goes away, as when a window is closed."""
        os.close(self.inner)
        os.close(self.fd)


class Window(Terminal):
    """A terminal whose user looks at the screen rather than at what is sent to it."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        super().__init__(rows, columns)
        self.emulator = Emulator(rows or 24, columns or 80)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, and what is shown in it."""
        super().resize(rows, columns)
        if hasattr(self, "emulator"):
            self.emulator.resize(rows, columns)

    def see(self, *patterns: str) -> None:
        """Wait until all of ``patterns`` are on the screen at once."""
        wait_for(
            lambda: all(re.search(pattern, self.look()) for pattern in patterns),
            lambda: f"{patterns} in:\n{self.emulator.text}",
            process=self.process,
            pause=0,
        )

    def look(self) -> str:
        """The screen as it is now."""
        self._read()
        self.emulator.feed(self.seen)
        self.seen = b""
        return self.emulator.text

    def end(self) -> int:
        """The exit code of the process, with everything that it still shows on the screen."""
        code = super().end()
        self.look()
        return code


@contextlib.contextmanager
def started(argv: Sequence[str], limit: float) -> Iterator[Terminal]:
    """A terminal of 33 rows and 111 columns with ``argv``, run in the checkout, which is ended after it."""
    terminal = Terminal(33, 111)
    inner = terminal.inner
    terminal.process = subprocess.Popen(
        argv, cwd=ROOT, stdin=inner, stdout=inner, stderr=inner, preexec_fn=take_terminal
    )
    try:
        yield terminal
    finally:
        terminal.process.terminate()
        terminal.process.wait(limit)
        terminal.close()


def take_terminal() -> None:
    """Begin a session whose terminal is standard input; for a new process, before its program."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
