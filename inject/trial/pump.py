"""Threads while a trial is armed: they empty the kernel's buffer, pass injections on and extend the deadline."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Callable, Optional

from inject.engine.engine import Engine
from inject.engine.return_trace import Trail
from inject.model.event import Injection

POLL = 50
"""Milliseconds that one wait for an injection event takes at most."""

PAUSE = 0.005
"""Seconds between two looks into the kernel's buffer, so that one look finds many: at 100,000 injections a
second 500, of the 12,000 that it holds."""

PASSING = 10.0
"""Seconds after the workload's end in which injections are passed on. A loop in the kernel that meets its fault again
and again leaves 250,000, of which each takes a guest a millisecond."""

LEASE = 10.0
"""Seconds until the kernel ends injection by itself, unless inject extends the deadline."""

RENEWAL = 1.0
"""Seconds between two extensions of the deadline."""


class Ticker(threading.Thread):
    """Calls ``act`` every ``period`` seconds while something else runs."""

    def __init__(self, name: str, period: float, act: Callable[[], object]) -> None:
        super().__init__(name=f"inject-{name}", daemon=True)
        self._period = period
        self.act = act
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Act until stop() is called."""
        while not self._stop_asked.wait(self._period):
            self.act()

    def stop(self) -> None:
        """End the thread."""
        _end(self, self._stop_asked)


def collector(engine: Engine) -> Ticker:
    """A thread that keeps room in the kernel's buffer, however long passing injections on takes."""
    return Ticker("collect", PAUSE, partial(engine.collect, POLL))


class LeaseKeeper(Ticker):
    """A thread that extends the kernel's deadline to LEASE seconds after the last :meth:`beat`.

    The thread that waits for the workload beats. If it hangs, because the reader of inject's
    output does not read, or if all of inject is stopped, injection ends.
    """

    def __init__(self, extend: Callable[[float], object], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("lease", RENEWAL, self._renew)
        self._extend = extend
        self._clock = clock
        self._beaten = clock()

    def beat(self) -> None:
        """The wait for the workload goes on."""
        self._beaten = self._clock()

    def _renew(self) -> None:
        left = self._beaten + LEASE - self._clock()
        if left > 0:
            self._extend(left)


class Pump(threading.Thread):
    """Passes injections and their trails on while the workload runs, and for ``seconds`` after it."""

    def __init__(
        self,
        engine: Engine,
        take: Callable[[Injection], None],
        take_trail: Callable[[Trail], None],
        seconds: float = PASSING,
    ) -> None:
        super().__init__(name="inject-events", daemon=True)
        self._engine = engine
        self._collector = collector(engine)
        self._take = take
        self._take_trail = take_trail
        self._seconds = seconds
        self._ripe: list[Trail] = []
        self._stop_asked = threading.Event()
        self._error: Optional[BaseException] = None

    def run(self) -> None:
        """Pass on until stop() is called."""
        self._collector.start()
        try:
            while not self._stop_asked.wait(POLL / 1000):
                self._pass_on(self._stop_asked.is_set)
        except BaseException as error:  # stop() raises it
            self._error = error

    def _pass_on(self, enough: Callable[[], bool]) -> None:
        self._ripe += self._engine.trails()  # the injections of these are there already
        while not enough():
            fired = self._engine.take(1)
            if not fired:
                break
            self._take(fired[0])
        else:
            return
        for trail in self._ripe:
            self._take_trail(trail)
        self._ripe.clear()

    def stop(self) -> None:
        """End the thread and pass on what is left, as long as there is time; raises what went wrong in it."""
        _end(self, self._stop_asked)
        self._collector.stop()
        if self._error is not None:
            raise self._error
        self._engine.collect(0)
        deadline = time.monotonic() + self._seconds
        self._pass_on(lambda: time.monotonic() > deadline)
        rest = self._ripe + self._engine.trails(rest=True)
        passed = 0
        while passed < len(rest) and time.monotonic() <= deadline:
            self._take_trail(rest[passed])
            passed += 1
        self._engine.abandon(len(rest) - passed)


def _end(thread: threading.Thread, asked: threading.Event) -> None:
    """Ask a thread to end, and wait a minute at most; nothing if it was never started."""
    asked.set()
    if thread.ident is not None:
        thread.join(60)
