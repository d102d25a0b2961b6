"""Faults as bytes, held against the structures that override.bpf.c declares, and every reason why not."""

from __future__ import annotations

import ctypes
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject.engine import planner as module
from inject.engine.bytecode import USES_MARK
from inject.engine.globs import compile_glob
from inject.engine.planner import (
    U64,
    Plan,
    Planner,
    Rule,
    Test,
    Types,
    legal,
    merge,
    prefixes,
    render,
    return_value,
    rule_seed,
)
from inject.errors import CannotRun, InjectError, Place, ScenarioError
from inject.kernel.btf import Access
from inject.kernel.kernel import Kernel
from inject.model.nofail import NoFail
from inject.model.point import ErrorType
from inject.model.scenario import ArgTest, Contract, Fault, Op, Scenario, Scope, When
from inject.model.trigger import Trigger
from tests.support import ROOT
from tests.support.fake_kernel import KALLSYMS, build
from tests.support.raw_btf import kernel_types

Test.__test__ = False  # type: ignore[attr-defined]  # it is no test of pytest's
SOURCE = (ROOT / "inject/engine/override.bpf.c").read_text()
DEVICES = {"$DEV": (0x800010, 0x2A), "$MNT": (0x2A, 0x2A)}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    root = tmp_path_factory.mktemp("kernel")
    found = build(root)
    kernel_types().write(root)
    return found


@pytest.fixture(scope="module")
def planner(kernel: Kernel) -> Planner:
    return Planner(kernel, Types(kernel), 7, DEVICES)


def fault(function: str = "open_ctree", value: Any = "-ENOMEM", when: Optional[When] = None, **more: Any) -> Fault:
    return Fault(function, value, when=when or When(), **more)


def resolved(planner: Planner, path: str, op: Op, value: Any, mask: Any = None, function: str = "open_ctree") -> Test:
    made = fault(function, "NULL" if function == "bch2_alloc" else "-EIO")
    if function == "weak_one":
        made = fault(function, "true")
    return planner.rule(replace(made, when=When(args=(ArgTest(path, op, value, mask),))), 0).tests[0]


def refused(planner: Planner, made: Fault) -> str:
    with pytest.raises(InjectError) as caught:
        planner.rule(made, 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- the program's structures

WORDS = {"u8": ctypes.c_uint8, "u32": ctypes.c_uint32, "u64": ctypes.c_uint64}


def constant(text: str) -> int:
    """``TESTS`` or ``TESTS + 1`` as the program defines it."""
    return sum(int(word) if word.isdigit() else _defined(word) for word in text.split(" + "))


def _defined(name: str) -> int:
    found = re.search(rf"^#define {name}\s+(\d+)", SOURCE, re.MULTILINE)
    assert found is not None, name
    return int(found[1])


def structure(name: str) -> type[ctypes.Structure]:
    """``struct name`` of the program, laid out as C does it."""
    body = re.search(rf"^struct {name} \{{(.*?)^\}};", SOURCE, re.MULTILINE | re.DOTALL)
    assert body is not None, name
    fields: list[tuple[str, Any]] = []
    for line in re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL).split(";"):
        words = line.split(None, 2) if line.strip().startswith("struct") else line.split(None, 1)
        if not words:
            continue
        kind = structure(words[1]) if words[0] == "struct" else WORDS[words[0]]
        for declared in words[-1].split(","):
            member, _, count = declared.strip().partition("[")
            fields.append((member, kind * constant(count.rstrip("]")) if count else kind))
    return type(name, (ctypes.Structure,), {"_fields_": fields})


RULE, TEST, CONTROL = structure("rule"), structure("test"), structure("control")


def as_rule(data: bytes) -> Any:
    assert len(data) == ctypes.sizeof(RULE) == module.RULE_SIZE
    return RULE.from_buffer_copy(data)


def test_the_layouts_are_the_programs() -> None:
    assert module.TEST.size == ctypes.sizeof(TEST)
    assert module.CONTROL.size == ctypes.sizeof(CONTROL)
    assert ctypes.sizeof(RULE) == module.RULE_SIZE
    assert module.OPS == {Op.IS: 0, Op.NOT: 1, Op.ABOVE: 2, Op.BELOW: 3, Op.GLOB: 4}
    assert "enum op { OP_IS, OP_NOT, OP_ABOVE, OP_BELOW, OP_GLOB, OP_USER_GLOB };" in SOURCE
    assert module.USER_GLOB == 5


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("GLOBS", module.MOST_GLOBS),
        ("TESTS", module.MOST_TESTS),
        ("VALUES", module.MOST_VALUES),
        ("LOADS", module.MOST_LOADS),
        ("FRAMES", module.MOST_PATH),
    ],
)
def test_the_bounds_are_the_programs(name: str, bound: int) -> None:
    assert constant(name) == bound


def test_the_tries_bound_is_the_programs() -> None:
    assert f'"lpm_trie", struct place, u64, paths, {module.MOST_PREFIXES},' in SOURCE


def test_control() -> None:
    found = CONTROL.from_buffer_copy(module.control(1, 2, 3, 4, 5, True, True))
    names = ("cgroup", "level", "deadline", "budget", "tool", "others", "armed")
    assert tuple(getattr(found, name) for name in names) == (1, 2, 3, 4, 5, 1, 1)


# ---------------------------------------------------------------- a rule's bytes


def test_the_plainest_rule(planner: Planner) -> None:
    (data,) = render(Plan((planner.rule(fault(), 0),))).rules
    found = as_rule(data)
    assert list(found.value) == [-12 & U64] + [0] * 7
    assert (found.values, found.any, found.follow, found.tests, found.comm, found.path) == (1, 0, 0, 0, 0, 0)
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
    assert (found.values, found.any, found.follow, found.tests) == (2, 0, 44, 3)
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
    assert bytes(found.test[3]) == bytes(ctypes.sizeof(TEST))
    assert (found.device.arg, found.device.loads, list(found.device.offset)[:2]) == (0, 2, [8, 8])
    assert image.devices == ((0x2A).to_bytes(4, "little"),)


@pytest.mark.parametrize(
    ("when", "more", "used"),
    [
        (When(), {}, 0),
        (When(args=(ArgTest("class", Op.GLOB, "meta:*"),)), {}, 1 | 1 << 16),
        (When(args=(ArgTest("bio.bi_iter.bi_size", Op.ABOVE, 4096),), comm="fio*"), {}, 1 | 1 << 8 | 1 << 17),
        (When(stack=("bch2_*",)), {}, 1 << 18),
        (When(stack=("!xfs_mount",)), {}, 1 << 18),
        (When(device="$DEV"), {}, 1 | 2 << 8),
        (When(), {"scope": Scope.WRITEBACK}, 2 << 8 | 1 << 19),
    ],
)
def test_the_program_is_told_what_a_rule_uses(planner: Planner, when: When, more: Any, used: int) -> None:
    """What it is not told of is not in the program that runs: a bit too few, and a condition is never looked at."""
    assert module.uses(planner.rule(fault(when=when, **more), 0)) == used


def test_the_programs_words_for_what_is_used() -> None:
    bits = dict(re.findall(r"^#define (USES_\w+)\s+\(1 << (\d+)\)", SOURCE, re.MULTILINE))
    assert bits == {"USES_GLOB": "16", "USES_COMM": "17", "USES_PATH": "18", "USES_FOLLOW": "19"}
    assert f'"%0 = {USES_MARK:#x} ll"' in SOURCE


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


def test_seeds_differ_by_fault_and_by_run() -> None:
    seeds = {rule_seed(seed, index) for seed in range(20) for index in range(20)}
    assert len(seeds) == 400 and all(0 <= seed <= U64 for seed in seeds)
    assert rule_seed(1, 0) == rule_seed(1, 0)


# ---------------------------------------------------------------- arguments


def evaluate(test: Test, registers: Mapping[int, int], memory: Mapping[int, bytes]) -> bool:
    """holds() of the program, on the bytes that it gets."""
    found = TEST.from_buffer_copy(module._test_bytes(test, {}))
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
"""What a test reads of a call: so many bits, signed or not."""


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


@pytest.mark.parametrize(
    ("path", "value", "function"),
    [
        ("flags", 1 << 32, "open_ctree"),
        ("flags", -(1 << 31) - 1, "open_ctree"),
        ("bits.low", 8, "bch2_alloc"),
        ("bits.high", 128, "bch2_alloc"),
        ("bits.level", "WIDE_TOP", "bch2_alloc"),
    ],
)
def test_a_value_that_the_argument_cannot_have(planner: Planner, path: str, value: Any, function: str) -> None:
    with pytest.raises(InjectError, match=f"{value} does not fit into {path}, which has "):
        resolved(planner, path, Op.ABOVE, value, function=function)


@pytest.mark.parametrize(
    ("path", "value", "number"),
    [
        ("flags", "BCH_DISK_RESERVATION_NOFAIL", 1),
        ("count", "-BCH_ERR_ENOSPC_disk_reservation", -2160 & U64),
        ("bio.bi_next", "NULL", 0),
        ("count", "true", 1),
        ("count", "false", 0),
    ],
)
def test_names_of_values(planner: Planner, path: str, value: str, number: int) -> None:
    assert resolved(planner, path, Op.IS, value).value == number


def test_an_enums_own_names_come_first(planner: Planner) -> None:
    assert resolved(planner, "bits.level", Op.IS, "LOW", function="bch2_alloc").value == -3 & U64


def test_masks_of_enumerators(planner: Planner) -> None:
    test = resolved(planner, "flags", Op.IS, 0, mask="BCH_DISK_RESERVATION_GC")
    assert (test.mask, test.value) == (2, 0)
    with pytest.raises(InjectError, match="BCH_DISK_RESERVATION_NOFAIL has bits outside the mask BCH_DISK_RES"):
        resolved(planner, "flags", Op.IS, "BCH_DISK_RESERVATION_NOFAIL", mask="BCH_DISK_RESERVATION_GC")


def test_a_string(planner: Planner) -> None:
    assert resolved(planner, "class", Op.GLOB, "a*") == Test(
        Access(2, (), 8, 0, 64, False, True), Op.GLOB, pattern="a*"
    )
    with pytest.raises(InjectError, match="flags is not a string; glob needs a char pointer"):
        resolved(planner, "flags", Op.GLOB, "a*")


def test_too_many_pointers(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LOADS", 1)
    with pytest.raises(InjectError, match="bio.bi_bdev.bd_dev follows 2 pointers; at most 1"):
        resolved(planner, "bio.bi_bdev.bd_dev", Op.IS, 0)


def test_too_many_tests(planner: Planner) -> None:
    one = ArgTest("flags", Op.NOT, 0)
    assert len(planner.rule(fault(when=When(args=(one,) * 6)), 0).tests) == 6
    assert refused(planner, fault(when=When(args=(one,) * 7))).startswith("7 argument tests in one fault; at most 6")
    assert refused(planner, fault(when=When(args=(one,) * 6, device="$DEV"))).startswith("7 argument tests")


# ---------------------------------------------------------------- contracts, devices


def test_a_contract_is_kept_unless_told_otherwise(planner: Planner) -> None:
    made = fault("__bch2_disk_reservation_add")
    (test,) = planner.rule(made, 0).tests
    assert (test.op, test.mask, test.value, test.contract) == (Op.IS, 1, 0, True)
    assert test.access.argument == 2
    assert as_rule(render(Plan((planner.rule(made, 0),))).rules[0]).test[0].spares == 1
    assert planner.rule(replace(made, contract=Contract.IGNORE), 0).tests == ()


def test_a_contract_by_call_path(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frame comes after the fault's own, and counts as spared; a kernel without that function has no such call."""
    known = tuple(NoFail("open_ctree", "why", "where", below=name) for name in ("xfs_mount", "not_in_there"))
    monkeypatch.setattr(module, "nofail_of", lambda _: known)
    made = fault(when=When(stack=("!bch2_alloc", "open_ctree")))
    rule = planner.rule(made, 0)
    assert (rule.forbidden, rule.sparing) == (1 << 32 | 1 << 34, 1 << 34)
    assert as_rule(render(Plan((rule,))).rules[0]).sparing == 1 << 34
    assert 34 in spans(rule) and rule.path == ("open_ctree",)
    rule = planner.rule(replace(made, contract=Contract.IGNORE), 0)
    assert (rule.forbidden, rule.sparing) == (1 << 32, 0)


@pytest.mark.parametrize(("device", "number"), [("$DEV", 0x800010), ("$MNT", 0x2A)])
def test_a_device_by_its_own_number_where_a_block_device_is_asked(planner: Planner, device: str, number: int) -> None:
    (test,) = planner.rule(fault(when=When(device=device)), 0).tests
    assert (test.value, test.mask, test.access.offsets) == (number, 0xFFFFFFFF, (8, 8))


def test_devices_that_cannot_be(planner: Planner) -> None:
    assert refused(planner, fault(when=When(device="$DEV9"))).startswith("$DEV9 is no device of this trial; write $DEV")
    made = fault("bch2_alloc", "NULL", When(device="$DEV"))
    assert refused(planner, made).startswith("no argument of bch2_alloc leads to a device; `device` needs a bio")
    made = fault("bch2_alloc", "NULL", scope=Scope.WRITEBACK)
    assert refused(planner, made).startswith(
        "no argument of bch2_alloc leads to a device, so `scope: writeback` cannot tell"
    )


def test_a_plan_knows_all_devices_once(planner: Planner) -> None:
    plan = planner.plan(Scenario("s", "s.yaml", (fault(),), "true"))
    assert plan.devices == (0x2A, 0x800010)
    assert not plan.others
    assert planner.plan(Scenario("s", "s.yaml", (fault(), fault(scope=Scope.ANY)), "true")).others
    assert planner.plan(Scenario("s", "s.yaml", (fault(scope=Scope.WRITEBACK),), "true")).others


# ---------------------------------------------------------------- return values


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("-ENOMEM", -12),
        ("ENOMEM", 12),
        ("-EAGAIN", -11),
        ("-EWOULDBLOCK", -11),
        ("-ERESTARTSYS", -512),
        ("-ENOTSUPP", -524),
        ("-BCH_ERR_ENOSPC_disk_reservation", -2160),
        ("NULL", 0),
        ("true", 1),
        ("false", 0),
        (-7, -7),
        ("LOW", -3),
    ],
)
def test_return_values(kernel: Kernel, written: Any, value: int) -> None:
    assert return_value(written, Types(kernel)) == value


def test_an_unknown_return_value(planner: Planner) -> None:
    said = refused(planner, fault(value="-BCH_ERR_none"))
    assert (
        said
        == "BCH_ERR_none is no enumerator of this kernel; it may be a macro, which BTF does not keep: write its number"
    )


@pytest.mark.parametrize(
    ("error_type", "allowed"),
    [
        (ErrorType.ERRNO, {-1, -12, -2160, -4095}),
        (ErrorType.ERRNO_NULL, {-1, -12, -2160, -4095, 0}),
        (ErrorType.NULL, {0}),
        (ErrorType.TRUE, {1}),
    ],
)
def test_legal_values(error_type: ErrorType, allowed: set[int]) -> None:
    values = (-5000, -4096, -4095, -2160, -12, -1, 0, 1, 2, 12)
    assert {value for value in values if legal(value, error_type)} == allowed


@pytest.mark.parametrize(
    ("function", "value", "said"),
    [
        ("open_ctree", 0, "open_ctree is tagged ERRNO and must not return 0; return a negative errno such as -ENOMEM"),
        ("open_ctree", "ENOMEM", "open_ctree is tagged ERRNO and must not return ENOMEM"),
        ("open_ctree", -4096, "open_ctree is tagged ERRNO and must not return -4096"),
        ("bch2_free", "-EIO", "bch2_free is tagged NULL and must not return -EIO; return NULL"),
        ("weak_one", "false", "weak_one is tagged TRUE and must not return false; return true"),
        ("bch2_alloc", "true", "bch2_alloc is tagged ERRNO_NULL and must not return true"),
        ("open_ctree", ("-EIO", "NULL"), "open_ctree is tagged ERRNO and must not return NULL"),
    ],
)
def test_illegal_values_are_refused(planner: Planner, function: str, value: Any, said: str) -> None:
    assert refused(planner, fault(function, value)).startswith(said)


def test_a_trampoline_needs_btf_and_a_value_that_is_not_zero(planner: Planner) -> None:
    assert planner.rule(fault(), 0).trampoline == "open_ctree"
    assert planner.rule(fault("bch2_alloc", "NULL"), 0).trampoline == ""
    assert planner.rule(fault("bch2_alloc", ("-EIO", "NULL")), 0).trampoline == ""
    assert planner.rule(fault("__x64_sys_getpid"), 0).trampoline == "__do_sys_getpid"


def test_without_btf_there_is_only_the_kprobe(tmp_path: Path) -> None:
    bare = build(tmp_path, btf=None)
    planner = Planner(bare, Types(bare), 0)
    rule = planner.rule(fault(), 0)
    assert (rule.values, rule.trampoline) == ((-12 & U64,), "")
    with pytest.raises(CannotRun, match="parameter and error names are unknown"):
        planner.rule(fault(value="-BCH_ERR_ENOSPC_disk_reservation"), 0)


# ---------------------------------------------------------------- call paths


def spans(rule: Rule) -> dict[int, list[tuple[int, int]]]:
    """Ranges by the number of their class bit."""
    found: dict[int, list[tuple[int, int]]] = {}
    for first, past, bit in rule.ranges:
        found.setdefault(bit.bit_length() - 1, []).append((first & 0xFFFFFFFF, past & 0xFFFFFFFF))
    return found


def test_names_become_ranges_up_to_the_next_symbol(planner: Planner) -> None:
    stack = ("open_ctree", "!xfs_mount", "bch2_*", "module:xfs", "module:bcachefs")
    rule = planner.rule(fault(when=When(stack=stack)), 0)
    assert rule.path == ("open_ctree", "bch2_*", "module:xfs", "module:bcachefs")
    assert rule.forbidden == 1 << 33
    assert spans(rule) == {
        0: [(0x81001000, 0x81001100)],
        33: [(0xC0001000, 0xC0001100)],
        1: [(0x81005000, 0x81005200)],
        2: [(0xC0001000, 0xC0001100 + 4096)],
        3: [(0x81005000, 0x81006000)],
    }


def test_twins_are_both_meant(planner: Planner) -> None:
    assert spans(planner.rule(fault(when=When(stack=("twin",))), 0)) == {0: [(0x81003000, 0x81004000)]}


def test_a_path_through_nowhere(planner: Planner) -> None:
    for entry in ("nothing", "nothing_*", "!nothing"):
        said = refused(planner, fault(when=When(stack=(entry,))))
        assert said.startswith(f"nothing in this kernel is called {entry.lstrip('!')}; it may be inlined")
    said = refused(planner, fault(when=When(stack=("module:nothing",))))
    assert said.startswith("no function of a module nothing is in this kernel; no module of that name is loaded")


def test_the_longest_path(planner: Planner) -> None:
    assert len(planner.rule(fault(when=When(stack=("open_ctree",) * 32)), 0).path) == 32
    assert (
        refused(planner, fault(when=When(stack=("open_ctree",) * 33)))
        == "a call path of 33 entries; at most 32, contracts included"
    )


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=8))
def test_merge_keeps_every_address_once(pairs: list[tuple[int, int]]) -> None:
    ranges = [(first, first + length) for first, length in pairs]
    merged = merge(ranges)
    assert {a for first, past in ranges for a in range(first, past)} == {
        a for first, past in merged for a in range(first, past)
    }
    assert all(left[1] < right[0] for left, right in zip(merged, merged[1:]))


ADDRESSES = st.integers(0, 300) | st.integers(0xFFFFFFFF81000000, 0xFFFFFFFF81000100)


@given(first=ADDRESSES, length=st.integers(0, 300), probes=st.lists(st.integers(-4, 304), max_size=20))
def test_prefixes_cover_the_range_and_nothing_else(first: int, length: int, probes: list[int]) -> None:
    blocks = prefixes(first, first + length)
    assert all(address % (1 << 64 - fixed) == 0 for address, fixed in blocks)
    assert sum(1 << 64 - fixed for _, fixed in blocks) == length
    for probe in probes:
        inside = any(start <= first + probe < start + (1 << 64 - fixed) for start, fixed in blocks)
        assert inside is (0 <= probe < length)


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 30), st.integers(0, 3)), max_size=6), st.integers(0, 100))
def test_the_trie_answers_with_every_class_of_an_address(spans: list[tuple[int, int, int]], address: int) -> None:
    """Longest prefix first, as BPF_MAP_TYPE_LPM_TRIE looks up (kernel/bpf/lpm_trie.c)."""
    ranges = [(first, first + length, 1 << bit) for first, length, bit in spans]
    wanted = 0
    for first, past, bit in ranges:
        wanted |= bit if first <= address < past else 0
    best, found = -1, 0
    for key, mask in module._trie(5, ranges):
        length, slot = (int.from_bytes(key[at : at + 4], "little") for at in (0, 4))
        assert slot == 5 and 32 <= length <= 96
        fixed = length - 32
        if int.from_bytes(key[8:], "big") >> 64 - fixed == address >> 64 - fixed and fixed > best:
            best, found = fixed, mask
    assert found == wanted


# ---------------------------------------------------------------- bounds of a scenario, places


def test_bounds_of_a_scenario(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tuple(planner.rule(fault(when=When(comm=f"task{i}*")), i) for i in range(65))
    assert len(render(Plan(rules[:64])).globs) == 64
    with pytest.raises(InjectError, match="65 different glob patterns; at most 64 in one scenario"):
        render(Plan(rules))
    with pytest.raises(InjectError, match="1025 faults; at most 1024 in one scenario"):
        render(Plan(rules[:1] * 1025))
    monkeypatch.setattr(module, "MOST_PREFIXES", 1)
    wide = planner.rule(fault(when=When(stack=("bch2_*", "twin"))), 0)
    with pytest.raises(InjectError, match=r"the call paths cover \d+ address blocks; at most 1: use narrower globs"):
        render(Plan((wide,)))


HERE = Place("s.yaml", 4, 5)
ARG = Place("s.yaml", 9, 11)
VALUE = Place("s.yaml", 6, 13)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (fault("nothing_like_it"), "s.yaml:4:5: nothing_like_it is not in this kernel"),
        (fault(value="-EWHAT", value_places=(VALUE,)), "s.yaml:6:13: EWHAT is no enumerator of this kernel"),
        (fault(value=("-EIO", 3), value_places=(HERE, VALUE)), "s.yaml:6:13: open_ctree is tagged ERRNO"),
        (
            fault(when=When(args=(ArgTest("flag", Op.IS, 0, place=ARG),))),
            "s.yaml:9:11: open_ctree has no parameter flag; did you mean flags?",
        ),
        (fault(when=When(args=(ArgTest("flag", Op.IS, 0),))), "s.yaml:4:5: open_ctree has no parameter flag"),
        (fault(when=When(stack=("nothing",))), "s.yaml:4:5: nothing in this kernel is called nothing"),
    ],
)
def test_an_error_has_its_place(planner: Planner, made: Fault, said: str) -> None:
    scenario = Scenario("s", "s.yaml", (fault(), replace(made, place=HERE)), "true")
    with pytest.raises(ScenarioError) as caught:
        planner.plan(scenario)
    assert str(caught.value).startswith(said)


def test_types_are_opened_once_and_only_when_needed(kernel: Kernel) -> None:
    opened: list[str] = []

    def count(root: Path, name: str, base: Any) -> Any:
        opened.append(name)
        return module.Btf(root, name, base)

    types = Types(kernel, count)
    assert return_value("-EIO", types) == -5
    assert opened == []
    assert types.enumerator("BCH_ERR_START") == types.enumerator("BCH_ERR_START") == 2048
    assert types.of() is types.of("")
    assert opened == [""]


def test_kallsyms_of_the_fake_kernel_is_sorted() -> None:
    """Ranges end at the next symbol: the file has to look like a kernel's."""
    addresses = [int(line.split()[0], 16) for line in KALLSYMS.splitlines()]
    assert addresses == sorted(addresses)
