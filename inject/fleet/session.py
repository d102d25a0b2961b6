"""One open host that is given one scenario after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Callable, Optional

from inject.errors import ExitStatus, InjectError
from inject.fixture.modules import named_by
from inject.fleet import request as requests
from inject.fleet.host import Command, Ending, Host, Lost, Patience
from inject.fleet.journal import LOG_LINES, SLACK, Journal
from inject.fleet.ledger import Start
from inject.fleet.request import Request
from inject.model.scenario import Scenario
from inject.process.capture import Output

TRAILING = 2.0
"""Seconds of silence after which an inject that has ended has reported everything."""

CLEANING = 60.0
"""Seconds that inject on a host which gets no more scenarios may take to end."""

TAKING = 120.0
"""Seconds in which inject on a host must take more of the lines that it waits for."""

BLOCKED = 3.0
"""Seconds for the kernel to print the stacks of blocked tasks."""


def begin(host: Host, files: Sequence[str], own: Sequence[Scenario], request: Request, output: Output) -> Command:
    """Start inject on ``host`` for the scenarios ``own`` of ``files``, and tell it what holds for all."""
    env = host.carry(files, request.cwd)
    argv = requests.argv(host.results, named_by(own))
    command = host.start(argv, env=env, cwd=str(request.cwd), on_stdout=output.feed, on_stderr=output.feed)
    send(host, command, request.line())
    send(host, command, requests.returns_line(own))
    return command


def send(host: Host, command: Command, data: bytes) -> None:
    """Send lines to ``command``, as fast as the host takes them. Raises InjectError if it takes no more.

    A command that has ended takes none, which is its caller's to see.
    """
    patience, rest = Patience(TAKING), memoryview(data)
    while rest and command.status is None and not command.error:
        size = min(command.credit, len(rest))
        if size:
            host.feed(command, bytes(rest[:size]))
            rest = rest[size:]
            patience.reset()
        elif patience.over():
            raise InjectError(f"inject in the guest took no input for {patience.limit:g} s")
        else:
            host.step()


class HostSession:
    """inject at work on ``host``; ``take`` gives the next scenario for it, None when there is none.

    A host on which inject waits already gets one scenario, and may be ended after its report.

    ``own`` are those that it may get, whose values its kernel must allow; None: all.
    """

    def __init__(
        self,
        host: Host,
        journal: Journal,
        take: Callable[[], Optional[Scenario]],
        own: Optional[Sequence[Scenario]] = None,
    ) -> None:
        self._host = host
        self._journal = journal
        self._take = take
        self._own = journal.ledger.scenarios if own is None else own
        journal.dropped = host.results_dropped

    def run(self, files: Sequence[str], output: Output) -> Optional[int]:
        """Run scenarios until none is left; inject's exit status, or None after a hang."""
        host, journal = self._host, self._journal
        forked = host.worker is not None
        command = host.worker or begin(host, files, self._own, journal.request, output)
        command.on_stdout = command.on_stderr = output.feed
        asking = True
        while command.status is None:
            if asking and journal.current is None:
                asking = self._give_next(command)
                if forked and not asking:
                    return ExitStatus.OK
            if forked and asking:
                host.end_input(command)
                asking = False
            host.step()
            if forked and journal.ended:
                return ExitStatus.OK
            if command.error:
                self._raise_refusal(command.error)
            if journal.untrusted:
                raise Lost(Ending.UNTRUSTED, journal.untrusted, console=host.console_tail())
            if why := journal.overdue():
                self._settle_hang(why)
                return None
        journal.moved = Patience(TRAILING)
        while not journal.ended and not journal.overdue():
            host.step()
        return command.status

    def _give_next(self, command: Command) -> bool:
        """Give the host its next scenario; without one, or if it is unusable, close its input and return False."""
        unusable = self._journal.unusable
        scenario = None if unusable else self._take()
        if scenario is None:
            self._host.end_input(command)
            self._journal.moved = Patience(CLEANING if unusable else SLACK)
            return False
        self._journal.ledger.place(scenario.name, Start.BOOT if self._host.worker is None else Start.FORK)
        self._journal.give(scenario)
        send(self._host, command, requests.scenario_line(scenario))
        return True

    def _raise_refusal(self, said: str) -> None:
        """Raise the error for a host that does not run inject: of no host, unless one ran it already."""
        if self._journal.settled or self._journal.armed:
            raise Lost(Ending.UNTRUSTED, f"its agent said of inject: {said}", console=self._host.console_tail())
        raise InjectError(f"the guest could not start inject: {said}")

    def _settle_hang(self, why: str) -> None:
        """Settle the unfinished scenario as a hang: the host lives but nothing moves.

        If lines of the host are missing, its verdict may be among them: then it is not a finding.
        """
        host, journal = self._host, self._journal
        if journal.current is None:
            return
        with contextlib.suppress(InjectError):  # a guest that hangs may not answer
            host.show_blocked()
        shown = Patience(BLOCKED)
        while not shown.over():
            host.step()
        console = host.console_tail(LOG_LINES)
        lost = Lost(Ending.HUNG, why, console=console, host_fault=journal.incomplete())
        lost.remains = host.remains()
        journal.blame(lost)
