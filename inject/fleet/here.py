"""A batch on this machine's own kernel, one scenario after the other: no host is between inject and the kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Callable

from inject.campaign.record import record_all
from inject.campaign.run import run_all, run_started
from inject.errors import InjectError
from inject.fleet.ledger import Ledger, Stage
from inject.fleet.request import Request
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import Event, PointReached, RunEnded
from inject.model.scenario import Scenario
from inject.model.verdict import Verdict
from inject.record.observer import Observer
from inject.trial.preflight import require_injection
from inject.trial.services import RunOptions, Services, open_services


class Here:
    """Runs batches on ``kernel``, up to a trial after which it must not run more: then ``unusable`` says why.

    ``need`` loads inject's module for functions that need it, if it may be loaded.
    """

    def __init__(self, kernel: Kernel, types: Types, need: Callable[[Iterable[str]], None]) -> None:
        self._kernel = kernel
        self._types = types
        self._need = need
        self.unusable = ""

    def run(self, ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        """Settle the scenarios of ``ledger`` in its order; the verdicts of those that ended.

        Raises CannotRun, with the fix, if this machine cannot do what ``request`` asks, and InjectError if its kernel
        must not run more.
        """
        if self.unusable:
            raise InjectError(f"this kernel must not run more trials: {self.unusable}", "reboot, then use --resume")

        def take(event: Event) -> None:
            if isinstance(event, PointReached) and request.record is None:
                ledger.reach(event)
            on_event(event)

        take(run_started(self._kernel, request.seed, ()))
        with open_services(self._kernel, take, lambda _: None, types=self._types, need=self._need) as services:
            self._work(ledger, request, services)
        verdicts = ledger.verdicts()
        take(RunEnded.of(verdicts))
        return verdicts

    def _work(self, ledger: Ledger, request: Request, services: Services) -> None:
        def end(verdict: Verdict) -> None:
            self.unusable = self.unusable or verdict.unusable
            ledger.settle(verdict)

        if request.record is not None:
            record_all(_given(ledger), services, request.record, end=end, stop_when_unusable=True)
            return
        require_injection(self._kernel)
        options = RunOptions(
            request.seed,
            any_allowed=self._kernel.is_guest(),
            probe=request.probe,
            trace=request.trace,
            reproduce=request.reproduce,
        )
        with contextlib.ExitStack() as stack:
            if request.observe is not None:
                services = replace(services, observer=stack.enter_context(Observer(services, request.observe)))
            run_all(
                _given(ledger), services, options, begin=lambda _n, _scenario: None, end=end, stop_when_unusable=True
            )


def _given(ledger: Ledger) -> Iterator[Scenario]:
    """What waits in ``ledger``, each given when the one before has its verdict."""
    while waiting := ledger.names(Stage.WAITING):
        if ledger.give(waiting[0]):
            yield ledger.scenario(waiting[0])
