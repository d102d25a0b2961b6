"""A terminal as a screen of lines and a source of keys: nothing but what a serial console understands too."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Optional

SIZE = (80, 24)
"""Columns and lines where the terminal does not say, as on a serial line."""

_ENTER = "\033[?1049h\033[?7l\033[?25l\033[2J"  # other screen, no wrapping, no cursor, clear
_LEAVE = "\033[?25h\033[?7h\033[?1049l"
_KEYS = {"[A": "up", "OA": "up", "[B": "down", "OB": "down"}
_BURST = 0.05
"""Seconds within which the rest of a key's sequence follows its ESC."""


def usable() -> bool:
    """Whether standard input and output are a terminal that can place text."""
    try:
        return os.isatty(0) and os.isatty(1) and os.environ.get("TERM", "dumb") not in ("", "dumb")
    except OSError:
        return False


class Screen:
    """The terminal of standard input and output; a context manager that restores it however it ends.

    Ctrl-C still interrupts; Ctrl-Z does nothing, because a stopped tool could not disarm.
    """

    def __init__(self) -> None:
        self._before: Optional[list[Any]] = None
        self._shown: list[str] = []
        self._size = (0, 0)

    def __enter__(self) -> Screen:
        self._before = termios.tcgetattr(0)
        raw = termios.tcgetattr(0)
        raw[3] &= ~(termios.ICANON | termios.ECHO)
        raw[6][termios.VSUSP] = b"\0"
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(0, termios.TCSANOW, raw)
        self._write(_ENTER)
        return self

    def __exit__(
        self, _kind: Optional[type[BaseException]], _error: Optional[BaseException], _trace: Optional[TracebackType]
    ) -> None:
        with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
            self._write(_LEAVE)
        with contextlib.suppress(OSError, termios.error):
            assert self._before is not None
            termios.tcsetattr(0, termios.TCSANOW, self._before)

    def size(self) -> tuple[int, int]:
        """Columns and lines now."""
        found = shutil.get_terminal_size(SIZE)
        return found.columns, found.lines

    def paint(self, lines: Sequence[str]) -> None:
        """Show ``lines`` from the top; only those that changed travel, for the line may be slow."""
        size = self.size()
        if size != self._size:
            self._size, self._shown = size, []
            self._write("\033[2J")
        parts = []
        for number, line in enumerate(lines[: size[1]]):
            if number >= len(self._shown) or self._shown[number] != line:
                parts.append(f"\033[{number + 1};1H\033[K{line}")
        self._shown = list(lines)
        if parts:
            self._write("".join(parts))

    def keys(self, seconds: float) -> Optional[list[str]]:
        """Keys typed, after waiting ``seconds`` at most for the first; None when the terminal is gone."""
        if not select.select([0], [], [], seconds)[0]:
            return []
        data = self._read()
        if not data:
            return None
        if data.endswith(b"\033") and select.select([0], [], [], _BURST)[0]:
            data += self._read()
        return split_keys(data.decode("utf-8", "replace"))

    @staticmethod
    def _read() -> bytes:
        try:
            return os.read(0, 1024)
        except OSError:
            return b""

    @staticmethod
    def _write(text: str) -> None:
        data = text.encode()
        sys.stdout.flush()
        while data:
            data = data[os.write(1, data) :]


def split_keys(text: str) -> list[str]:
    """What was typed, key by key: a character, ``up``, ``down``, ``enter``, ``back``, ``escape``, ``clear``."""
    named = {"\r": "enter", "\n": "enter", "\x7f": "back", "\b": "back", "\x15": "clear", "\x04": "escape"}
    keys, at = [], 0
    while at < len(text):
        character = text[at]
        if character == "\033":
            length = _sequence(text[at + 1 :])
            keys.append(_KEYS.get(text[at + 1 : at + 1 + length], "escape" if not length else ""))
            at += 1 + length
            continue
        keys.append(named.get(character, character if character.isprintable() else ""))
        at += 1
    return [key for key in keys if key]


def _sequence(rest: str) -> int:
    """How many characters after an ESC belong to its key."""
    if rest[:1] == "O":
        return min(2, len(rest))
    if rest[:1] != "[":
        return 0
    end = next((i for i, c in enumerate(rest[1:], 1) if "@" <= c <= "~"), len(rest) - 1)
    return end + 1
