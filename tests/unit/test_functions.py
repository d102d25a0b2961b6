"""Functions that are not marked: what they may return, which names are refused, and why there is no such function."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.errors import CannotRun
from inject.kernel import btf
from inject.kernel.functions import Functions, UnsafeFunction
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.point import ErrorType, FaultPoint
from inject.model.unsafe import unsafe
from tests.support.fake_kernel import KALLSYMS, build
from tests.support.raw_btf import BOOL, SIGNED, Blob

RESULTS = ("an_int", "a_long", "a_short", "a_bool", "a_pointer", "an_unsigned", "an_enum", "a_fault", "a_key", "a_pair")
MORE = "".join(f"ffffffff8200{number:x}000 t {name}\n" for number, name in enumerate(RESULTS)) + (
    "ffffffff82010000 t a_void\n"
    "ffffffff82011000 t cloned.isra.0\n"
    "ffffffff82011800 t cloned.isra.0.cold\n"
    "ffffffff82011900 t inlined_tw\n"
    "ffffffff82011a00 t __pfx_an_int\n"
    "ffffffff82012000 t kobject_get\n"
    "ffffffff82013000 t nameless\n"
)


def types_of(root: Path) -> None:
    blob = Blob()
    s16, s32, s64 = (blob.integer(f"s{size * 8}", size, SIGNED) for size in (2, 4, 8))
    u32, boolean = blob.integer("u32", 4), blob.integer("bool", 1, BOOL)
    pointer, wide = blob.to(0), blob.integer("__int128", 16, SIGNED)
    level = blob.enumeration("level", {"LOW": 0, "HIGH": 7})
    fault = blob.to(u32, btf.TYPEDEF, "vm_fault_t")
    key = blob.structure("bkey_s_c", 16, [("k", pointer, 0), ("v", pointer, 64)])
    pair = blob.structure("pair", 8, [("first", u32, 0), ("second", u32, 32)])
    kinds = (s32, s64, s16, boolean, pointer, u32, level, fault, key, pair)
    for name, kind in zip(RESULTS, kinds):
        blob.function(name, kind, [("first", s32)])
    blob.function("a_void", 0, [])
    blob.function("a_wide", wide, [])
    for name in ("inlined_one", "inlined_two"):
        blob.function(name, s32, [])
    for name in ("cloned", "kobject_get", "untagged_one", "bch2_free"):
        blob.function(name, s32, [])
    blob.write(root)
    module = Blob(blob)
    module.function("xfs_umount", s32, [])
    module.write(root, "xfs")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    types_of(tmp_path)
    return build(tmp_path, kallsyms=KALLSYMS + MORE, btf=None)


def functions(kernel: Kernel) -> Functions:
    return Functions(kernel, Types(kernel))


def refusal(kernel: Kernel, name: str) -> tuple[str, str]:
    """Why ``name`` cannot be failed, and the hint."""
    with pytest.raises(CannotRun) as caught:
        functions(kernel).find(name)
    assert "\n" not in str(caught.value)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("name", "error_type"),
    [
        ("an_int", ErrorType.ERRNO),
        ("a_long", ErrorType.ERRNO),
        ("a_short", ErrorType.ERRNO),
        ("a_bool", ErrorType.BOOL),
        ("a_pointer", ErrorType.ERRNO_NULL),
        ("an_unsigned", ErrorType.NUMBER),
        ("an_enum", ErrorType.NUMBER),
        ("a_fault", ErrorType.NUMBER),
        ("cloned.isra.0", ErrorType.ERRNO),
    ],
)
def test_the_type_is_that_of_the_prototype(kernel: Kernel, name: str, error_type: ErrorType) -> None:
    point = functions(kernel).find(name)
    assert (point.function, point.error_type, point.marked, point.names) == (name, error_type, False, (name,))
    assert point.address >= 0xFFFFFFFF82000000


def test_a_filesystem_that_this_kernel_does_not_have(tmp_path: Path, kernel: Kernel) -> None:
    (tmp_path / "proc/filesystems").write_text("nodev\tsysfs\n\text4\n")
    assert refusal(kernel, "bch2_no_such")[1] == "this kernel has no bcachefs, neither built in nor as a module"
    assert "see `inject list --all`" in refusal(kernel, "ext4_zzz")[1]
    (tmp_path / "proc/filesystems").write_text("\tbcachefs\n")
    assert "did you mean" in refusal(kernel, "bch2_alloq")[1]


def test_a_marked_function_keeps_the_type_of_the_list(kernel: Kernel) -> None:
    """Its prototype says int, the list says NULL; and its name is no reason to refuse it."""
    point = functions(kernel).find("bch2_free")
    assert point == FaultPoint("bch2_free", ErrorType.NULL, "", 0xFFFFFFFF81005100, ("bch2_free",))
    assert functions(kernel).find("__do_sys_getpid").marked, "another name of a marked one"


def test_a_function_of_a_module(kernel: Kernel) -> None:
    point = functions(kernel).find("xfs_umount")
    assert (point.module, point.error_type, point.marked) == ("xfs", ErrorType.ERRNO, False)


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("a_void", "a_void returns nothing, so it cannot return an error", "fail a function that it calls"),
        ("a_key", "a_key returns bkey_s_c, and inject sets one register only", "fail a function that it calls"),
        ("a_pair", "a_pair returns pair, and inject sets one register only", "fail a function that it calls"),
        ("nameless", "nameless is not described by the kernel's BTF", "fail one of its callers"),
        ("twin", "2 functions are called twin (in vmlinux)", "an ambiguous name cannot be probed"),
        ("should_failslab", "should_failslab is not in this kernel", "only the clone should_failslab.constprop.0"),
        ("inlined_one", "inlined_one is not in this kernel", "inlined it everywhere"),
        ("inlined_two", "inlined_two is not in this kernel", "inlined it everywhere"),
        (
            "cloned.isra.0.cold",
            "cloned.isra.0.cold is not a function but a part of cloned.isra.0",
            "fail cloned.isra.0",
        ),
        ("__pfx_an_int", "__pfx_an_int is not a function but a part of an_int", "fail an_int"),
        ("untaged_one", "untaged_one is not in this kernel", "did you mean untagged_one?"),
        ("nothing_like_it", "nothing_like_it is not in this kernel", "see `inject list --all`"),
    ],
)
def test_why_a_function_cannot_be_failed(kernel: Kernel, name: str, said: str, hint: str) -> None:
    message, advice = refusal(kernel, name)
    assert message.startswith(said)
    assert hint in advice


def test_a_name_that_promises_an_effect_is_refused_unless_forced(kernel: Kernel) -> None:
    with pytest.raises(UnsafeFunction) as caught:
        functions(kernel).find("kobject_get")
    assert "its name has 'get'" in caught.value.message and "--force" in caught.value.hint
    assert functions(kernel).find("kobject_get", force=True).error_type is ErrorType.ERRNO


def test_a_kernel_without_the_list(tmp_path: Path) -> None:
    types_of(tmp_path)
    kernel = build(tmp_path, kallsyms=KALLSYMS + MORE, btf=None, list=None, config=None)
    assert functions(kernel).marked() == ()
    assert not functions(kernel).find("untagged_one").marked


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("bch2_trans_unlock", "unlock"),
        ("down_read", "down"),
        ("kobject_get", "get"),
        ("get_device", "get"),
        ("ext4_free_blocks", "free"),
        ("__folio_put", "put"),
        ("put_page.part.0", "put"),
        ("vfs_lock_file", "lock"),
        ("ext4_get_block", None),
        ("btrfs_find_free_extent", None),
        ("mutex_lock_killable", None),
        ("ext4_block_map", None),
        ("shut_down_gently", None),
        ("bch2_btree_lookup", None),
    ],
)
def test_names_that_promise_an_effect(name: str, word: str | None) -> None:
    found = unsafe(name)
    assert (found.word if found else None) == word
