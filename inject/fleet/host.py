"""Somewhere that can run trials, as fleet sees it: a QEMU guest is one kind of host."""

from __future__ import annotations

import enum
import time
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Protocol

from inject.errors import ExitStatus, GuestLost, InjectError
from inject.model.event import Injection
from inject.model.scenario import Scenario
from inject.model.text import printable
from inject.model.verdict import Counts

OnOutput = Callable[[bytes], None]


class Ending(enum.Enum):
    """The word for how a host was lost."""

    NEVER_BOOTED = "never booted"
    PANICKED = "panicked"
    HUNG = "hung"
    ENDED = "ended"
    UNTRUSTED = "cannot be trusted"
    """It wrote to a port what inject never writes there."""


@dataclass(frozen=True)
class Remains:
    """What a host's memory tells of the trial under way: the counts of every fault, the latest injections in order."""

    counts: tuple[Counts, ...] = ()
    """() if the memory could not be read."""
    injections: tuple[Injection, ...] = ()


class Lost(GuestLost):
    """The host is gone.

    ``host_fault``: because of what happened on this machine, not in the guest.
    ``qemu_crashed``: because QEMU crashed. QEMU 7.2 was seen to, with a general protection
    fault in its translator, at one boot in fifty on a loaded machine.
    ``remains``: of the trial under way, if its memory could be read.
    """

    remains = Remains()

    def __init__(
        self,
        ending: Ending,
        why: str,
        *,
        console: str,
        hint: str = "",
        host_fault: bool = False,
        qemu_crashed: bool = False,
    ) -> None:
        super().__init__(f"the guest {ending.value}: {why}", hint, console=console)
        self.ending = ending
        self.why = why
        self.host_fault = host_fault
        self.qemu_crashed = qemu_crashed


class Refused(InjectError):
    """The host ran nothing, because its kernel does not allow what a scenario has a function return."""

    status = ExitStatus.USAGE
    placed = True

    def __init__(self, said: str) -> None:
        super().__init__("\n".join(printable(line) for line in said.splitlines()))


class Patience:
    """Waiting time that is counted towards ``limit`` seconds, in steps of at most one second.

    Time in which this process did not wait (it was stopped, the laptop slept, its
    output was blocked) is not counted.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.spent = 0.0
        self._last = time.monotonic()

    def reset(self) -> None:
        """Start again."""
        self.spent = 0.0
        self._last = time.monotonic()

    def over(self) -> bool:
        """Count the time since the last call; True if the limit is reached."""
        now = time.monotonic()
        self.spent += min(1.0, now - self._last)
        self._last = now
        return self.spent >= self.limit


@dataclass
class Command:
    """A command that runs, or ran, on a host.

    ``status`` is None while it runs, then its exit code, or 128 plus the signal that
    ended it. ``credit`` is the number of bytes of input that the host can take now.
    """

    id: int
    on_stdout: Optional[OnOutput]
    on_stderr: Optional[OnOutput]
    credit: int
    status: Optional[int] = None
    error: str = ""


class CommandTimeout(InjectError):
    """A command did not end in time and was killed."""


class Host(Protocol):
    """An open host. Every wait on it raises Lost, with the reason and the console's tail, when it is gone."""

    worker: Optional[Command]
    """inject, which runs there already and waits for the faults of one scenario; None if it is still to be started."""

    @property
    def results(self) -> str:
        """The file there whose lines reach ``on_result`` of :meth:`Hosts.open`."""
        ...

    def carry(self, files: Sequence[str], cwd: Path) -> Mapping[str, str]:
        """Bring the checkout and ``files`` under the paths they have here; return the environment of commands."""
        ...

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, on_stdout: OnOutput, on_stderr: OnOutput
    ) -> Command:
        """Start a command as root, with an open standard input."""
        ...

    def feed(self, command: Command, data: bytes) -> None:
        """Send input to ``command``; at most ``command.credit`` bytes."""
        ...

    def end_input(self, command: Command) -> None:
        """Close the input of ``command``."""
        ...

    def step(self) -> None:
        """Wait a moment for anything to happen."""
        ...

    def show_blocked(self) -> None:
        """Have the kernel print the stacks of blocked tasks to its console."""
        ...

    def remains(self) -> Remains:
        """What the memory of a host that still runs tells of the trial under way."""
        ...

    def console_tail(self, lines: int = 60) -> str:
        """The last lines that the host's kernel printed."""
        ...

    def results_dropped(self) -> int:
        """Number of lines of :attr:`results` that were too long to be taken."""
        ...


class Hosts(Protocol):
    """Opens the hosts of a batch. A *kind* names hosts that are the same for a scenario."""

    @property
    def key(self) -> str:
        """Name of the kernel for which durations are kept."""
        ...

    def kind(self, scenario: Scenario) -> Hashable:
        """The kind of host that ``scenario`` asks for."""
        ...

    def open(
        self,
        kind: Hashable,
        *,
        on_result: Callable[[bytes], None],
        say: Callable[[str], None],
        tick: Callable[[], None],
    ) -> AbstractContextManager[Host]:
        """A host of this kind, running until the context is left.

        ``tick`` is called before every wait and may raise to end it. Raises Lost when
        the host does not start.
        """
        ...
