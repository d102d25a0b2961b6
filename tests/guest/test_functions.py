"""Functions that are not marked: what they return and what their callers test, as the kernel's source has it (6.12)."""

from __future__ import annotations

import json

import pytest

from inject.errors import CannotRun
from inject.kernel.callers import Callers
from inject.kernel.calls import Checks, count
from inject.kernel.catalogue import catalogue
from inject.kernel.functions import Functions, UnsafeFunction
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.point import ErrorType
from tests.support.command import inject

pytestmark = pytest.mark.test_kernel

SOURCE = {
    "d_alloc": (ErrorType.NULL, "zero"),  # fs/dcache.c
    "prepare_creds": (ErrorType.NULL, "zero"),  # kernel/cred.c
    "new_inode": (ErrorType.NULL, "zero"),  # fs/inode.c
    "filp_open": (ErrorType.ERRNO, "is_err"),  # fs/open.c
    "ext4_find_extent": (ErrorType.ERRNO, "is_err"),  # fs/ext4/extents.c
    "ext4_get_inode_loc": (ErrorType.ERRNO, "zero"),  # fs/ext4/inode.c: if (error)
    "btrfs_search_slot": (ErrorType.ERRNO, "negative"),  # fs/btrfs/ctree.c: 1 is no error
    "xfs_trans_alloc": (ErrorType.ERRNO, "zero"),  # fs/xfs/xfs_trans.c
    "folio_mark_dirty": (ErrorType.BOOL, "ignored"),  # mm/page-writeback.c: most callers do not look
    "handle_mm_fault": (ErrorType.NUMBER, "compared"),  # mm/memory.c: fault & VM_FAULT_ERROR
    "bch2_btree_iter_traverse": (ErrorType.ERRNO, "zero"),  # fs/bcachefs/btree_iter.c
}
"""Functions that are called by name, with what they return and what most of their callers do."""

MARKED = {"btrfs_search_slot"}


@pytest.fixture(scope="module")
def read(kernel: Kernel, types: Types) -> Callers:
    return Callers(kernel, types)


def checks_of(callers: Callers, kernel: Kernel, types: Types, name: str) -> Checks:
    point = Functions(kernel, types).find(name, force=True)
    return count([site.use for site in callers.of(point.address)])


@pytest.mark.parametrize("name", SOURCE)
def test_it_is_as_the_source_says(read: Callers, kernel: Kernel, types: Types, name: str) -> None:
    error_type, most = SOURCE[name]
    point = Functions(kernel, types).find(name)
    assert (point.error_type, point.marked) == (error_type, name in MARKED)
    checks = checks_of(read, kernel, types, name)
    assert checks.calls > 1
    assert getattr(checks, most) > checks.calls / 2, checks
    if most != "ignored":
        assert checks.checked + checks.returned >= 0.9 * checks.calls, checks


def test_results_that_nobody_has_are_ignored(read: Callers, kernel: Kernel, types: Types) -> None:
    """Functions that return nothing: what looks like a test of their result is a mistake of inject."""
    names = ("mutex_unlock", "iput", "kfree", "clear_inode", "folio_wait_writeback", "ext4_superblock_csum_set")
    addresses = {kernel.symbols.named(name)[0].address for name in names}
    found = read.table(addresses)
    calls = sum(checks.calls for checks in found.values())
    wrong = sum(checks.calls - checks.ignored for checks in found.values())
    assert set(found) == addresses and calls > 3000
    assert wrong <= 0.01 * calls


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mutex_unlock", "mutex_unlock returns nothing"),
        ("bch2_btree_iter_prev", "returns bkey_s_c, and inject sets one register only"),
        ("ext4_no_such_function", "is not in this kernel"),
    ],
)
def test_why_it_cannot_be_failed(kernel: Kernel, types: Types, name: str, said: str) -> None:
    with pytest.raises(CannotRun, match=said):
        Functions(kernel, types).find(name)


def test_an_unsafe_name_is_refused(kernel: Kernel, types: Types) -> None:
    with pytest.raises(UnsafeFunction, match="its name has 'free'"):
        Functions(kernel, types).find("xfs_free_extent_fix_freelist")


def test_the_table(kernel: Kernel, types: Types) -> None:
    table = catalogue(kernel, types, "ext4_*")
    rows = {one.point.function: one for one in table.entries}
    assert len(rows) > 300
    assert rows["ext4_da_write_begin"].checks == Checks(), "it is called through address_space_operations only"
    assert rows["ext4_find_extent"].prototype.startswith("struct ext4_ext_path * ext4_find_extent(struct inode * inode")
    assert all(one.ftrace for one in (rows["ext4_find_extent"], rows["ext4_da_write_begin"]))
    assert any(".isra." in name or ".constprop." in name for name in rows), "clones, too"
    assert table.left_out["return nothing"] > 100
    marked = [one.point for one in table.entries if one.point.marked]
    assert marked == sorted(marked, key=lambda point: (point.module, point.function))
    assert set(marked) <= {one.point for one in table.entries[: len(marked)]}, "marked ones come first"


def test_a_blacklisted_function_is_left_out(kernel: Kernel, types: Types) -> None:
    table = catalogue(kernel, types, "kprobe_int3_handler")
    assert table.entries == () and table.left_out == {"are on the kprobe blacklist": 1}


def test_the_command_explains_one() -> None:
    done = inject("list", "--explain", "filp_open", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["error_type"], told["marked"], told["unsafe"]) == ("ERRNO", False, None)
    assert told["callers"]["is_err"] == told["callers"]["calls"] == len(told["sites"])
    assert {tuple(site["result"]) for site in told["sites"]} == {("IS_ERR",)}
