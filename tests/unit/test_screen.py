"""The screen of `inject watch` on real terminals, as their user sees it: curses, its keys, and its ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from inject.cli.watch.screen import Keyboard
from tests.support import ROOT
from tests.support.terminal import Window, take_terminal
from tests.support.waiting import wait_for

PROGRAM = """
import sys, signal
from inject.cli.watch.board import Span
from inject.cli.watch.screen import Screen, obstacle

reason = obstacle()
if reason:
    sys.exit(f"plain: {reason}")
signal.signal(signal.SIGTERM, signal.default_int_handler)
typed = []
print("before")
with Screen() as screen:
    while "q" not in typed[-1:]:
        width, height = screen.size()
        lines = [(Span("red", "red"), Span(" "), Span("dim", "dim"), Span(" plain"))]
        lines.append((Span(f"size {width}x{height}"),))
        lines.append((Span("keys " + " ".join(typed)),))
        lines += [(Span(f"line {n}"),) for n in range(4, height)]
        lines.append((Span("x" * width, "bold"),))
        screen.show(lines)
        keys = screen.keys(0.05)
        if keys is None:
            sys.exit(7)
        if "!" in keys:
            raise RuntimeError("a mistake")
        if "ctrl-l" in keys:
            screen.redraw()
        typed += keys
print("after")
"""


ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
"""Without the variables that curses takes for the size; readline sets them in the process that imports it."""


class Shown(Window):
    """A window with PROGRAM in it."""

    def __init__(
        self, term: str, *, rows: int = 24, columns: int = 80, program: str = PROGRAM, **environment: str
    ) -> None:
        super().__init__(rows, columns)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**ENVIRONMENT, "TERM": term, **environment},
            stdin=self.inner,
            stdout=self.inner,
            stderr=self.inner,
            preexec_fn=take_terminal,
        )


@pytest.fixture
def terminals() -> Iterator[list[Shown]]:
    opened: list[Shown] = []
    yield opened
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()


TERMS = ["xterm", "xterm-256color", "vt100", "vt220", "linux", "screen", "tmux-256color"]


@pytest.mark.parametrize("term", TERMS)
def test_what_is_shown_and_typed(term: str, terminals: list[Shown]) -> None:
    terminal = Shown(term)
    terminals.append(terminal)
    terminal.see("red dim plain", "size 80x24", "line 23", "x" * 80)
    up, down = "\033[A", "\033OB"  # one of them is not what terminfo says
    back = "\b" if term == "vt100" else "\x7f"
    terminal.type(f"aé{up}{down}\r{back}\x15\x0c\x1a")
    terminal.see("keys a é up down enter back clear ctrl-l ctrl-z")
    terminal.type("\033")
    terminal.see("ctrl-z escape")
    terminal.type("\033[3~\033[1;7A\033[200~\x01j")  # delete; three keys that mean nothing
    terminal.see("escape back j" if term != "vt100" else "escape j")  # vt100 has no such key
    terminal.type("q")
    assert terminal.end() == 0
    assert "after" in terminal.emulator.text
    assert not terminal.emulator.alternate
    assert terminal.restored()


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (["aq"], ["a", "q"]),
        (["\r\x7f\x15\x04"], ["enter", "back", "clear", "escape"]),
        (["\033"], ["escape"]),
        (["\033", "a"], ["escape", "a"]),
        (["\033[1;5A"], []),
        (["\033[1", ";5Aq"], ["q"]),
        (["\033", "[A"], ["escape", "up"]),
        (["\033[A\033OBj"], ["up", "down", "j"]),
        (["\033[[A\033OPq"], ["q"]),
        (["\033[200~x\033[201~"], ["x"]),
        (["\033a"], []),
        (["é\x00\x01"], ["é"]),
    ],
)
def test_a_sequence_that_is_not_known_is_no_key(typed: list[str], keys: list[str]) -> None:
    keyboard = Keyboard({})
    assert [key for piece in typed for key in keyboard.keys(piece)] == keys


def test_a_window_that_changes_its_size(terminals: list[Shown]) -> None:
    terminal = Shown("xterm")
    terminals.append(terminal)
    terminal.see("size 80x24")
    for rows, columns in ((48, 160), (8, 40)):
        terminal.resize(rows, columns)
        terminal.see(f"size {columns}x{rows}", f"line {rows - 1}", "x" * columns)
    terminal.type("q")
    assert terminal.end() == 0
    assert terminal.restored()


def test_a_serial_line_without_a_size(terminals: list[Shown]) -> None:
    terminal = Shown("vt220", rows=0, columns=0)
    terminals.append(terminal)
    terminal.see("size 80x24", "x" * 80)
    terminal.type("q")
    assert terminal.end() == 0


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour(terminals: list[Shown], environment: dict[str, str], coloured: bool) -> None:
    terminal = Shown("xterm", **{"NO_COLOR": "", **environment})
    terminals.append(terminal)
    shown = terminal.expect("line 23")
    assert ("\033[31m" in shown) == coloured
    terminal.type("q")
    assert terminal.end() == 0


@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM", "a mistake"])
def test_every_end_restores_the_terminal(how: str, terminals: list[Shown]) -> None:
    terminal = Shown("xterm")
    terminals.append(terminal)
    terminal.see("size 80x24")
    assert terminal.emulator.alternate and not terminal.restored()
    if how == "SIGTERM":
        terminal.process.send_signal(signal.SIGTERM)
    else:
        terminal.type("\x03" if how == "ctrl-c" else "!")
    assert terminal.end() != 0
    assert ("RuntimeError" if how == "a mistake" else "KeyboardInterrupt") in terminal.emulator.text
    assert "before" in terminal.emulator.text or not terminal.emulator.alternate
    assert terminal.restored()


def test_a_terminal_that_goes_away(terminals: list[Shown]) -> None:
    """Whoever ignores SIGHUP is told that there are no more keys."""
    terminal = Shown("xterm")
    terminals.append(terminal)
    terminal.see("size 80x24")
    terminal.close()
    assert terminal.process.wait(30) in (7, -signal.SIGHUP)


SHELL = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = os.fork()
if not child:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-c", os.environ["PROGRAM"]])
while True:
    _, status = os.waitpid(child, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    print("stopped by", os.WSTOPSIG(status), "child", child, flush=True)
    input()
    os.tcsetpgrp(0, child)
    os.kill(child, signal.SIGCONT)
"""


def test_a_stop_gives_the_terminal_back_until_it_continues(terminals: list[Shown]) -> None:
    """As `kill -TSTP` and then `fg` in a shell that knows jobs."""
    terminal = Shown("xterm", program=SHELL, PROGRAM=PROGRAM)
    terminals.append(terminal)
    terminal.see("size 80x24")
    child = os.tcgetpgrp(terminal.fd)

    def stopped() -> bool:
        os.kill(child, signal.SIGTSTP)  # once is not enough: curses ignores it while it writes
        return f"stopped by {signal.SIGTSTP.value} child" in terminal.look()

    wait_for(stopped, "the stop", process=terminal.process)
    assert terminal.restored() and not terminal.emulator.alternate
    terminal.type("\r")
    terminal.see("size 80x24", "line 23")
    assert terminal.emulator.alternate
    terminal.type("jq")
    assert terminal.end() == 0
    assert terminal.restored()


@pytest.mark.parametrize(
    ("term", "why"),
    [
        ("dumb", "TERM=dumb cannot place text"),
        ("", "TERM is not set; try TERM=vt100"),
        ("no-such-terminal", "there is no terminfo entry for TERM=no-such-terminal; try TERM=xterm or TERM=vt100"),
        ("evil\033[2J", r"there is no terminfo entry for TERM=evil\x1b[2J;"),
    ],
)
def test_a_terminal_that_cannot_show_it(term: str, why: str, terminals: list[Shown]) -> None:
    terminal = Shown(term)
    terminals.append(terminal)
    assert terminal.end() == 1
    assert f"plain: {why}" in "".join(terminal.emulator.lines)
    assert terminal.restored()


@pytest.mark.parametrize("closed", ["input", "output"])
def test_no_terminal(closed: str) -> None:
    streams = {"stdin": subprocess.DEVNULL} if closed == "input" else {"stdin": None}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, **streams)
    assert done.returncode == 1
    assert "is not a terminal" in done.stderr


def test_without_curses() -> None:
    """Some builds of Python leave it out."""
    program = "import sys, pty, os; sys.modules['curses'] = None; from inject.cli.watch import screen;"
    program += "screen._is_terminal = lambda n: True; print(screen.obstacle())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "this Python has no module curses\n"


def test_curses_is_imported_by_the_table_only() -> None:
    program = "import sys; import inject.cli.watch.command; print('curses' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
