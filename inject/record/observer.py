"""Points that a trial reaches once its first call has failed: attached once, read after each trial."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from inject.engine.context import preempt_count
from inject.engine.engine import Engine
from inject.engine.recorder import RawPoint, Recorder, raw_point
from inject.errors import InjectError
from inject.model.reached import Point
from inject.model.scenario import Scenario
from inject.process.cgroup import Cgroup
from inject.record.families import Selection
from inject.record.options import MOST_NEW, ObserveOptions
from inject.record.points import points_of
from inject.record.survey import Survey
from inject.store import cache_root
from inject.trial.services import Services

LEAST_ROOM = 4096
"""Points of one trial that there is room for, at least; each takes 1 KB of the kernel's memory."""


class Observer:
    """Reports the points that trials reach after an injection and that are not known; each one once.

    The recorder is attached by the first attach() and stays; arm() and disarm() cost a write each. A stack
    trace that was looked at in this boot is compared by its addresses and not named again. Use as a
    context manager.
    """

    def __init__(self, services: Services, options: ObserveOptions) -> None:
        self._services = services
        self._options = options
        self._known = set(options.known)
        self._types = {(function, module): kind for function, module, kind in options.types}
        self._looked: set[bytes] = set()
        self._names: dict[int, str] = {}
        self._survey = Survey(services.kernel, services.types)
        self._recorder: Optional[Recorder] = None
        self._chosen = Selection()
        self._trouble = ""
        self._left: list[str] = []
        self._stale = False

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._recorder is not None:
            self._recorder.close()

    def attach(self, scenario: Scenario, engine: Engine) -> None:
        """Attach to the functions, disarmed, unless that was done. If it cannot be done, take() says why."""
        if self._recorder is not None or self._trouble:
            return
        with contextlib.ExitStack() as stack:
            try:
                record, families = self._options.record, self._survey.families
                self._chosen = families.choose(record.functions or families.default(scenario), record)
                recorder = stack.enter_context(
                    Recorder(
                        self._services.kernel,
                        self._chosen.functions,
                        preempt_count(self._services.types),
                        room=min(record.room, max(LEAST_ROOM, 4 * len(self._known))),
                        cache=cache_root() / "recorder",
                        janitor=self._services.janitor.pid,
                        gate=engine.fired,
                    )
                )
                recorder.attach()
                recorder.take()  # as the next lines: what a trial needs is read before, and once
                self._name(next(iter(self._chosen.functions)))
                families.read_ahead()
            except InjectError as error:
                self._trouble = str(error)
                return
            stack.pop_all()
            self._recorder = recorder

    def arm(self, group: Cgroup) -> None:
        """Record what tasks of ``group`` reach, from the first injection on."""
        if self._recorder is None:
            return
        if self._stale:
            self._recorder.take()  # of a trial that did not end
        self._stale = True
        self._recorder.arm(group.id, group.level)

    def disarm(self) -> None:
        """Stop recording; any thread may call it."""
        if self._recorder is not None:
            self._recorder.disarm()

    def take(self) -> tuple[Sequence[Point], Sequence[str]]:
        """The points of the trial that were not known before, and notes on what was lost."""
        if self._recorder is None:
            return (), [f"points are not observed: {self._trouble}"] if self._trouble else []
        self._stale = False
        entries = [(key, value) for key, value in self._recorder.take() if key not in self._looked]
        self._looked.update(key for key, _ in entries)
        raw = [raw_point(key, value) for key, value in entries]
        named = [point for point in points_of(raw, self._chosen.functions, self._name) if point.id not in self._known]
        reported = named[:MOST_NEW]
        self._known.update(point.id for point in reported)
        notes = []
        if len(named) > MOST_NEW:
            notes.append(f"{len(named) - MOST_NEW} of {len(named)} new points are not reported")
        losses = self._recorder.losses()
        lost = losses.full + losses.untraced + losses.unknown
        if lost:
            notes.append(f"{lost} calls after the injection are in no point: no room, or no stack trace")
        self._learn(raw, reported)
        return [replace(one, first=0, error_type=self._types[one.function, one.module]) for one in reported], notes

    def _learn(self, raw: Sequence[RawPoint], points: Sequence[Point]) -> None:
        """Find out what a failed call of each function returns."""
        lacking = {(point.function, point.module) for point in points} - set(self._types)
        for address in {one.function for one in raw}:
            symbol = self._chosen.functions[address]
            if (symbol.name, symbol.module) in lacking:
                self._types[symbol.name, symbol.module] = self._survey.families.failure(symbol)

    def _name(self, address: int) -> str:
        found = self._names.get(address)
        if found is None:
            self._names[address] = found = self._survey.symbols.frame(address)
        return found
