"""One worker of a batch: opens a host, runs scenarios on it, and opens the next one if it is lost."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Callable, Optional

from inject.errors import ExitStatus
from inject.fleet.host import Hosts, Lost, Refused
from inject.fleet.journal import Journal
from inject.fleet.ledger import Ledger, Stage
from inject.fleet.mailbox import Mailbox
from inject.fleet.queue import Work
from inject.fleet.request import Request
from inject.fleet.session import HostSession
from inject.model.event import Event
from inject.model.scenario import Scenario
from inject.process.capture import Output

OUTPUT = 64 << 10
"""Bytes of what inject prints on a host that are kept."""


@dataclass(frozen=True)
class Callbacks:
    """Receivers of a batch's events, output and remarks; called from the main thread only."""

    event: Callable[[Event], None]
    output: Callable[[bytes], None]
    say: Callable[[str], None]
    unbooted: Callable[[Lost, list[Scenario]], None]
    """These scenarios have no host, because none opened."""


@dataclass(frozen=True)
class Batch:
    """Objects that all workers of a batch share."""

    ledger: Ledger
    request: Request
    hosts: Hosts
    work: Work
    mailbox: Mailbox
    callbacks: Callbacks


class Worker(threading.Thread):
    """Works until nothing is left for it. ``error`` is the exception that ended it earlier."""

    def __init__(self, name: str, batch: Batch) -> None:
        super().__init__(name=f"inject-{name or 'guest'}", daemon=True)
        self._title = f"{name}: " if name else ""
        self._batch = batch
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        """Use host after host."""
        work = self._batch.work
        try:
            while True:
                kind = work.join()
                if kind is None:
                    return
                try:
                    going_on = self._one_host(kind)
                finally:
                    work.leave(kind)
                if not going_on:
                    return
        except BaseException as error:  # the main thread raises it
            self.error = error

    def _post(self, action: Callable[[], None]) -> None:
        self._batch.mailbox.post(action)

    def _say(self, line: str) -> None:
        self._post(partial(self._batch.callbacks.say, f"{self._title}{line}"))

    def _one_host(self, kind: Hashable) -> bool:
        """Open a host and run there what is left; False when this worker is of no more use."""
        batch = self._batch
        take = partial(batch.work.take, kind)
        journal = Journal(batch.ledger, batch.request, lambda event: self._post(partial(batch.callbacks.event, event)))
        output = Output(OUTPUT, lambda data: self._post(partial(batch.callbacks.output, data)))
        own = batch.work.of(kind)
        files = [scenario.file for scenario in own]
        opened = False
        try:
            with batch.hosts.open(kind, on_result=journal.take, say=self._say, tick=batch.mailbox.check) as host:
                opened = True
                batch.mailbox.booted.set()
                status = HostSession(host, journal, take, own).run(files, output)
        except Lost as lost:
            if not opened:
                return self._unbooted(kind, lost)
            if not journal.settled:  # each host settles at least one, so that the batch comes to an end
                journal.current = journal.current or take()
            journal.blame(lost)
            self._next(lost.message)
        else:
            if status == ExitStatus.USAGE and not batch.ledger.names(Stage.SETTLED):
                raise Refused(output.text())
            if status is None or journal.unusable:
                self._next(f"the guest is unfit for more ({journal.unusable or 'stuck'})")
            else:
                self._settle_rest(journal, take, status, output.text())
        for note in journal.missing():
            self._say(note)
        return True

    def _next(self, why: str) -> None:
        left = len(self._batch.ledger.names(Stage.WAITING))
        self._say(f"{why}; {left} more to run" if left else why)

    def _unbooted(self, kind: Hashable, lost: Lost) -> bool:
        """Give up what no host of this kind will run; False while other hosts of the kind are at work."""
        given_up = self._batch.work.give_up(kind)
        if not given_up:
            self._say(f"{lost.message}; the other guests go on")
            return False
        self._post(partial(self._batch.callbacks.unbooted, lost, given_up))
        return True

    def _settle_rest(self, journal: Journal, take: Callable[[], Optional[Scenario]], status: int, said: str) -> None:
        """Give back what inject was given and did not begin before it ended.

        If it has settled nothing at all, the next host would fare no better: settle one as an error. One that was
        given nothing, because nothing waited then, says nothing of what waits now.
        """
        if journal.current is None and status == ExitStatus.OK:
            return
        if journal.settled and journal.current is not None and not journal.armed:
            self._batch.ledger.give_back(journal.current.name)
            return
        if not journal.settled:
            journal.current = journal.current or take()
        journal.unreported(status, said)
