"""Faults resolved against a kernel, and every reason why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inject.engine import planner as module
from inject.engine.planner import Planner, rule_seed
from inject.engine.rule import U64, Test
from inject.errors import CannotRun, InjectError, Place, ScenarioError
from inject.kernel.access import Access
from inject.kernel.types import Types
from inject.model.nofail import NoFail
from inject.model.scenario import ArgTest, Contract, Fault, Op, Scenario, Scope, When
from tests.support.fake_kernel import KALLSYMS, build
from tests.support.planning import fault, planner_at, refused, resolved


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    return planner_at(tmp_path_factory.mktemp("kernel"))


def test_seeds_differ_by_fault_and_by_run() -> None:
    seeds = {rule_seed(seed, index) for seed in range(20) for index in range(20)}
    assert len(seeds) == 400 and all(0 <= seed <= U64 for seed in seeds)
    assert rule_seed(1, 0) == rule_seed(1, 0)


# ---------------------------------------------------------------- arguments


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
    monkeypatch.setattr(module.abi, "LOADS", 1)
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
    assert (test.op, test.mask, test.value, test.nofail) == (Op.IS, 1, 0, True)
    assert test.access.argument == 2
    assert planner.rule(replace(made, contract=Contract.IGNORE), 0).tests == ()


def test_a_flag_that_is_a_macro_in_older_kernels(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    known = NoFail("__bch2_disk_reservation_add", "why", "where", "flags", "___NOT_IN_BTF", True, macro=15)
    monkeypatch.setattr(module, "nofail_of", lambda _: (known,))
    (test,) = planner.rule(fault(known.function), 0).tests
    assert (test.op, test.mask, test.value, test.nofail) == (Op.IS, 1 << 15, 0, True)
    monkeypatch.setattr(module, "nofail_of", lambda _: (replace(known, macro=None),))
    assert "___NOT_IN_BTF is not an enumerator of this kernel" in refused(planner, fault(known.function))


def test_a_contract_by_call_path(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frame comes after the fault's own, and counts as spared; a kernel without that function has no such call."""
    known = tuple(NoFail("open_ctree", "why", "where", below=name) for name in ("xfs_mount", "not_in_there"))
    monkeypatch.setattr(module, "nofail_of", lambda _: known)
    made = fault(when=When(stack=("!bch2_alloc", "open_ctree")))
    rule = planner.rule(made, 0)
    assert (rule.path.forbidden, rule.path.sparing) == (1 << 32 | 1 << 34, 1 << 34)
    assert 1 << 34 in {bit for _, _, bit in rule.path.ranges} and rule.path.names == ("open_ctree",)
    rule = planner.rule(replace(made, contract=Contract.IGNORE), 0)
    assert (rule.path.forbidden, rule.path.sparing) == (1 << 32, 0)


@pytest.mark.parametrize(("device", "number"), [("$DEV", 0x800010), ("$MNT", 0x2A)])
def test_a_device_by_its_own_number_where_a_block_device_is_asked(planner: Planner, device: str, number: int) -> None:
    (test,) = planner.rule(fault(when=When(device=device)), 0).tests
    assert (test.value, test.mask, test.access.offsets) == (number, 0xFFFFFFFF, (8, 8))


def test_devices_that_cannot_be(planner: Planner) -> None:
    assert refused(planner, fault(when=When(device="$DEV9"))).startswith(
        "$DEV9 is not a device of this trial; write $DEV"
    )
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


def test_an_unknown_return_value(planner: Planner) -> None:
    said = refused(planner, fault(value="-BCH_ERR_none"))
    assert said == (
        "BCH_ERR_none is not an enumerator of this kernel; it may be a macro, which BTF does not keep: write its number"
    )


@pytest.mark.parametrize(
    ("function", "value", "said"),
    [
        (
            "open_ctree",
            0,
            "open_ctree has error type ERRNO and must not return 0; return a negative errno such as -ENOMEM",
        ),
        ("open_ctree", "ENOMEM", "open_ctree has error type ERRNO and must not return ENOMEM"),
        ("open_ctree", -4096, "open_ctree has error type ERRNO and must not return -4096"),
        ("bch2_free", "-EIO", "bch2_free has error type NULL and must not return -EIO; return NULL"),
        ("weak_one", "false", "weak_one has error type TRUE and must not return false; return true"),
        ("bch2_alloc", "true", "bch2_alloc has error type ERRNO_NULL and must not return true"),
        ("open_ctree", ("-EIO", "NULL"), "open_ctree has error type ERRNO and must not return NULL"),
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


# ---------------------------------------------------------------- bounds of a scenario, places


HERE = Place("s.yaml", 4, 5)
ARG = Place("s.yaml", 9, 11)
VALUE = Place("s.yaml", 6, 13)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (fault("nothing_like_it"), "s.yaml:4:5: nothing_like_it is not in this kernel"),
        (fault(value="-EWHAT", value_places=(VALUE,)), "s.yaml:6:13: EWHAT is not an enumerator of this kernel"),
        (fault(value=("-EIO", 3), value_places=(HERE, VALUE)), "s.yaml:6:13: open_ctree has error type ERRNO"),
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


def test_kallsyms_of_the_fake_kernel_is_sorted() -> None:
    """Ranges end at the next symbol: the file has to look like a kernel's."""
    addresses = [int(line.split()[0], 16) for line in KALLSYMS.splitlines()]
    assert addresses == sorted(addresses)
