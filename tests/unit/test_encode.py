"""Rules as the bytes that the program reads."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject.engine import abi, encode
from inject.engine import planner as module
from inject.engine.encode import comparison, render, uses
from inject.engine.globs import compile_glob
from inject.engine.planner import Planner, rule_seed
from inject.engine.rule import U64, PerCpu, Plan, Test
from inject.errors import InjectError
from inject.kernel.access import Access
from inject.kernel.types import Types
from inject.model.nofail import NoFail
from inject.model.scenario import ArgTest, Op, Scope, When
from inject.model.trigger import Trigger
from tests.support.fake_kernel import build
from tests.support.planning import fault, planner_at, resolved
from tests.support.raw_btf import SIGNED, kernel_types

CONTRACTS = (
    NoFail("open_ctree", "why", "where", "flags", "BCH_DISK_RESERVATION_NOFAIL"),
    NoFail("open_ctree", "why", "where", below="xfs_mount"),
)


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    return planner_at(tmp_path_factory.mktemp("kernel"))


def members(layout: abi.Layout, raw: bytes) -> SimpleNamespace:
    """``raw`` by the names of its struct; arrays are lists."""
    values = list(layout.unpack(raw))
    found: dict[str, Any] = {}
    for name, letters in layout.fields.items():
        count = int(letters[:-1] or 1) if letters[-1] != "s" else 1
        taken, values = values[:count], values[count:]
        found[name] = taken if count > 1 else taken[0]
    return SimpleNamespace(**found)


def as_rule(raw: bytes) -> SimpleNamespace:
    """``struct rule``, its tests as structs."""
    rule = members(abi.RULE, raw)
    size = abi.TEST.size
    rule.test = [members(abi.TEST, rule.test[at : at + size]) for at in range(0, abi.TESTS * size, size)]
    rule.device = members(abi.TEST, rule.device)
    return rule


def test_the_plainest_rule(planner: Planner) -> None:
    (data,) = render(Plan((planner.rule(fault(), 0),))).rules
    found = as_rule(data)
    assert list(found.value) == [-12 & U64] + [0] * 7
    assert (found.values, found.any, found.writeback, found.tests, found.comm, found.path) == (1, 0, 0, 0, 0, 0)
    assert (found.forbidden, found.after, found.nth, found.every, found.times, found.chance) == (0,) * 6
    assert found.seed == rule_seed(7, 0)


def test_a_rule_with_everything(planner: Planner) -> None:
    when = When(
        args=(ArgTest("bio.bi_iter.bi_size", Op.ABOVE, 4096), ArgTest("class", Op.GLOB, "meta:*")),
        stack=("bch2_*", "!xfs_mount"),
        comm="fio*",
        device="$DEV",
        trigger=Trigger(after=1, every=3, probability=0.25, times=5),
    )
    made = fault(value=("-EIO", "-BCH_ERR_ENOSPC_disk_reservation"), when=when, scope=Scope.WRITEBACK)
    rule = planner.rule(made, 3)
    image = render(Plan((rule,), (0x2A,)))
    found = as_rule(image.rules[0])
    assert list(found.value) == [-5 & U64, -2160 & U64] + [0] * 6
    assert (found.values, found.any, found.writeback, found.tests) == (2, 0, 44, 3)
    assert (found.after, found.nth, found.every, found.times) == (1, 0, 3, 5)
    assert (found.chance, found.seed) == (1 << 62, rule_seed(7, 3))
    assert (found.path, found.forbidden) == (1, 1 << 33)
    assert image.globs == (compile_glob("meta:*"), compile_glob("fio*"))
    assert found.comm == 2
    size, name, device = found.test[:3]
    assert (size.op, size.arg, size.loads, size.last, list(size.offset)) == (2, 0, 1, 4, [24, 0, 0, 0, 0])
    assert (size.is_signed, size.left, size.right, size.mask, size.value) == (0, 32, 32, U64, 4096)
    assert (name.op, name.arg, name.loads, name.glob) == (4, 2, 0, 0)
    assert (device.op, device.value, device.mask, list(device.offset)[:2]) == (0, 0x800010, 0xFFFFFFFF, [8, 8])
    assert found.test[3] == members(abi.TEST, bytes(abi.TEST.size))
    assert (found.device.arg, found.device.loads, list(found.device.offset)[:2]) == (0, 2, [8, 8])
    assert image.devices == ((0x2A).to_bytes(4, "little"),)


@pytest.mark.parametrize(
    ("when", "more", "used"),
    [
        (When(), {}, 0),
        (When(args=(ArgTest("class", Op.GLOB, "meta:*"),)), {}, 1 | 1 << 16),
        (When(args=(ArgTest("bio.bi_iter.bi_size", Op.ABOVE, 4096),), comm="fio*"), {}, 1 | 1 << 8 | 1 << 17),
        (When(stack=("bch2_*",)), {}, 1 << 18 | 2 << 24),
        (When(stack=("!xfs_mount", "twin")), {}, 1 << 18 | 3 << 24),
        (When(device="$DEV"), {}, 1 | 2 << 8),
        (When(), {"scope": Scope.WRITEBACK}, 2 << 8 | 1 << 19),
    ],
)
def test_the_program_is_told_what_a_rule_uses(planner: Planner, when: When, more: Any, used: int) -> None:
    """What it is not told of is not in the program that runs: a bit too few, and a condition is never looked at."""
    assert uses(planner.rule(fault(when=when, **more), 0)) == used


@pytest.mark.parametrize("hot", [True, False])
def test_a_rule_for_tasks_looks_for_interrupts(tmp_path: Path, hot: bool) -> None:
    """In the per-CPU variable that this kernel has; a rule for any task takes interrupts as well."""
    kernel = build(tmp_path)
    blob = kernel_types()
    count = blob.integer("int", 4, SIGNED)
    if hot:
        inner = blob.structure("", 16, [("current_task", blob.to(0), 0), ("preempt_count", count, 64)])
        variable = blob.variable("pcpu_hot", blob.structure("pcpu_hot", 64, [("", inner, 0)]))
    else:
        variable = blob.variable("__preempt_count", count)
    blob.write(tmp_path)
    planner = Planner(kernel, Types(kernel), 7)
    rule = planner.rule(fault(), 0)
    assert rule.context == PerCpu(variable, 8 if hot else 0)
    assert uses(rule) == abi.USES_CONTEXT
    assert uses(planner.rule(fault(scope=Scope.ANY), 0)) == 0


def test_a_contract_spares(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an argument or by a frame: what it keeps from failing is counted as spared."""
    monkeypatch.setattr(module, "nofail_of", lambda _: CONTRACTS)
    found = as_rule(render(Plan((planner.rule(fault(), 0),))).rules[0])
    assert (found.test[0].spares, found.sparing, found.forbidden) == (1, 1 << 32, 1 << 32)


def test_equal_globs_are_kept_once_for_all_rules(planner: Planner) -> None:
    rules = tuple(planner.rule(fault(when=When(comm=comm)), i) for i, comm in enumerate(("a*", "b*", "a*")))
    image = render(Plan(rules))
    assert len(image.globs) == 2
    assert [as_rule(data).comm for data in image.rules] == [1, 2, 1]


@pytest.mark.parametrize(
    ("trigger", "times"),
    [
        (Trigger(), 0),
        (Trigger(nth=3), 1),
        (Trigger(nth=3, times=4), 4),
        (Trigger(every=2), 0),
        (Trigger(times=9), 9),
    ],
)
def test_nth_fires_once_unless_told_otherwise(planner: Planner, trigger: Trigger, times: int) -> None:
    (data,) = render(Plan((planner.rule(fault(when=When(trigger=trigger)), 0),))).rules
    assert as_rule(data).times == times


@pytest.mark.parametrize(("given_", "chance"), [(None, 0), (0.5, 1 << 63), (1.0, U64), (2**-64, 1)])
def test_chance(planner: Planner, given_: Optional[float], chance: int) -> None:
    trigger = Trigger(probability=given_)
    (data,) = render(Plan((planner.rule(fault(when=When(trigger=trigger)), 0),))).rules
    assert as_rule(data).chance == chance


# ---------------------------------------------------------------- comparisons


def evaluate(test: Test, registers: Mapping[int, int], memory: Mapping[int, bytes]) -> bool:
    """holds() of the program, on the bytes that it gets."""
    found = members(abi.TEST, comparison(test, {}))
    value = registers[found.arg]
    for i in range(found.loads):
        size = found.last if i + 1 == found.loads else 8
        at = value + found.offset[i]
        base = max(start for start in memory if start <= at)
        value = int.from_bytes(memory[base][at - base :][:size], "little")
    value = value << found.left & U64
    if found.is_signed:
        value = (value - (1 << 64) if value >> 63 else value) >> found.right & U64
    else:
        value >>= found.right
    value &= found.mask
    wanted = found.value
    if found.is_signed and found.op in (2, 3):
        value, wanted = (number - (1 << 64) if number >> 63 else number for number in (value, wanted))
    return {0: value == wanted, 1: value != wanted, 2: value > wanted, 3: value < wanted}[found.op]


FIELDS = {
    ("open_ctree", "flags"): (32, False),
    ("open_ctree", "count"): (64, True),
    ("open_ctree", "bio.bi_iter.bi_size"): (32, False),
    ("open_ctree", "bio.bi_iter.bi_idx"): (32, True),
    ("bch2_alloc", "pos.offset"): (64, False),
    ("bch2_alloc", "odd.cell"): (64, False),
    ("bch2_alloc", "bits.low"): (3, False),
    ("bch2_alloc", "bits.high"): (7, True),
    ("bch2_alloc", "bits.across"): (8, False),
    ("bch2_alloc", "bits.late"): (20, False),
}
"""What a test reads of a call: the number of bits, and whether they are signed."""


def call_with(access: Access, value: int) -> tuple[dict[int, int], dict[int, bytes]]:
    """Registers and memory of a call in which ``access`` finds ``value``, and noise around it."""
    noise = random.Random(value)
    field = ((1 << access.bits) - 1) << access.shift
    placed = value << access.shift & field
    if not access.offsets:
        return {access.argument: noise.getrandbits(64) & ~field | placed}, {0: b""}
    content = bytearray(noise.getrandbits(8) for _ in range(64))
    (start,) = access.offsets
    old = int.from_bytes(content[start : start + access.size], "little")
    content[start : start + access.size] = (old & ~field | placed).to_bytes(access.size, "little")
    return {access.argument: 1 << 20}, {1 << 20: bytes(content)}


@pytest.mark.parametrize(("function", "path"), FIELDS, ids=[path for _, path in FIELDS])
@pytest.mark.parametrize("op", [Op.IS, Op.NOT, Op.ABOVE, Op.BELOW])
def test_a_comparison_is_of_the_value_and_nothing_around_it(planner: Planner, function: str, path: str, op: Op) -> None:
    bits, signed = FIELDS[function, path]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    values = sorted({low, low + 1, min(-1, 0) if signed else 1, 0, 1, 2, high // 2, high - 1, high})
    compare = {
        Op.IS: lambda a, b: a == b,
        Op.NOT: lambda a, b: a != b,
        Op.ABOVE: lambda a, b: a > b,
        Op.BELOW: lambda a, b: a < b,
    }[op]
    for wanted in values:
        test = resolved(planner, path, op, wanted, function=function)
        for value in values:
            assert evaluate(test, *call_with(test.access, value)) is compare(value, wanted), (value, wanted)


@given(value=st.integers(0, 2**32 - 1), mask=st.integers(1, 2**32 - 1), wanted=st.integers(0, 2**32 - 1))
def test_a_mask(value: int, mask: int, wanted: int) -> None:
    access = Access(1, (), 4, 0, 32, False, False)
    test = Test(access, Op.IS, wanted & mask, mask)
    assert evaluate(test, *call_with(access, value)) is (value & mask == wanted & mask)
    assert evaluate(replace(test, op=Op.NOT), *call_with(access, value)) is (value & mask != wanted & mask)


def test_minus_one_is_all_ones(planner: Planner) -> None:
    for path, written in (("flags", -1), ("bio.bi_iter.bi_idx", 0xFFFFFFFF)):
        test = resolved(planner, path, Op.IS, written)
        assert evaluate(test, *call_with(test.access, 0xFFFFFFFF))
        assert not evaluate(test, *call_with(test.access, 0xFFFFFFFE))


# ---------------------------------------------------------------- bounds


def test_bounds_of_a_scenario(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tuple(planner.rule(fault(when=When(comm=f"task{i}*")), i) for i in range(65))
    assert len(render(Plan(rules[:64])).globs) == 64
    with pytest.raises(InjectError, match="65 different glob patterns; at most 64 in one scenario"):
        render(Plan(rules))
    with pytest.raises(InjectError, match="1025 faults; at most 1024 in one scenario"):
        render(Plan(rules[:1] * 1025))
    monkeypatch.setattr(encode.abi, "PLACES", 7)
    wide = planner.rule(fault(when=When(stack=("bch2_*", "twin"))), 0)
    with pytest.raises(InjectError, match=r"the `stack` entries need 8 address ranges; at most 7: use narrower globs"):
        render(Plan((wide,)))
