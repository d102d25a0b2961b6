"""The scenarios of a batch, handed out one by one to whichever guest is free."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Optional

from inject.model.scenario import Scenario
from inject.vm.guest import Options

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
        self, scenarios: Sequence[Scenario], options: Options, seconds: Mapping[str, float], *, longest_first: bool
    ) -> None:
        self._lock = threading.Lock()
        known = [seconds[scenario.name] for scenario in scenarios if scenario.name in seconds]
        usual = sum(known) / len(known) if known else UNKNOWN
        self._seconds = {scenario.name: seconds.get(scenario.name, usual) for scenario in scenarios}
        self._left: dict[Options, list[Scenario]] = {}
        for scenario in scenarios:
            self._left.setdefault(wishes(scenario, options), []).append(scenario)
        if longest_first:
            for members in self._left.values():
                members.sort(key=lambda scenario: -self._seconds[scenario.name])
        self._guests = dict.fromkeys(self._left, 0)

    def join(self) -> Optional[Options]:
        """The kind of guest that one more worker had best boot, and count it; None when no more is of use.

        A kind that nobody works on comes first, then the one with most left for each of its guests.
        """
        with self._lock:
            wanted = [options for options, members in self._left.items() if members and self._pays(options)]
            if not wanted:
                return None
            best = max(wanted, key=lambda options: (not self._guests[options], self._share(options, 1)))
            self._guests[best] += 1
            return best

    def _share(self, options: Options, more: int = 0) -> float:
        """Seconds of work for each guest of a kind, with ``more`` guests than now."""
        total = sum(self._seconds[scenario.name] for scenario in self._left[options])
        return total / (self._guests[options] + more)

    def _pays(self, options: Options) -> bool:
        return not self._guests[options] or self._share(options) > START

    def leave(self, options: Options) -> None:
        """A guest of this kind is gone."""
        with self._lock:
            self._guests[options] -= 1

    def take(self, options: Options) -> Optional[Scenario]:
        """The next scenario for a guest of this kind, now that guest's to settle; None when there is none."""
        with self._lock:
            members = self._left[options]
            return members.pop(0) if members else None

    def give_back(self, options: Options, scenario: Scenario) -> None:
        """``scenario`` was taken but not begun: it is the next again."""
        with self._lock:
            self._left[options].insert(0, scenario)

    def give_up(self, options: Options) -> list[Scenario]:
        """No guest of this kind boots: what nobody will run now; [] while other guests of the kind are at work."""
        with self._lock:
            if self._guests[options] > 1:
                return []
            members, self._left[options] = self._left[options], []
            return members

    def left(self) -> int:
        """How many scenarios nobody has taken."""
        with self._lock:
            return sum(len(members) for members in self._left.values())


def wishes(scenario: Scenario, options: Options) -> Options:
    """``options`` with what the scenario wants of its guest."""
    wanted = scenario.vm
    return replace(options, cpus=wanted.cpus or options.cpus, memory=wanted.memory or options.memory)
