"""A batch of scenarios on as few hosts as possible, side by side: a verdict for each, even if its host dies.

Each host journals what it does in its own file. When one is lost, the scenario under
way gets its verdict here, and a new host runs the rest.
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
from inject.fleet.ledger import Ledger
from inject.fleet.mailbox import Mailbox
from inject.fleet.queue import Work
from inject.fleet.request import Request
from inject.fleet.worker import Batch, Callbacks, Worker
from inject.model.event import Event, RunEnded, RunStarted
from inject.model.scenario import Scenario
from inject.model.verdict import Verdict
from inject.process.signals import signals_held

ENDING = 90.0
"""Seconds that workers get in all to end their hosts."""


class Merged:
    """The events of several hosts as those of one: one RunStarted, which comes first."""

    def __init__(self, on_event: Callable[[Event], None], seed: int) -> None:
        self._on_event = on_event
        self._seed = seed
        self._begun = False
        self._held: list[Event] = []

    def take(self, event: Event) -> None:
        """Pass on one event of any host, or hold it until the first host has started."""
        if isinstance(event, RunStarted):
            self._begin(event)
        elif self._begun:
            self._on_event(event)
        else:
            self._held.append(event)  # verdicts on scenarios whose hosts were lost at once

    def _begin(self, event: Event) -> None:
        if self._begun:
            return
        self._begun = True
        self._on_event(event)
        for held in self._held:
            self._on_event(held)
        self._held.clear()

    def finish(self, verdicts: Sequence[Verdict]) -> None:
        """Pass on the last event."""
        if not self._begun:  # no host lived long enough to name its kernel
            self._begin(RunStarted(__version__, kernel="", config_hash="", seed=self._seed, argv=()))
        self._on_event(RunEnded.of(verdicts))


def run_batch(
    ledger: Ledger,
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
    """Settle every scenario of ``ledger``, on at most ``jobs`` hosts at a time; the verdicts in its order.

    ``on_event`` gets the events as they happen, as if one host had run everything.
    ``on_output`` gets what inject prints on the hosts, ``say`` one line for each remark;
    ``idle`` is called several times a second. Raises Lost when no host opens at all.
    """
    past = durations.file(cache, hosts.key)
    merged = Merged(on_event, request.seed)
    unbooted: list[tuple[Lost, list[Scenario]]] = []
    batch = Batch(
        ledger,
        request,
        hosts,
        Work(ledger, hosts.kind, durations.known(past), longest_first=jobs > 1),
        Mailbox(),
        Callbacks(merged.take, on_output, say, lambda lost, scenarios: unbooted.append((lost, scenarios))),
    )
    count = min(jobs, len(ledger.scenarios))
    workers = [Worker(f"guest {number}" if count > 1 else "", batch) for number in range(1, count + 1)]
    with _working(workers, batch.mailbox):
        working = True
        while working or batch.mailbox.serve():  # what the last of them left is still to do
            working = any(worker.is_alive() for worker in workers)
            batch.mailbox.serve()
            idle()
            _raise_error(workers)
        for lost, scenarios in unbooted:
            if not batch.mailbox.booted.is_set():
                raise lost
            for scenario in scenarios:
                verdict = verdict_of(scenario, lost, armed=False, request=request)
                ledger.settle(verdict)
                merged.take(verdict)
    verdicts = ledger.verdicts()
    merged.finish(verdicts)
    durations.learn(past, verdicts)
    return verdicts


@contextlib.contextmanager
def _working(workers: Sequence[Worker], mailbox: Mailbox) -> Iterator[None]:
    """The workers at work; when the context is left, they and their hosts have ended.

    Workers never get the signals that end inject: the main thread must get them.
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
