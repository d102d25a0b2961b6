"""One worker of a batch: boots a guest, gives it one scenario after the other, and boots the next where one is lost."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Callable, Optional

from inject.errors import InjectError
from inject.fleet.host import Command, Ending, Host, Hosts, Lost, Patience
from inject.fleet.journal import LOG_LINES, SLACK, Journal
from inject.fleet.queue import Work
from inject.model.event import Event
from inject.model.scenario import Scenario
from inject.process.capture import Output

TRAILING = 2.0
"""Seconds of silence on the results port after which an exited `inject run` has said all it had to say."""

PAUSE = 0.2
"""Seconds that one look at the mailbox takes at most."""

OUTPUT = 64 << 10
"""Bytes of what inject prints on a host that are kept."""

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


class Mailbox:
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
                self._inbox.put(action, timeout=PAUSE)
                return
            except queue.Full:
                pass

    def serve(self) -> bool:
        """Do one of the actions, waiting a moment for it; False if there was none."""
        try:
            action = self._inbox.get(timeout=PAUSE)
        except queue.Empty:
            return False
        action()
        return True


@dataclass(frozen=True)
class Callbacks:
    """Where a batch's events, output and remarks go; called from the main thread only."""

    event: Callable[[Event], None]
    output: Callable[[bytes], None]
    say: Callable[[str], None]
    unbooted: Callable[[Lost, list[Scenario]], None]
    """These scenarios have no guest, because it did not boot."""


class Worker(threading.Thread):
    """Works until nothing is left for it. ``error`` is what ended it otherwise."""

    def __init__(
        self, name: str, request: Request, hosts: Hosts, work: Work, mailbox: Mailbox, callbacks: Callbacks
    ) -> None:
        super().__init__(name=f"inject-{name or 'guest'}", daemon=True)
        self._title = f"{name}: " if name else ""
        self._request = request
        self._hosts = hosts
        self._work = work
        self._mailbox = mailbox
        self._callbacks = callbacks
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        """Guest after guest."""
        try:
            while True:
                kind = self._work.join()
                if kind is None:
                    return
                try:
                    going_on = self._one_host(kind)
                finally:
                    self._work.leave(kind)
                if not going_on:
                    return
        except BaseException as error:  # the main thread looks at it
            self.error = error

    def _post(self, action: Callable[[], None]) -> None:
        self._mailbox.post(action)

    def _say(self, line: str) -> None:
        self._post(partial(self._callbacks.say, f"{self._title}{line}"))

    # ------------------------------------------------------------ one host

    def _one_host(self, kind: Hashable) -> bool:
        """Open a host and run in it what there is; False when this worker is of no more use."""
        journal = Journal(lambda event: self._post(partial(self._callbacks.event, event)), self._request.seed)
        output = Output(OUTPUT, lambda data: self._post(partial(self._callbacks.output, data)))
        opened = False
        try:
            with self._hosts.open(kind, on_result=journal.take, say=self._say, tick=self._mailbox.check) as host:
                opened = True
                self._mailbox.booted.set()
                status = self._run(host, kind, journal, output)
        except Lost as lost:
            if not opened:
                return self._unbooted(kind, lost)
            if not journal.settled:  # each host settles at least one, so that the batch comes to an end
                journal.current = journal.current or self._work.take(kind)
            journal.blame(lost)
            self._next(lost.message)
            return True
        if status is None or journal.unusable:
            self._next(f"the guest is unfit for more ({journal.unusable or 'stuck'})")
        else:
            self._settle_rest(kind, journal, status, output.text())
        return True

    def _next(self, why: str) -> None:
        left = self._work.left()
        self._say(f"{why}; {left} more to run" if left else why)

    def _unbooted(self, kind: Hashable, lost: Lost) -> bool:
        """Give up what no host of this kind will run; False while other hosts of the kind are at work."""
        given_up = self._work.give_up(kind)
        if not given_up:
            self._say(f"{lost.message}; the other guests go on")
            return False
        self._post(partial(self._callbacks.unbooted, lost, given_up))
        return True

    def _settle_rest(self, kind: Hashable, journal: Journal, status: int, said: str) -> None:
        """After the end of `inject run`: what it was given and did not begin is for the next host.

        Unless it has settled nothing at all: then it is likely to do so again.
        """
        if journal.settled and journal.current is not None and not journal.armed:
            self._work.give_back(kind, journal.current)
            return
        if not journal.settled:
            journal.current = journal.current or self._work.take(kind)
        journal.unreported(status, said)

    def _run(self, host: Host, kind: Hashable, journal: Journal, output: Output) -> Optional[int]:
        """Run `inject run` on ``host``; its status, or None when the scenario under way was settled as a hang."""
        request = self._request
        env = host.carry([scenario.file for scenario in request.scenarios], request.cwd)
        argv = guest_argv(request, host.results)
        command = host.start(argv, env=env, cwd=str(request.cwd), on_stdout=output.feed, on_stderr=output.feed)
        asking = True
        while command.status is None:
            if asking and journal.current is None:
                asking = not journal.unusable and self._give_next(host, command, kind, journal)
            host.step()
            if command.error:
                raise InjectError(f"the guest could not start inject: {command.error}")
            if journal.moved.over():
                _stuck(host, journal)
                return None
        journal.moved = Patience(TRAILING)
        while not journal.ended and not journal.moved.over():
            host.step()
        host.keep()
        return command.status

    def _give_next(self, host: Host, command: Command, kind: Hashable, journal: Journal) -> bool:
        """Give the host its next scenario; without one close its input and return False."""
        scenario = self._work.take(kind)
        if scenario is None:
            host.end_input(command)
            journal.moved = Patience(SLACK)
            return False
        journal.give(scenario)
        host.feed(command, json.dumps([scenario.file, scenario.name]).encode() + b"\n")
        return True


def guest_argv(request: Request, results: str) -> list[str]:
    """The command that runs there what its standard input asks for."""
    words = ["python3", "-m", "inject", "run", "--ask", "--json", results]
    words.append("--stop-when-unusable")
    if request.seed is not None:
        words += ["--seed", str(request.seed)]
    return [*words, *request.arguments]


def _stuck(host: Host, journal: Journal) -> None:
    """Settle the unfinished scenario as a hang: the host lives but nothing moves."""
    why = f"nothing happened for {journal.moved.limit:g} s"
    host.show_blocked()
    shown = Patience(BLOCKED)
    while not shown.over():
        host.step()
    journal.blame(Lost(Ending.HUNG, why, console=host.console_tail(LOG_LINES)))
