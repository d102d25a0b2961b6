"""The choice of the host that a worker opens next, and of the scenario that a host gets."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from typing import Callable, Optional

from inject.fleet.ledger import Ledger, Stage
from inject.model.scenario import Scenario

START = 10.0
"""Seconds of work that must be left to pay for one more host: its boot and the start of inject in it."""

UNKNOWN = 5.0
"""Seconds that a scenario is taken to need when no earlier run of any scenario is known."""


class Work:
    """The waiting scenarios of a ledger by the kind of host they ask for. Every method may be called from any thread.

    ``seconds`` is what scenarios took before, by name. With ``longest_first`` these
    come first, so that several hosts end at about the same time; otherwise they
    come in the order of the ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        kind_of: Callable[[Scenario], Hashable],
        seconds: Mapping[str, float],
        *,
        longest_first: bool,
    ) -> None:
        self._ledger = ledger
        self._kind_of = kind_of
        self._lock = threading.Lock()
        known = [seconds[scenario.name] for scenario in ledger.scenarios if scenario.name in seconds]
        self._usual = sum(known) / len(known) if known else UNKNOWN
        self._seconds = {scenario.name: seconds.get(scenario.name, self._usual) for scenario in ledger.scenarios}
        self._names: dict[Hashable, list[str]] = {}
        for scenario in ledger.scenarios:
            self._names.setdefault(kind_of(scenario), []).append(scenario.name)
        if longest_first:
            for names in self._names.values():
                names.sort(key=lambda name: -self._seconds[name])
        self._hosts = dict.fromkeys(self._names, 0)

    def join(self) -> Optional[Hashable]:
        """The kind of host that one more worker should open, which is counted; None when no more is of use.

        A kind without a host comes first, then the one with most work left for each of its hosts.
        """
        with self._lock:
            wanted = [kind for kind in self._names if self._left(kind) and self._pays(kind)]
            if not wanted:
                return None
            best = max(wanted, key=lambda kind: (not self._hosts[kind], self._share(kind, 1)))
            self._hosts[best] += 1
            return best

    def _left(self, kind: Hashable) -> list[str]:
        waiting = self._ledger.names(Stage.WAITING)
        for name in waiting:
            if name not in self._seconds:  # it was added meanwhile
                self._seconds[name] = self._usual
                self._names[self._kind_of(self._ledger.scenario(name))].append(name)
        still = set(waiting)
        return [name for name in self._names[kind] if name in still]

    def _share(self, kind: Hashable, more: int = 0) -> float:
        """Seconds of work for each host of a kind, with ``more`` hosts than now."""
        return sum(self._seconds[name] for name in self._left(kind)) / (self._hosts[kind] + more)

    def _pays(self, kind: Hashable) -> bool:
        return not self._hosts[kind] or self._share(kind) > START

    def of(self, kind: Hashable) -> list[Scenario]:
        """The scenarios of this kind, waiting or not, in the order of the batch."""
        with self._lock:
            names = set(self._names[kind])
            return [scenario for scenario in self._ledger.scenarios if scenario.name in names]

    def leave(self, kind: Hashable) -> None:
        """Note that a host of this kind is gone."""
        with self._lock:
            self._hosts[kind] -= 1

    def take(self, kind: Hashable) -> Optional[Scenario]:
        """Give the next scenario to a host of this kind; None when there is none."""
        with self._lock:
            for name in self._left(kind):
                if self._ledger.give(name):
                    return self._ledger.scenario(name)
            return None

    def give_up(self, kind: Hashable) -> list[Scenario]:
        """Take what waits for this kind, because no host opens; [] while other hosts of the kind are at work."""
        with self._lock:
            if self._hosts[kind] > 1:
                return []
            return [self._ledger.scenario(name) for name in self._left(kind) if self._ledger.give(name)]
