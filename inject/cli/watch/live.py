"""The live table of `inject watch` and its keys."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Protocol

from inject.cli.files import write_text
from inject.cli.watch import board
from inject.cli.watch.subjects import Subject
from inject.engine.session import Row, Session, State
from inject.errors import InjectError
from inject.model.scenario import Fault
from inject.scenario.shorthand import to_trigger
from inject.scenario.writer import fault_keys, to_yaml

LOOK = 0.25
"""Seconds between two looks at the counters."""

MOST_TYPED = 200


class Surface(Protocol):
    """What shows the table; :class:`inject.cli.watch.screen.Screen` is one."""

    def size(self) -> tuple[int, int]:
        """Columns and lines now."""

    def show(self, lines: Sequence[board.Line]) -> None:
        """Show ``lines`` from the top."""

    def redraw(self) -> None:
        """Draw everything anew at the next show()."""

    def keys(self, seconds: float) -> Optional[list[str]]:
        """Wait ``seconds`` at most for keys; None if there will be no more."""


@dataclass
class Prompt:
    """A question, what is typed so far, and what to do with the answer: it returns a message."""

    question: str
    typed: str
    answer: Callable[[str], str]

    def edit(self, key: str) -> None:
        """Take a key that belongs to the line being typed."""
        if key == "back":
            self.typed = self.typed[:-1]
        elif key == "clear":
            self.typed = ""
        elif len(key) == 1 and len(self.typed) < MOST_TYPED:
            self.typed += key


class Live:
    """The table and its keys."""

    def __init__(self, session: Session, subject: Subject, command: Sequence[str]) -> None:
        self._session = session
        self._subject = subject
        self._command = command
        self._started = time.monotonic()
        self._selected = 0
        armed = any(row.state is not State.OFF for row in session.rows)
        self._message = "everything is armed" if armed else "everything is off: a arms the chosen fault"
        self._prompt: Optional[Prompt] = None
        self._over = False
        self._gone = False
        self._redraw = False

    def run(self, surface: Surface, timeout: float) -> None:
        """Show the table until q, the end of the terminal, or the end of ``timeout`` seconds."""
        self._subject.begin()
        while not self._over and time.monotonic() - self._started < timeout:
            self._look()
            if self._redraw:
                surface.redraw()
                self._redraw = False
            surface.show(board.render(self.view(), *surface.size()))
            keys = surface.keys(LOOK)
            if keys is None:
                return
            for key in keys:
                self.press(key)

    def _look(self) -> None:
        """Take the counters; disarm everything once the subject has ended."""
        self._session.tick()
        ended = self._subject.ended()
        if ended and not self._gone:
            self._gone = True
            self._session.disarm_all()
            self._message = f"{ended}; everything is off: s saves, q quits"

    def view(self) -> board.View:
        """What the screen shows now."""
        faults = tuple(
            board.FaultLine(
                row.state.value,
                row.fault.function,
                ",".join(map(str, row.fault.values)),
                str(row.fault.when.trigger),
                row.counts,
                row.rate,
                row.last,
            )
            for row in self._session.rows
        )
        return board.View(
            self._subject.noun,
            time.monotonic() - self._started,
            faults,
            self._selected,
            self._message,
            f"{self._prompt.question}: {self._prompt.typed}_" if self._prompt else "",
            self._subject.said(),
            tuple(binding.label for binding in BINDINGS if binding.label),
        )

    # ------------------------------------------------------------ keys

    def press(self, key: str) -> None:
        """Do what ``key`` stands for."""
        if self._prompt is not None:
            self._type(self._prompt, key)
            return
        binding = _BY_KEY.get(key)
        if binding is None:
            self._message = f"{key} is not a key of inject watch"
        elif binding.fires and self._subject.ended():
            self._message = f"{self._subject.ended()}: no call is left to fail"
        else:
            self._message = binding.act(self)

    def _type(self, prompt: Prompt, key: str) -> None:
        if key == "escape":
            self._prompt = None
        elif key == "enter":
            self._prompt = None
            try:
                self._message = prompt.answer(prompt.typed)
            except InjectError as error:
                self._message = str(error)
        else:
            prompt.edit(key)

    @property
    def _row(self) -> Row:
        return self._session.rows[self._selected]

    def arm(self) -> str:
        """Arm the chosen fault."""
        self._session.arm(self._selected)
        return f"{self._row.fault.function} is armed, counted from now: {self._row.fault.when.trigger}"

    def disarm(self) -> str:
        """Disarm the chosen fault."""
        self._session.disarm(self._selected)
        return f"{self._row.fault.function} is off"

    def once(self) -> str:
        """Fail the next call that meets the chosen fault's conditions."""
        self._session.once(self._selected)
        return f"the next matching call of {self._row.fault.function} fails"

    def arm_all(self) -> str:
        """Arm every fault."""
        self._session.arm_all()
        return "everything is armed"

    def disarm_all(self) -> str:
        """Disarm every fault."""
        self._session.disarm_all()
        return "everything is off"

    def mark(self) -> str:
        """Write a mark to the kernel log."""
        return self._session.mark()

    def up(self) -> str:
        """Choose the fault above."""
        return self._choose(-1)

    def down(self) -> str:
        """Choose the fault below."""
        return self._choose(1)

    def _choose(self, step: int) -> str:
        self._selected = (self._selected + step) % len(self._session.rows)
        fault = self._row.fault
        return f"{fault.function} returns {fault.returns}: {fault.when.trigger}"

    def ask_trigger(self) -> str:
        """Ask for the chosen fault's trigger."""
        question = "trigger (nth=3; every=10,times=2; empty: every call)"
        self._prompt = Prompt(question, "", self._retrigger)
        return ""

    def ask_file(self) -> str:
        """Ask for the file to save to."""
        self._prompt = Prompt("save as", "watch.yaml", self._save)
        return ""

    def redraw(self) -> str:
        """Draw the screen again."""
        self._redraw = True
        return self._message

    def stay(self) -> str:
        """Explain why Ctrl-Z does nothing."""
        return "a stopped inject could not disarm: q quits"

    def quit(self) -> str:
        """End the table."""
        self._over = True
        return ""

    # ------------------------------------------------------------ answers

    def _retrigger(self, typed: str) -> str:
        self._session.retrigger(self._selected, to_trigger(typed))
        off = "" if self._row.state is State.ARMED else "; the fault is not armed"
        return f"the trigger of {self._row.fault.function} is now {self._row.fault.when.trigger}{off}"

    def _save(self, typed: str) -> str:
        rows = self._session.rows
        used = [row.fault for row in rows if row.state is not State.OFF or row.counts.injected]
        if not typed.strip():
            return "not saved: no file was named"
        try:
            path = Path(typed.strip()).expanduser()
            text = scenario_text(used or [row.fault for row in rows], self._command)
            write_text(path, text, option="s", force=False)
        except InjectError as error:
            return f"not saved: {error.message}"
        except RuntimeError:  # expanduser()
            return f"not saved: {typed.strip()} names the home directory of an unknown user"
        return f"saved to {path}" + (f": {len(used)} of {len(rows)}, those that were armed" if used else "")


@dataclass(frozen=True)
class Binding:
    """What some keys do; ``act`` returns the message that is shown then."""

    keys: tuple[str, ...]
    act: Callable[[Live], str]
    label: str = ""
    """As the last line of the screen shows it."""
    fires: bool = False
    """Whether it makes calls fail, which it cannot once the subject has ended."""


BINDINGS = (
    Binding(("a",), Live.arm, "a arm", fires=True),
    Binding(("d",), Live.disarm, "d disarm"),
    Binding(("f",), Live.once, "f once", fires=True),
    Binding(("t",), Live.ask_trigger, "t trigger"),
    Binding(("A",), Live.arm_all, "A/D all", fires=True),
    Binding(("D",), Live.disarm_all),
    Binding(("up", "k"), Live.up, "j/k choose"),
    Binding(("down", "j"), Live.down),
    Binding(("s",), Live.ask_file, "s save"),
    Binding(("m",), Live.mark, "m mark"),
    Binding(("ctrl-l",), Live.redraw),
    Binding(("ctrl-z",), Live.stay),
    Binding(("q",), Live.quit, "q quit"),
)
"""Every key of the table."""

_BY_KEY = {key: binding for binding in BINDINGS for key in binding.keys}


def scenario_text(faults: Sequence[Fault], command: Sequence[str]) -> str:
    """Write a scenario of ``faults`` as they stand, around ``command``."""
    run = f"cd {shlex.quote(str(Path.cwd()))}\nexec {shlex.join(command)}\n" if command else "true  # the workload\n"
    head = "# Saved by inject watch. Add what the kernel must do in `expect`, `recover` and `checks`.\n"
    return head + to_yaml({"faults": [fault_keys(fault) for fault in faults], "run": run})
