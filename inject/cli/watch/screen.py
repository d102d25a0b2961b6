"""A terminal as a screen of lines and a source of keys, through curses."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Optional, Union

from inject.cli.watch.board import Line
from inject.model.text import printable
from inject.report.paint import wanted

ESCAPE_DELAY = 100
"""Milliseconds within which the rest of a key's sequence follows its ESC, over a slow serial line, too."""

_HANGUP = select.POLLHUP | select.POLLERR | select.POLLNVAL
_MOST = 256
"""Keys taken at once."""
_NAMES = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "back",
    "\b": "back",
    "\x15": "clear",
    "\x04": "escape",
    "\x1a": "ctrl-z",
    "\x0c": "ctrl-l",
}
_ARROWS = {"A": "up", "B": "down"}


def obstacle() -> str:
    """Why this terminal cannot show a table, in words; "" if it can."""
    for number, name in ((0, "standard input"), (1, "standard output")):
        if not _is_terminal(number):
            return f"{name} is not a terminal"
    try:
        import curses
    except ImportError:
        return "this Python has no module curses"
    term = os.environ.get("TERM", "")
    if not term:
        return "TERM is not set; try TERM=vt100"
    try:
        curses.setupterm(term, 1)
    except curses.error:
        return f"there is no terminfo entry for TERM={printable(term)}; try TERM=xterm or TERM=vt100"
    # initscr() would end the process if the terminal cannot do it.
    if curses.tigetstr("cup") is None or curses.tigetstr("clear") is None:
        return f"TERM={printable(term)} cannot place text"
    return ""


def _is_terminal(number: int) -> bool:
    try:
        return os.isatty(number)
    except OSError:
        return False


class Screen:
    """The terminal of standard input and output; use as a context manager, only if there is no :func:`obstacle`.

    Leaving restores the terminal, and so does SIGTSTP until the process continues. Ctrl-C
    still interrupts. Ctrl-Z is an ordinary key: a stopped inject could not disarm.
    """

    def __init__(self) -> None:
        import curses

        self._curses: ModuleType = curses
        self._modes: list[Any] = []
        self._window: Any = None
        self._styles: dict[str, int] = {}
        self._keyboard = Keyboard({})

    def __enter__(self) -> Screen:
        self._modes = termios.tcgetattr(0)
        sys.stdout.flush()
        self._curses.set_escdelay(ESCAPE_DELAY)
        self._window = self._curses.initscr()
        try:
            self._prepare()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _prepare(self) -> None:
        curses = self._curses
        curses.noecho()
        curses.cbreak()
        self._window.keypad(True)
        self._window.nodelay(True)
        modes = termios.tcgetattr(0)
        modes[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(0, termios.TCSANOW, modes)
        curses.def_prog_mode()  # what ncurses goes back to when a stopped process continues
        with contextlib.suppress(curses.error):  # vt100 cannot hide its cursor
            curses.curs_set(0)
        self._styles = self._attributes()
        special = {curses.KEY_UP: "up", curses.KEY_DOWN: "down", curses.KEY_ENTER: "enter"}
        special.update({curses.KEY_BACKSPACE: "back", curses.KEY_DC: "back", curses.KEY_SUSPEND: "ctrl-z"})
        self._keyboard = Keyboard(special)

    def _attributes(self) -> dict[str, int]:
        """Style to attribute: colour if the terminal has it and the user does not refuse it."""
        curses = self._curses
        found = {"bold": curses.A_BOLD, "dim": curses.A_DIM, "red": curses.A_BOLD, "yellow": curses.A_NORMAL}
        if wanted(sys.stdout) and curses.has_colors():
            with contextlib.suppress(curses.error):
                curses.start_color()
                curses.use_default_colors()
                for number, name in enumerate(("red", "yellow"), 1):
                    curses.init_pair(number, getattr(curses, f"COLOR_{name.upper()}"), -1)
                    found[name] = curses.color_pair(number)
        return found

    def _leave(self) -> None:
        with contextlib.suppress(self._curses.error):  # the terminal may be gone
            self._curses.endwin()
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(0, termios.TCSANOW, self._modes)

    def size(self) -> tuple[int, int]:
        """Columns and lines now."""
        height, width = self._window.getmaxyx()
        return width, height

    def show(self, lines: Sequence[Line]) -> None:
        """Show ``lines`` from the top; curses sends only what changed."""
        width, height = self.size()
        self._window.erase()
        for number, line in enumerate(lines[:height]):
            column = 0
            for span in line:
                room = width - column
                if room <= 0:
                    break
                # curses writes the last cell of the screen, then complains that the cursor cannot go on.
                with contextlib.suppress(self._curses.error):
                    self._window.addnstr(number, column, span.text, room, self._styles.get(span.style, 0))
                column += len(span.text)
        self._window.refresh()

    def redraw(self) -> None:
        """Draw everything anew at the next :meth:`show`, over what another program has written."""
        self._window.clearok(True)

    def keys(self, seconds: float) -> Optional[list[str]]:
        """Wait ``seconds`` at most, and take the keys that are typed; None if the terminal is gone.

        A key is a printable character, or up, down, enter, back, clear, escape, ctrl-z, ctrl-l.
        """
        poller = select.poll()
        poller.register(0, select.POLLIN)
        if any(event & _HANGUP for _, event in poller.poll(seconds * 1000)):
            return None
        codes: list[Union[int, str]] = []
        with contextlib.suppress(self._curses.error):  # nothing more was typed
            while len(codes) < _MOST:
                codes.append(self._window.get_wch())
        return self._keyboard.keys(codes)


class Keyboard:
    """Turns what curses reads into names of keys; ``special`` names the numbers that curses has for them.

    A sequence that curses does not know is dropped to its end: the last letter of Ctrl-Up
    (``ESC [ 1 ; 5 A``) would arm everything. It may be in two pieces, on a slow line.
    """

    def __init__(self, special: Mapping[int, str]) -> None:
        self._special = special
        self._state = ""

    def keys(self, codes: Sequence[Union[int, str]]) -> list[str]:
        """The keys of ``codes``, which were typed at once; those that mean nothing are left out."""
        found = [self._key(code) for code in codes]
        if self._state == "escape":
            found.append("escape")
            self._state = "escaped"
        return [name for name in found if name]

    def _key(self, code: Union[int, str]) -> str:
        """What ``code`` means behind those before it; "" for nothing yet."""
        before, self._state = self._state, ""
        if isinstance(code, int):
            return self._special.get(code, "")
        if before in ("escape", "escaped") and code in ("[", "O"):
            self._state = "begun"
        elif before == "escape":  # together with Alt
            return ""
        elif before == "begun" and code == "[":  # function keys of the Linux console
            self._state = "inside"
        elif before == "begun" and code in _ARROWS:  # as a terminal sends them that is not what TERM says
            return _ARROWS[code]
        elif before in ("begun", "inside"):
            self._state = "" if "@" <= code <= "~" else "inside"
        elif code == "\x1b":
            self._state = "escape"
        else:
            return _NAMES.get(code, code if code.isprintable() else "")
        return ""
