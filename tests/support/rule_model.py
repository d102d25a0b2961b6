"""The rule language once more, in the plainest Python: what fires for which matching call.

The BPF program (override.bpf.c, fires()) is held against this model, in a guest;
the model itself is held against the words of the scenario format, without one.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional, Union

from inject.engine.planner import rule_seed
from inject.engine.rule import Rule
from inject.model.scenario import ArgTest, Fault, Op, Returned, Scope, When
from inject.model.trigger import Trigger

U64 = (1 << 64) - 1


def scatter(x: int) -> int:
    """splitmix64's finaliser (Steele, Lea, Flood 2014), as in override.bpf.c."""
    x = (x + 0x9E3779B97F4A7C15) & U64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & U64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & U64
    return x ^ (x >> 31)


@dataclass(frozen=True)
class Selector:
    """The part of a rule that picks among matching calls; 0 says that a key is absent."""

    after: int = 0
    nth: int = 0
    every: int = 0
    times: int = 0
    chance: int = 0
    """Of 2**64."""
    seed: int = 0

    @staticmethod
    def of(rule: Rule) -> Selector:
        """That of a planned rule."""
        return _selector(rule.trigger, rule.seed)

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


def fired(selector: Selector, matches: int, budget: Optional[int] = None) -> tuple[int, ...]:
    """Which of the first ``matches`` matching calls fire, as ordinals from 1.

    ``budget`` bounds them once more, as the whole arming does; None or 0 is no bound.
    """
    chosen = [ordinal for ordinal in range(1, matches + 1) if selector.wants(ordinal)]
    if selector.times:
        chosen = chosen[: selector.times]
    return tuple(chosen[:budget] if budget else chosen)


def possible(selector: Selector, matches: int) -> frozenset[int]:
    """The ordinals that may fire when CPUs race: ``times`` then bounds how many, not which."""
    return frozenset(fired(replace(selector, times=0), matches))


# ---------------------------------------------------------------- whole calls


@dataclass(frozen=True)
class Call:
    """One call of a function as a rule sees it."""

    function: str
    args: Mapping[str, Union[int, str]] = field(default_factory=dict)
    """By the parameter's name: a number as C has it, or the text that a pointer leads to."""
    comm: str = ""
    inside: bool = True
    """Whether it is made by the workload's process tree."""
    path: tuple[str, ...] = ()
    """The callers, innermost first."""


def arg_holds(test: ArgTest, call: Call) -> bool:
    """One argument comparison; names of numbers are not known here."""
    found = call.args[test.path]
    if test.op is Op.GLOB:
        return isinstance(found, str) and fnmatch.fnmatchcase(found, str(test.value))
    assert isinstance(found, int) and isinstance(test.value, int)
    if test.mask is not None:
        assert isinstance(test.mask, int)
        found &= test.mask
    return {
        Op.IS: found == test.value,
        Op.NOT: found != test.value,
        Op.ABOVE: found > test.value,
        Op.BELOW: found < test.value,
    }[test.op]


def path_holds(stack: Sequence[str], path: Sequence[str]) -> bool:
    """Whether the entries lie on ``path`` in this order, with gaps, and those behind a ``!`` do not."""
    rest = iter(path)
    wanted = [entry for entry in stack if not entry.startswith("!")]
    forbidden = [entry[1:] for entry in stack if entry.startswith("!")]
    if any(fnmatch.fnmatchcase(name, entry) for name in path for entry in forbidden):
        return False
    return all(any(fnmatch.fnmatchcase(name, entry) for name in rest) for entry in wanted)


def matches(when: When, call: Call) -> bool:
    """Whether every condition of ``when`` holds, its trigger apart."""
    if not all(arg_holds(test, call) for test in when.args):
        return False
    if when.comm is not None and not fnmatch.fnmatchcase(call.comm, when.comm):
        return False
    return path_holds(when.stack, call.path)


@dataclass
class Tally:
    """Of one fault, as the report counts."""

    seen: int = 0
    matched: int = 0
    wanted: int = 0
    """Times that the trigger said yes, which is what `times` counts."""
    injected: int = 0
    fired: list[tuple[int, Returned]] = field(default_factory=list)
    """Ordinal and value of each injection."""


class Machine:
    """Every fault of one arming, and what each call gets.

    Faults of one function are asked in the scenario's order; a call that one of them
    fails is not seen by those after it.
    """

    def __init__(self, faults: Sequence[Fault], seed: int, budget: int = 0) -> None:
        self.faults = faults
        self.tallies = [Tally() for _ in faults]
        self.budget = budget
        self.asked = 0
        """Injections that only the budget could forbid."""
        self._selectors = [_selector(fault.when.trigger, rule_seed(seed, index)) for index, fault in enumerate(faults)]

    def call(self, call: Call) -> Optional[Returned]:
        """What the function returns in place of running, as written; None if it runs."""
        for index, fault in enumerate(self.faults):
            if fault.function == call.function:
                value = self._ask(index, fault, call)
                if value is not None:
                    return value
        return None

    def _ask(self, index: int, fault: Fault, call: Call) -> Optional[Returned]:
        tally, selector = self.tallies[index], self._selectors[index]
        if not call.inside and fault.scope is not Scope.ANY:
            return None
        tally.seen += 1
        if not matches(fault.when, call):
            return None
        tally.matched += 1
        if not selector.wants(tally.matched):
            return None
        tally.wanted += 1
        if selector.times and tally.wanted > selector.times:
            return None
        self.asked += 1
        if self.budget and self.asked > self.budget:
            return None
        value = fault.values[tally.injected % len(fault.values)]
        tally.injected += 1
        tally.fired.append((tally.matched, value))
        return value


def _selector(trigger: Trigger, seed: int) -> Selector:
    times = trigger.times if trigger.times is not None else (1 if trigger.nth else 0)
    chance = min(U64, int((trigger.probability or 0) * (1 << 64)))
    return Selector(trigger.after, trigger.nth or 0, trigger.every or 0, times, chance, seed)
