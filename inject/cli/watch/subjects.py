"""Whose calls are watched: a command, a process, a control group, or every task."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Protocol

import click

from inject.process import adopted
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.process.workload import Outcome, Workload
from inject.scenario.shorthand import BadSyntax

LONGEST = 86_400.0
"""Seconds that `inject watch` lasts at most."""


class Subject(Protocol):
    """Whose calls are watched."""

    noun: str
    group: tuple[int, int]
    """Id and depth of its control group."""

    def begin(self) -> None:
        """Let it run."""

    def ended(self) -> str:
        """How it ended, in words; "" while it lives."""

    def said(self) -> str:
        """The last line that it printed; "" if its output goes elsewhere."""


@dataclass(frozen=True)
class Chosen:
    """What the command line names: exactly one of a command, a process, a control group and every task."""

    command: tuple[str, ...] = ()
    pid: Optional[int] = None
    cgroup: Optional[Path] = None
    any_task: bool = False

    def check(self) -> None:
        """Raise BadSyntax unless there is exactly one."""
        given = [bool(self.command), self.pid is not None, self.cgroup is not None, self.any_task]
        if sum(given) != 1:
            what = (
                "more than one of them says whose calls to watch" if any(given) else "nothing says whose calls to watch"
            )
            raise BadSyntax(what, "give one of -- CMD..., --pid PID, --cgroup PATH and --any")

    @contextlib.contextmanager
    def open(self, janitor: Janitor, echo: bool) -> Iterator[Subject]:
        """The subject; leaving puts everything back. With ``echo`` a command's output is passed on."""
        if self.pid is not None:
            with adopted.by_pid(self.pid, janitor) as taken:
                yield Running(taken)
        elif self.cgroup is not None:
            with adopted.by_cgroup(self.cgroup) as taken:
                yield Running(taken)
        elif self.any_task:
            yield EveryTask()
        else:
            with _started(self.command, janitor, echo) as started:
                yield started


@dataclass
class EveryTask:
    """Every task of this machine; only faults with `scope: any` take their calls."""

    noun: str = "every task"
    group: tuple[int, int] = (0, 0)

    def begin(self) -> None:
        """Do nothing: they run already."""

    def ended(self) -> str:
        """Return "": they never end."""
        return ""

    def said(self) -> str:
        """Return "": their output goes elsewhere."""
        return ""


class Running:
    """A process or control group that ran before inject."""

    def __init__(self, taken: adopted.Adopted) -> None:
        self._taken = taken
        self.noun = taken.noun
        self.group = (taken.cgroup.id, taken.cgroup.level)

    def begin(self) -> None:
        """Do nothing: it runs already."""

    def ended(self) -> str:
        """Say that nothing lives in its group any more."""
        return "" if self._taken.cgroup.populated() else f"{self.noun} has ended"

    def said(self) -> str:
        """Return "": its output goes elsewhere."""
        return ""


class Started(threading.Thread):
    """A command that inject starts; the last line that it prints is kept."""

    def __init__(self, command: Sequence[str], workload: Workload, cgroup: Cgroup, printed: Printed) -> None:
        super().__init__(name="inject-command", daemon=True)
        self.noun = shlex.join(command)
        self._short = Path(command[0]).name
        self.group = (cgroup.id, cgroup.level)
        self._workload = workload
        self._cgroup = cgroup
        self._printed = printed
        self._outcome: Optional[Outcome] = None

    def begin(self) -> None:
        """Release it, and wait for it in this thread."""
        self._workload.release()
        self.start()

    def run(self) -> None:
        """Wait for the command."""
        self._outcome = self._workload.wait(LONGEST)

    def ended(self) -> str:
        """How it ended."""
        return f"{self._short} {self._outcome.how()}" if self._outcome is not None else ""

    def said(self) -> str:
        """The last line that it printed."""
        return self._printed.line

    def finish(self) -> None:
        """Kill what is left of it."""
        self._cgroup.kill()
        if self.is_alive():
            self.join(60)


class Printed:
    """What a command prints: the last line is kept; with ``echo`` all of it goes to standard output."""

    def __init__(self, echo: bool) -> None:
        self.line = ""
        self._echo = echo
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        """Take a piece of output."""
        *lines, self._rest = (self._rest + data)[-4096:].split(b"\n")
        whole = [line for line in lines if line.strip()]
        if whole:
            self.line = whole[-1].decode(errors="replace")
        if self._echo:
            click.echo(data, nl=False)


@contextlib.contextmanager
def _started(command: Sequence[str], janitor: Janitor, echo: bool) -> Iterator[Started]:
    printed = Printed(echo)
    group = Cgroup.create(janitor)
    try:
        inner = group.child("workload")
        with Workload(list(command), cgroup=inner, cwd=Path.cwd(), on_output=printed) as workload:
            started = Started(command, workload, inner, printed)
            try:
                yield started
            finally:
                started.finish()
    finally:
        group.close(janitor)
