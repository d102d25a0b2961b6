"""Which kind of probe a rule gets."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from inject.engine import probes as module
from inject.engine.probes import Probes, wanted
from inject.engine.rule import Plan, Rule
from inject.errors import CannotRun
from inject.model.point import ErrorType, FaultPoint
from inject.model.scenario import Probe
from inject.model.trigger import Trigger

POINT = FaultPoint("f", ErrorType.ERRNO_NULL, "", 0x1000, ("f",))
FAILS = Rule(POINT, (1,), ("-EIO",), False, (), "", Trigger(), 0, trampoline="f")
NULL = replace(FAILS, values=(0,), returned=("NULL",), trampoline="")
BOTH, ONE = (Probe.FMOD_RET, Probe.KPROBE), (Probe.KPROBE,)
OTHER = replace(NULL, point=replace(POINT, function="g", address=0x2000))


def test_functions_without_an_address_stay_apart() -> None:
    """A kernel that hides its addresses shows all as 0."""
    hidden = [replace(rule, point=replace(rule.point, address=0)) for rule in (FAILS, OTHER)]
    hidden[1] = replace(hidden[1], point=replace(hidden[1].point, names=("g",)))
    assert [wanted(Plan(tuple(hidden)), slot, Probe.AUTO) for slot in (0, 1)] == [BOTH, ONE]


@pytest.mark.parametrize(
    ("rules", "kinds"),
    [
        ([FAILS, FAILS], [BOTH, BOTH]),
        ([FAILS, NULL], [ONE, ONE]),
        ([NULL, OTHER, FAILS], [ONE, ONE, ONE]),
        ([FAILS, OTHER], [BOTH, ONE]),
    ],
)
def test_one_function_has_one_kind_of_probe(rules: list[Rule], kinds: list[tuple[Probe, ...]]) -> None:
    """fmod_ret cannot return NULL, and a kprobe that overrides a call keeps it from fmod_ret on the same function."""
    plan = Plan(tuple(rules))
    assert [wanted(plan, slot, Probe.AUTO) for slot in range(len(rules))] == kinds
    assert {wanted(plan, slot, Probe.KPROBE) for slot in range(len(rules))} == {ONE}


class FakeLink:
    """A probe in no kernel."""

    open = 0

    def __init__(self, *args: object) -> None:
        FakeLink.open += 1
        self._args = args

    def missed(self) -> int:
        """Ten times its program."""
        return 10 * max(arg for arg in self._args if isinstance(arg, int) and arg < 100)

    def close(self) -> None:
        """Detach it."""
        FakeLink.open -= 1


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> list[FaultPoint]:
    """Functions with another program's trampoline; what a test puts in."""
    for kind in ("KprobeLink", "TrampolineLink", "TracepointLink"):
        monkeypatch.setattr(module, kind, FakeLink)
    FakeLink.open = 0
    return []


def probes(beside: list[FaultPoint]) -> Probes:
    """Probes of a kernel in which the functions ``beside`` have another program's trampoline."""
    ftrace = SimpleNamespace(with_trampoline=lambda points: [point for point in points if point in beside])
    loader: Any = SimpleNamespace(load=lambda *_: 7)
    marks: Any = SimpleNamespace(serve=lambda rule, constants: constants, missed=lambda _: 0, close=lambda: None)
    return Probes(None, SimpleNamespace(ftrace=ftrace), loader, marks)  # type: ignore[arg-type]


def test_a_kprobe_is_refused_beside_a_trampoline(beside: list[FaultPoint]) -> None:
    """And whatever was attached before it is taken away; fmod_ret is part of that trampoline."""
    made, plan = probes(beside), Plan((FAILS, OTHER))
    keys: Any = {"watch": (), "errnos": True, "any_rule": False, "early": True}
    assert made.attach(plan, Probe.AUTO, **keys) == (Probe.FMOD_RET, Probe.KPROBE)
    assert made.bypassed() == [] and FakeLink.open == 3
    beside += [POINT, OTHER.point]
    assert made.bypassed() == [OTHER.point]
    made.detach()
    assert made.bypassed() == [] and FakeLink.open == 0
    with pytest.raises(CannotRun, match="another tracing program .* is attached to g"):
        made.attach(plan, Probe.AUTO, **keys)
    assert FakeLink.open == 0
    assert made.attach(Plan((FAILS,)), Probe.AUTO, **keys) == (Probe.FMOD_RET,)


def test_misses_are_asked_of_the_rules_own_program(beside: list[FaultPoint]) -> None:
    made = probes(beside)
    made.attach(Plan((FAILS,)), Probe.AUTO, (), errnos=True, any_rule=False, early=True)
    assert (made.missed(0), made.missed(1)) == (70, 0)
    made.detach()
    assert made.missed(0) == 0
