"""One worker of a batch: boots a guest, gives it one scenario after the other, and boots the next where one is lost."""

from __future__ import annotations

import json
import os
import queue
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Callable, Optional

from inject.errors import InjectError
from inject.fleet.journal import LOG_LINES, SLACK, Journal
from inject.fleet.queue import Work
from inject.model.event import Event
from inject.model.scenario import Scenario
from inject.vm.carry import checkout
from inject.vm.carry import programs as warm
from inject.vm.channel import RESULTS_PORT
from inject.vm.console import Console
from inject.vm.guest import Artefacts, Command, Ending, Guest, Lost, Options, Patience, boot
from inject.vm.machine import SLICE

TRAILING = 2.0
"""Seconds of silence on the results port after which an exited `inject run` has said all it had to say."""

BLOCKED = 3.0
"""Seconds for the kernel to print the stacks of blocked tasks."""

MOST_WAITING = 1000
"""Things told by the workers that wait for the main thread; above it a worker waits."""


@dataclass(frozen=True)
class Request:
    """What to run: the scenarios, each name once.

    ``arguments`` are passed on to `inject run` in the guest. ``cwd`` is what
    relative paths are relative to, here and in the guest.
    """

    scenarios: tuple[Scenario, ...]
    seed: Optional[int] = None
    arguments: tuple[str, ...] = ()
    cwd: Path = field(default_factory=Path.cwd)


class Desk:
    """Where the workers of a batch leave what the main thread is to do, and hear that they have to end."""

    def __init__(self) -> None:
        self._inbox: queue.Queue[Callable[[], None]] = queue.Queue(MOST_WAITING)
        self._ended = threading.Event()
        self.booted = threading.Event()
        """Whether any guest has booted."""

    def end(self) -> None:
        """Every worker stops where it is."""
        self._ended.set()

    def check(self) -> None:
        """Raises KeyboardInterrupt in a worker that has to end."""
        if self._ended.is_set():
            raise KeyboardInterrupt

    def post(self, action: Callable[[], None]) -> None:
        """Have the main thread do ``action``; raises KeyboardInterrupt when that will not happen any more."""
        while True:
            self.check()
            try:
                self._inbox.put(action, timeout=SLICE)
                return
            except queue.Full:
                pass

    def serve(self) -> bool:
        """Do one of the actions, waiting a moment for it; False if there was none."""
        try:
            action = self._inbox.get(timeout=SLICE)
        except queue.Empty:
            return False
        action()
        return True


@dataclass(frozen=True)
class Outlets:
    """Where a batch's events, output and remarks go; called from the main thread only."""

    event: Callable[[Event], None]
    output: Callable[[bytes], None]
    say: Callable[[str], None]
    unbooted: Callable[[Lost, list[Scenario]], None]
    """These scenarios have no guest, because it did not boot."""


class Lane(threading.Thread):
    """Works until nothing is left for it. ``error`` is what ended it otherwise."""

    def __init__(
        self,
        name: str,
        request: Request,
        artefacts: Artefacts,
        *,
        cache: Path,
        work: Work,
        desk: Desk,
        outlets: Outlets,
    ) -> None:
        super().__init__(name=f"inject-{name or 'guest'}", daemon=True)
        self._title = f"{name}: " if name else ""
        self._request = request
        self._artefacts = artefacts
        self._cache = cache
        self._work = work
        self._desk = desk
        self._outlets = outlets
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        """Guest after guest."""
        try:
            while True:
                options = self._work.join()
                if options is None:
                    return
                try:
                    going_on = self._one_guest(options)
                finally:
                    self._work.leave(options)
                if not going_on:
                    return
        except BaseException as error:  # the main thread looks at it
            self.error = error

    def _post(self, action: Callable[[], None]) -> None:
        self._desk.post(action)

    def _say(self, line: str) -> None:
        self._post(partial(self._outlets.say, f"{self._title}{line}"))

    # ------------------------------------------------------------ one guest

    def _one_guest(self, options: Options) -> bool:
        """Boot a guest and run in it what there is; False when this worker is of no more use."""
        journal = Journal(lambda event: self._post(partial(self._outlets.event, event)), self._request.seed)
        output = Console(64 << 10)
        booted = False
        try:
            with boot(
                self._artefacts,
                options,
                cache=self._cache,
                on_result=journal.take,
                say=self._say,
                tick=self._desk.check,
            ) as guest:
                booted = True
                self._desk.booted.set()
                status = self._run(guest, options, journal, output)
        except Lost as lost:
            if not booted:
                return self._unbooted(options, lost)
            if not journal.settled:  # each guest settles one at least, so that they come to an end
                journal.current = journal.current or self._work.take(options)
            journal.blame(lost)
            self._next(lost.message)
            return True
        if status is None or journal.unusable:
            self._next(f"the guest is unfit for more ({journal.unusable or 'stuck'})")
        else:
            self._settle_rest(options, journal, status, output.tail(LOG_LINES))
        return True

    def _next(self, why: str) -> None:
        left = self._work.left()
        self._say(f"{why}; {left} more to run" if left else why)

    def _unbooted(self, options: Options, lost: Lost) -> bool:
        """No guest of this kind boots, it seems; where others of the kind are at work they do the rest."""
        given_up = self._work.give_up(options)
        if not given_up:
            self._say(f"{lost.message}; the other guests go on")
            return False
        self._post(partial(self._outlets.unbooted, lost, given_up))
        return True

    def _settle_rest(self, options: Options, journal: Journal, status: int, said: str) -> None:
        """`inject run` ended: what it was given and did not begin is for the next guest, if this one did anything."""
        if journal.settled and journal.current is not None and not journal.armed:
            self._work.give_back(options, journal.current)
            return
        if not journal.settled:
            journal.current = journal.current or self._work.take(options)
        journal.unreported(status, said)

    def _run(self, guest: Guest, options: Options, journal: Journal, output: Console) -> Optional[int]:
        """`inject run` in ``guest``; its status, or None when the scenario under way was settled as a hang."""
        kept = warm.folder(self._cache, self._artefacts.kernel_key)
        _ship(guest, self._request)
        warm.push(guest, kept)

        def take_output(data: bytes) -> None:
            output.feed(data)
            self._post(partial(self._outlets.output, data))

        command = guest.start(
            guest_argv(self._request),
            env={"PYTHONPATH": checkout.HOME},
            cwd=str(self._request.cwd),
            stdin=True,
            on_stdout=take_output,
            on_stderr=take_output,
        )
        asking = True
        while command.status is None:
            if asking and journal.current is None:
                asking = not journal.unusable and self._give_next(guest, command, options, journal)
            guest.step()
            if command.error:
                raise InjectError(f"the guest could not start inject: {command.error}")
            if journal.moved.over():
                _stuck(guest, journal)
                return None
        journal.moved = Patience(TRAILING)
        while not journal.ended and not journal.moved.over():
            guest.step()
        warm.pull(guest, kept)
        return command.status

    def _give_next(self, guest: Guest, command: Command, options: Options, journal: Journal) -> bool:
        """Hand the guest its next scenario; False when there is none, which is told to it."""
        scenario = self._work.take(options)
        if scenario is None:
            guest.end_input(command)
            journal.moved = Patience(SLACK)
            return False
        journal.give(scenario)
        guest.feed(command, json.dumps([scenario.file, scenario.name]).encode() + b"\n")
        return True


def guest_argv(request: Request) -> list[str]:
    """The command that runs in the guest what its standard input asks for."""
    words = ["python3", "-m", "inject", "run", "--ask", "--json", f"/dev/virtio-ports/{RESULTS_PORT}"]
    words.append("--stop-when-unusable")
    if request.seed is not None:
        words += ["--seed", str(request.seed)]
    return [*words, *request.arguments]


def _ship(guest: Guest, request: Request) -> None:
    """Give the guest the same files under the same paths, so that every message names the user's path.

    The checkout is there already; a link makes it appear where the user has it.
    """
    home = guest.options.checkout.resolve()
    linked = guest.exec(["sh", "-c", _LINK, "sh", str(home), checkout.HOME, str(request.cwd)], timeout=60) == 0
    shipped = set(checkout.files(home)) if linked else set()
    for file in dict.fromkeys(scenario.file for scenario in request.scenarios):
        path = Path(os.path.normpath(request.cwd / file))
        if path.is_relative_to(home) and path.relative_to(home) in shipped:
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InjectError(f"cannot read {file}: {error.strerror}") from None
        guest.write_file(str(path), data)


_LINK = """
[ -e "$1" ] || { mkdir -p "${1%/*}/" && ln -s "$2" "$1"; }
linked=$?
mkdir -p "$3"
[ "$linked" = 0 ] && [ "$1" -ef "$2" ]
"""


def _stuck(guest: Guest, journal: Journal) -> None:
    """The guest lives but nothing moves: the unfinished scenario hangs."""
    why = f"nothing happened for {journal.moved.limit:g} s"
    guest.trigger("/proc/sysrq-trigger", b"w")
    shown = Patience(BLOCKED)
    while not shown.over():
        guest.step()
    journal.blame(Lost(Ending.HUNG, why, console=guest.console_tail(LOG_LINES)))
