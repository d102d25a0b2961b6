"""The scenarios of a batch, handed out one by one to whichever guest is free."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import Callable, Optional

from inject.model.scenario import Scenario

START = 10.0
"""Seconds of work that must be left to pay for one more guest: its boot and the start of the tool in it."""

UNKNOWN = 5.0
"""Seconds that a scenario takes of which nothing is known, where nothing is known of any."""


class Work:
    """What is left to run, by the guest it wants. Every method may be called from any thread.

    ``seconds`` is what scenarios took before, by name. With ``longest_first`` these
    come first, so that several guests end at about the same time; otherwise they
    come in the order given.
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        kind_of: Callable[[Scenario], Hashable],
        seconds: Mapping[str, float],
        *,
        longest_first: bool,
    ) -> None:
        self._lock = threading.Lock()
        known = [seconds[scenario.name] for scenario in scenarios if scenario.name in seconds]
        usual = sum(known) / len(known) if known else UNKNOWN
        self._seconds = {scenario.name: seconds.get(scenario.name, usual) for scenario in scenarios}
        self._left: dict[Hashable, list[Scenario]] = {}
        for scenario in scenarios:
            self._left.setdefault(kind_of(scenario), []).append(scenario)
        if longest_first:
            for members in self._left.values():
                members.sort(key=lambda scenario: -self._seconds[scenario.name])
        self._guests = dict.fromkeys(self._left, 0)

    def join(self) -> Optional[Hashable]:
        """The kind of guest that one more worker had best boot, and count it; None when no more is of use.

        A kind that nobody works on comes first, then the one with most left for each of its guests.
        """
        with self._lock:
            wanted = [kind for kind, members in self._left.items() if members and self._pays(kind)]
            if not wanted:
                return None
            best = max(wanted, key=lambda kind: (not self._guests[kind], self._share(kind, 1)))
            self._guests[best] += 1
            return best

    def _share(self, kind: Hashable, more: int = 0) -> float:
        """Seconds of work for each guest of a kind, with ``more`` guests than now."""
        total = sum(self._seconds[scenario.name] for scenario in self._left[kind])
        return total / (self._guests[kind] + more)

    def _pays(self, kind: Hashable) -> bool:
        return not self._guests[kind] or self._share(kind) > START

    def leave(self, kind: Hashable) -> None:
        """A guest of this kind is gone."""
        with self._lock:
            self._guests[kind] -= 1

    def take(self, kind: Hashable) -> Optional[Scenario]:
        """The next scenario for a guest of this kind, now that guest's to settle; None when there is none."""
        with self._lock:
            members = self._left[kind]
            return members.pop(0) if members else None

    def give_back(self, kind: Hashable, scenario: Scenario) -> None:
        """``scenario`` was taken but not begun: it is the next again."""
        with self._lock:
            self._left[kind].insert(0, scenario)

    def give_up(self, kind: Hashable) -> list[Scenario]:
        """No guest of this kind boots: what nobody will run now; [] while other guests of the kind are at work."""
        with self._lock:
            if self._guests[kind] > 1:
                return []
            members, self._left[kind] = self._left[kind], []
            return members

    def left(self) -> int:
        """How many scenarios nobody has taken."""
        with self._lock:
            return sum(len(members) for members in self._left.values())
