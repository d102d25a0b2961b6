"""The rule language once more, in the plainest Python: what fires for which matching call.

The BPF program (override.bpf.c, fires()) is held against this model, in a guest;
the model itself is held against the words of the scenario format, without one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from inject.plan import Rule

U64 = (1 << 64) - 1


def scatter(x: int) -> int:
    """splitmix64's finaliser (Steele, Lea, Flood 2014), as in override.bpf.c."""
    x = (x + 0x9E3779B97F4A7C15) & U64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & U64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & U64
    return x ^ (x >> 31)


@dataclass(frozen=True)
class Trigger:
    """The part of a rule that picks among matching calls; 0 says that a key is absent."""

    after: int = 0
    nth: int = 0
    every: int = 0
    times: int = 0
    chance: int = 0
    """Of 2**64."""
    seed: int = 0

    @staticmethod
    def of(rule: Rule) -> Trigger:
        """The trigger of a planned rule."""
        return Trigger(rule.after, rule.nth, rule.every, rule.times, rule.chance, rule.seed)

    def wants(self, ordinal: int) -> bool:
        """Whether the match of that ordinal, from 1, fires as far as ``times`` lets it."""
        number = ordinal - self.after
        if number < 1:
            return False
        if self.nth and number != self.nth:
            return False
        if self.every and number % self.every:
            return False
        return not self.chance or scatter(self.seed ^ scatter(ordinal)) < self.chance


def fired(trigger: Trigger, matches: int, budget: Optional[int] = None) -> tuple[int, ...]:
    """Which of the first ``matches`` matching calls fire, as ordinals from 1.

    ``budget`` bounds them once more, as the whole arming does; None or 0 is no bound.
    """
    chosen = [ordinal for ordinal in range(1, matches + 1) if trigger.wants(ordinal)]
    if trigger.times:
        chosen = chosen[: trigger.times]
    return tuple(chosen[:budget] if budget else chosen)


def possible(trigger: Trigger, matches: int) -> frozenset[int]:
    """The ordinals that may fire when CPUs race: ``times`` then bounds how many, not which."""
    return frozenset(fired(replace(trigger, times=0), matches))
