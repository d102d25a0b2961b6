"""The lease: how long the kernel goes on injecting without hearing from inject."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple, Optional

from inject.engine import abi
from inject.engine.maps import Maps
from inject.engine.own_processes import OwnProcesses


class Arming(NamedTuple):
    """Whose calls may fail, and how many."""

    cgroup: int
    """Id of the workload's cgroup ..."""
    level: int
    """... and its depth, the root being 0."""
    budget: int = 0
    """Most injections of all rules together; 0: no bound."""
    others: bool = False
    """True if some rule takes tasks outside the workload."""


class Lease:
    """``struct control``: armed until a deadline that the kernel checks and inject puts off. Thread-safe."""

    def __init__(self, maps: Maps, own: OwnProcesses) -> None:
        self._maps = maps
        self._own = own
        self._lock = threading.Lock()
        self._armed: Optional[Arming] = None
        self._deadline = 0
        self.lapsed = False
        """True if the deadline passed while armed, so that calls succeeded that should have failed."""

    def begin(self, arming: Arming, seconds: float) -> None:
        """Arm for ``seconds``."""
        with self._lock:
            self._armed = arming
            self.lapsed = False
            self._write(seconds)

    def extend(self, seconds: float) -> None:
        """Put the deadline off to ``seconds`` from now; after it has passed, only set ``lapsed``."""
        with self._lock:
            if self._armed is None or self.lapsed:
                return
            if self._passed():
                self.lapsed = True
                return
            self._write(seconds)

    def revive(self, seconds: float) -> None:
        """Put the deadline off even if it has passed, for a user who sees that it has."""
        with self._lock:
            if self._armed is not None:
                self.lapsed = False
                self._write(seconds)

    def end(self) -> None:
        """Disarm, by one write."""
        with self._lock:
            if self._armed is not None and self._passed():
                self.lapsed = True
            self._armed = None
            self._maps.write("control", bytes(4), offset=abi.ARMED)

    def _passed(self) -> bool:
        return _now() >= self._deadline

    def _write(self, seconds: float) -> None:
        assert self._armed is not None
        arming = self._armed
        self._deadline = _now() + int(seconds * 1e9)
        value = abi.CONTROL.pack(
            arming.cgroup, self._deadline, arming.budget, arming.level, *self._own, arming.others, True
        )
        self._maps.write("control", value[: abi.ARMED])
        self._maps.write("control", value[abi.ARMED :], offset=abi.ARMED)


def _now() -> int:
    """CLOCK_MONOTONIC in nanoseconds, which is what bpf_ktime_get_ns() reads."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
