"""`inject vm run`: many scenarios, as few guests as possible side by side, a verdict for each whatever dies.

Each guest journals what it does on its own port. When it is lost, the scenario
that was under way is given the verdict here, and a new guest runs the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

from inject import __version__
from inject.fleet import durations
from inject.fleet.host import Hosts, Lost
from inject.fleet.journal import verdict_of
from inject.fleet.queue import Work
from inject.fleet.worker import Callbacks, Mailbox, Request, Worker
from inject.model.event import Event, RunEnded, RunStarted
from inject.model.scenario import Scenario
from inject.model.verdict import Verdict
from inject.process.signals import ended_by_signals, signals_held

ENDING = 90.0
"""Seconds that workers get in all to end their guests."""


class Merged:
    """The events of several guests as those of one: one ``run``, which comes first."""

    def __init__(self, on_event: Callable[[Event], None], seed: int) -> None:
        self._on_event = on_event
        self._seed = seed
        self._begun = False
        self._held: list[Event] = []
        self.verdicts: list[Verdict] = []

    def take(self, event: Event) -> None:
        """One event of any guest."""
        if isinstance(event, Verdict):
            self.verdicts.append(event)
        if isinstance(event, RunStarted):
            self._begin(event)
        elif self._begun:
            self._on_event(event)
        else:
            self._held.append(event)  # verdicts on scenarios whose guests were lost at once

    def _begin(self, event: Event) -> None:
        if self._begun:
            return
        self._begun = True
        self._on_event(event)
        for held in self._held:
            self._on_event(held)
        self._held.clear()

    def finish(self, order: Sequence[Scenario]) -> list[Verdict]:
        """The last line; the verdicts in the order of the scenarios."""
        if not self._begun:  # no guest said of its kernel what the line has to say
            self._begin(RunStarted(__version__, kernel="", config_hash="", seed=self._seed, argv=()))
        place = {scenario.name: number for number, scenario in enumerate(order)}
        self.verdicts.sort(key=lambda verdict: place.get(verdict.scenario, len(place)))
        self._on_event(RunEnded.of(self.verdicts))
        return self.verdicts


def run_batch(
    request: Request,
    hosts: Hosts,
    *,
    cache: Path,
    on_event: Callable[[Event], None],
    on_output: Callable[[bytes], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    idle: Callable[[], None] = lambda: None,
    jobs: int = 1,
) -> list[Verdict]:
    """A verdict for each scenario, in the order given; at most ``jobs`` guests run at a time.

    ``on_event`` gets the events of product.md as they happen, as if one guest had
    run it all: one ``run``, one ``end``. ``on_output`` gets what `inject run`
    prints in the guests, ``say`` one line for each thing worth knowing; ``idle`` is
    called several times a second. Raises Lost when not even one guest boots,
    KeyboardInterrupt for SIGINT, SIGTERM, SIGHUP.
    """
    past = durations.file(cache, hosts.key)
    work = Work(request.scenarios, hosts.kind, durations.known(past), longest_first=jobs > 1)
    merged = Merged(on_event, request.seed or 0)
    unbooted: list[tuple[Lost, list[Scenario]]] = []
    callbacks = Callbacks(merged.take, on_output, say, lambda lost, scenarios: unbooted.append((lost, scenarios)))
    mailbox = Mailbox()
    several = min(jobs, len(request.scenarios)) > 1
    workers = [
        Worker(f"guest {number}" if several else "", request, hosts, work, mailbox, callbacks)
        for number in range(1, min(jobs, len(request.scenarios)) + 1)
    ]
    with ended_by_signals(), _working(workers, mailbox):
        working = True
        while working or mailbox.serve():  # what the last of them left is still to do
            working = any(worker.is_alive() for worker in workers)
            mailbox.serve()
            idle()
            _raise_error(workers)
        for lost, scenarios in unbooted:
            if not mailbox.booted.is_set():
                raise lost
            for scenario in scenarios:
                merged.take(verdict_of(scenario, lost, armed=False, seed=request.seed))
    verdicts = merged.finish(request.scenarios)
    durations.learn(past, verdicts)
    return verdicts


@contextlib.contextmanager
def _working(workers: Sequence[Worker], mailbox: Mailbox) -> Iterator[None]:
    """The workers at work; at the end, however it comes, they and their guests are gone.

    A worker never gets the signals that end us: the main thread has to hear them.
    """
    try:
        with signals_held():
            for worker in workers:
                worker.start()
        yield
    finally:
        with signals_held():
            mailbox.end()
            for worker in workers:
                worker.join(ENDING / len(workers))


def _raise_error(workers: Sequence[Worker]) -> None:
    for worker in workers:
        if worker.error is not None:
            raise worker.error
