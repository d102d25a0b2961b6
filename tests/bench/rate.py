"""Whether the events of 100,000 injections a second all arrive."""

from __future__ import annotations

import os
from collections.abc import Callable

from inject.engine.engine import Engine
from inject.model.event import Injected, Injection
from inject.report import jsonl
from inject.trial.pump import Pump
from tests.bench.loop import Caller

LIMIT = 600.0
"""Seconds in which all must have arrived."""
RATE = 100_000
"""Injections a second, on a processor that does 1,000,000,000 instructions a second."""


def report(tell: Callable[..., None], engine: Engine, caller: Caller, number: int, injections: int) -> None:
    """With the one processor shared by the calls, the collecting and the report as JSON lines; armed already."""
    told = [0]
    with jsonl.JsonLines(os.devnull) as lines:

        def take(injection: Injection) -> None:
            lines.write(Injected("bench", 0, injection))
            told[0] += 1

        pump = Pump(engine, take, lambda _: None, LIMIT)
        pump.start()
        caller.start_paced(injections, number, 0o22, 10**9 // RATE)
        late = caller.late()
        engine.disarm()
        meanwhile = told[0]
        pump.stop()
    (counts,) = engine.counts()
    tell(
        "rate",
        rate=RATE,
        injected=counts.injected,
        lost=counts.lost,
        told=told[0],
        told_while_armed=meanwhile,
        late=late,
    )
