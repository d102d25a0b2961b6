"""Which kind of probe a rule gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inject.engine.probes import wanted
from inject.engine.rule import Plan, Rule
from inject.model.point import ErrorType, FaultPoint
from inject.model.scenario import Probe
from inject.model.trigger import Trigger

POINT = FaultPoint("f", ErrorType.ERRNO_NULL, "", 0x1000, ("f",))
FAILS = Rule(POINT, (1,), ("-EIO",), False, (), "", Trigger(), 0, trampoline="f")
NULL = replace(FAILS, values=(0,), returned=("NULL",), trampoline="")
OTHER = replace(NULL, point=replace(POINT, function="g", address=0x2000))


def test_functions_without_an_address_stay_apart() -> None:
    """A kernel that hides its addresses shows all as 0."""
    hidden = [replace(rule, point=replace(rule.point, address=0)) for rule in (FAILS, OTHER)]
    hidden[1] = replace(hidden[1], point=replace(hidden[1].point, names=("g",)))
    assert [wanted(Plan(tuple(hidden)), slot, Probe.AUTO) for slot in (0, 1)] == [Probe.AUTO, Probe.KPROBE]


@pytest.mark.parametrize(
    ("rules", "kinds"),
    [
        ([FAILS, FAILS], [Probe.AUTO, Probe.AUTO]),
        ([FAILS, NULL], [Probe.KPROBE, Probe.KPROBE]),
        ([NULL, OTHER, FAILS], [Probe.KPROBE, Probe.KPROBE, Probe.KPROBE]),
        ([FAILS, OTHER], [Probe.AUTO, Probe.KPROBE]),
    ],
)
def test_one_function_has_one_kind_of_probe(rules: list[Rule], kinds: list[Probe]) -> None:
    """fmod_ret cannot return NULL, and a kprobe that overrides a call keeps it from fmod_ret on the same function."""
    plan = Plan(tuple(rules))
    assert [wanted(plan, slot, Probe.AUTO) for slot in range(len(rules))] == kinds
    for asked in (Probe.KPROBE, Probe.FMOD_RET):
        assert {wanted(plan, slot, asked) for slot in range(len(rules))} == {asked}
