"""A scenario skeleton is valid as written, and with each of its comments made a key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from inject import scenario as scenarios
from inject.draft.drafter import Drafter
from inject.draft.guesses import CALLS, FAMILIES, guess
from inject.engine.planner import Planner
from inject.errors import CannotRun
from inject.kernel import btf
from inject.kernel.functions import Functions
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types, legal_value, return_value
from inject.model.point import ErrorType, legal
from inject.model.scenario import Contract, Scenario, Scope
from tests.support.fake_kernel import KALLSYMS, LIST, build
from tests.support.raw_btf import BOOL, SIGNED, kernel_types

FUNCTIONS = [line.split()[0] for line in LIST.splitlines() if line.split()[0] not in ("twin", "new_kind")]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    """A kernel that lacks nothing."""
    root = tmp_path_factory.mktemp("kernel")
    found = build(root)
    kernel_types().write(root)
    return found


def only(text: str) -> Scenario:
    """The one scenario in ``text``."""
    (scenario,) = scenarios.parse(text, "draft.yaml", "draft")
    return scenario


def variants(text: str) -> Iterator[str]:
    """The scenario with one of its commented keys made true at a time, one line of each block at a time."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = re.match(r"( *)# (?=[a-z_]+:)", line)
        if not match or "description:" not in "\n".join(lines[:number]):
            continue
        plain = match[1] + line[match.end() :]
        block = []
        for after in lines[number + 1 :]:
            if not re.match(match[1] + r"#   ", after):
                break
            block.append(match[1] + after[len(match[1]) + 2 :])
        rest = [old for old in lines[:number] if not (instead(plain) and re.match(" *nth:", old))]
        tail = lines[number + 1 + len(block) :]
        if "args:" not in plain:
            yield "\n".join([*rest, plain, *block, *tail])
        else:
            yield from ("\n".join([*rest, plain, one, *tail]) for one in block)


def instead(line: str) -> bool:
    """Whether it is said to take the place of ``nth``."""
    return "instead of nth" in line


def plan(kernel: Kernel, scenario: Scenario) -> None:
    """Resolve every name of it; raises what is wrong."""
    planner = Planner(kernel, Types(kernel), 0, {"$DEV": (1,), "$MNT": (2,)})
    for index, fault in enumerate(scenario.faults):
        planner.rule(fault, index)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_it_is_valid_whatever_is_made_of_it(kernel: Kernel, function: str) -> None:
    text = Drafter(kernel, Types(kernel)).draft(function)
    scenario = only(text)
    plan(kernel, scenario)
    assert scenario.faults[0].function == function
    changed = [only(variant) for variant in variants(text)]
    assert sum(one != scenario for one in changed) >= 8  # some only spell out what is so anyway
    for one in changed:
        if not any("vfs" in name for name in one.faults[0].when.stack):  # which this kernel does not have
            plan(kernel, one)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_it_can_be_read_on_a_terminal(kernel: Kernel, function: str) -> None:
    lines = Drafter(kernel, Types(kernel)).draft(function, "x.yaml").splitlines()
    assert max(map(len, lines)) <= 120
    assert all(line == line.rstrip() and line.isprintable() for line in lines)
    assert "#   inject check x.yaml" in lines


def test_it_says_what_is_known(kernel: Kernel) -> None:
    text = Drafter(kernel, Types(kernel)).draft("__bch2_disk_reservation_add")
    for words in (
        "# int __bch2_disk_reservation_add(void * c, long unsigned int sectors, unsigned int flags)",
        "has error type ERRNO: it may return a negative errno",
        "NOFAIL callers are skipped: calls with BCH_DISK_RESERVATION_NOFAIL in flags",
        "such as -BCH_ERR_ENOSPC_disk_reservation",
        "return: -BCH_ERR_ENOSPC_disk_reservation",
        "#   flags: {mask: BCH_DISK_RESERVATION_NOFAIL, is: 0}  # unsigned int",
        "type: bcachefs",
    ):
        assert words in text, words
    assert "is in module xfs" in Drafter(kernel, Types(kernel)).draft("xfs_mount")
    assert "has the same address as __do_sys_getpid" in Drafter(kernel, Types(kernel)).draft("__x64_sys_getpid")
    assert "bio.name: {glob" in Drafter(kernel, Types(kernel)).draft("open_ctree")


def test_it_says_what_is_in_the_way(tmp_path: Path) -> None:
    kernel = build(tmp_path, traceable="bch2_alloc\n")
    assert "is built without ftrace" in Drafter(kernel, Types(kernel)).draft("open_ctree")


def test_what_nothing_is_known_to_reach_says_so(kernel: Kernel) -> None:
    text = Drafter(kernel, Types(kernel)).draft("weak_one")
    assert "write `run` before this can pass" in re.sub(r"\s*\n# *", " ", text)
    assert "put a command here" in only(text).run


@pytest.mark.parametrize(
    ("result", "value"),
    [("int", "-ENOMEM"), ("bool", "false"), ("vm_fault_t", "VM_FAULT_OOM"), ("blk_status_t", "BLK_STS_IOERR")],
)
def test_a_function_that_is_not_marked(tmp_path: Path, result: str, value: str) -> None:
    types = kernel_types()
    types.enumeration("vm_fault_reason", {"VM_FAULT_OOM": 1})
    kinds = {
        "int": types.integer("int", 4, SIGNED),
        "bool": types.integer("bool", 1, BOOL),
        "vm_fault_t": types.to(types.integer("u32", 4), btf.TYPEDEF, "vm_fault_t"),
        "blk_status_t": types.to(types.integer("u8", 1), btf.TYPEDEF, "blk_status_t"),
    }
    types.function("untagged_one", kinds[result], [])
    types.function("other_put", kinds[result], [])
    kernel = build(tmp_path, btf=None, kallsyms=KALLSYMS + "ffffffff8100a000 t other_put\n")
    types.write(tmp_path)
    text = Drafter(kernel, Types(kernel)).draft("untagged_one")
    fault = only(text).faults[0]
    assert fault.value == value
    point = Functions(kernel, Types(kernel)).find("untagged_one")
    assert legal_value(fault.value, point, Types(kernel)) is not None
    assert "is not marked ALLOW_ERROR_INJECTION" in text and "what its callers do with the result is unknown" in text
    assert fault.contract is Contract.KEEP
    unsafe = Drafter(kernel, Types(kernel)).draft("other_put")
    assert only(unsafe).faults[0].contract is Contract.IGNORE
    assert "warning: its name has 'put'" in unsafe


def test_without_btf(tmp_path: Path) -> None:
    bare = build(tmp_path, btf=None)
    text = Drafter(bare, Types(bare)).draft("__bch2_disk_reservation_add")
    assert "not in BTF" in text
    assert only(text).faults[0].value == "-ENOSPC"


@pytest.mark.parametrize(
    ("name", "said"),
    [("open_ctre", "did you mean open_ctree"), ("untagged_one", "is not described by the kernel's BTF")],
)
def test_a_function_that_cannot_be_failed(kernel: Kernel, name: str, said: str) -> None:
    with pytest.raises(CannotRun, match=said):
        Drafter(kernel, Types(kernel)).draft(name)


@pytest.mark.parametrize("error_type", list(ErrorType))
def test_every_guess_returns_what_is_legal(kernel: Kernel, error_type: ErrorType) -> None:
    names = ["bch2_x", "bch2_reserve", "btrfs_x", "should_fail_bio", "open_ctree", "anything"]
    found = [guess(name, error_type) for name in names] + [guess("x", error_type, call) for call in ("mkdir", "getpid")]
    for one in found:
        written = int(one.returns) if one.returns.isdecimal() else one.returns
        assert legal(return_value(written, Types(kernel)), error_type)


def test_the_families_are_told_apart() -> None:
    for name, filesystem in (
        ("bch2_folio_set", "bcachefs"),
        ("__bch2_folio_create", "bcachefs"),
        ("btrfs_search_slot", "btrfs"),
        ("open_ctree", "btrfs"),
        ("xfs_trans_alloc", "xfs"),
        ("ext4_mb_new_blocks", "ext4"),
        ("should_failslab", "bcachefs"),
        ("page_pool_alloc_pages", ""),
    ):
        assert guess(name, ErrorType.ERRNO).filesystem == filesystem
    assert guess("bch2_dynamic_fault", ErrorType.TRUE).scope == Scope.ANY.value
    assert all(re.compile(family.pattern) for family in FAMILIES)
    assert not set(CALLS) & {"", "x"}
