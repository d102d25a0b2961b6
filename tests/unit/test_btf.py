"""Names, offsets and registers, read by libbpf from BTF that this test wrote."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inject.errors import CannotRun, InjectError
from inject.kernel import btf as module
from inject.kernel.access import Access, access_to
from inject.kernel.btf import Btf
from tests.support.raw_btf import Blob, kernel_types


@pytest.fixture(scope="session")
def types(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Btf]:
    root = tmp_path_factory.mktemp("btf")
    kernel_types().write(root)
    opened = Btf(root)
    yield opened
    opened.close()


def refused(types: Btf, function: str, path: str) -> str:
    with pytest.raises(InjectError) as caught:
        access_to(types, function, path)
    return str(caught.value)


# ---------------------------------------------------------------- what can be opened


def test_no_btf(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="cannot be read, so parameter.*CONFIG_DEBUG_INFO_BTF=y"):
        Btf(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x" * 100, kernel_types().pack()[:200], b"\x9f\xeb\1\0"])
def test_damaged_btf(tmp_path: Path, content: bytes) -> None:
    kernel_types().write(tmp_path)
    (tmp_path / "sys/kernel/btf/vmlinux").write_bytes(content)
    with pytest.raises(CannotRun, match="libbpf cannot read .*vmlinux"):
        Btf(tmp_path)


def test_no_libbpf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    kernel_types().write(tmp_path)
    with pytest.raises(CannotRun, match="libbpf is not installed; apt-get install libbpf1"):
        Btf(tmp_path)


def test_a_module_stands_on_vmlinux(tmp_path: Path) -> None:
    vmlinux = kernel_types()
    vmlinux.write(tmp_path)
    own = Blob(vmlinux)
    number = own.enumeration("xfs_kind", {"XFS_KIND_A": 5})
    own.function("xfs_mount", 3, [("kind", number), ("count", 3)])
    own.write(tmp_path, "xfs")
    base = Btf(tmp_path)
    xfs = Btf(tmp_path, "xfs", base)
    assert str(xfs.prototype("xfs_mount")) == "unsigned int xfs_mount(enum xfs_kind kind, unsigned int count)"
    assert xfs.prototype("open_ctree") is not None
    assert base.prototype("xfs_mount") is None
    assert xfs.enumerator("XFS_KIND_A") == 5
    assert xfs.enumerator("BCH_ERR_START") is None, "a module's own types are searched, the kernel's by the kernel's"
    assert access_to(xfs, "xfs_mount", "kind").enum_id == number
    xfs.close()
    xfs.close()


# ---------------------------------------------------------------- functions and enumerators


@pytest.mark.parametrize(
    "text",
    [
        "int open_ctree(struct bio * bio, gfp_t flags, char * class, long int count)",
        "void bch2_free(struct bvec_iter iter, subvol_inum_t inum, unsigned int rest, long unsigned int late, "
        "u16 more)",
        "long int __do_sys_getpid(struct pt_regs * regs)",
        "void * bch2_alloc(struct bpos * pos, struct odd * odd, struct bits * bits)",
    ],
)
def test_prototypes(types: Btf, text: str) -> None:
    function = text.split("(")[0].split()[-1]
    assert str(types.prototype(function)) == text
    assert types.prototype(f"{function}_not") is None


def test_enumerators(types: Btf) -> None:
    assert types.enum("bch_errcode") == {"BCH_ERR_START": 2048, "BCH_ERR_ENOSPC_disk_reservation": 2160}
    assert types.enum("level") == {"LOW": -3, "HIGH": 7}
    assert types.enum("wide") == {"WIDE_ALL": -1, "WIDE_TOP": 1 << 40}
    assert types.enum("bio") == types.enum("nothing") == {}
    assert types.enumerator("HIGH") == 7
    assert types.enumerator("WIDE_ALL") == -1
    assert types.enumerator("bio") is None


def test_members(types: Btf) -> None:
    assert types.member("task_struct", "flags") == 44
    assert types.member("bio", "handle") == 32
    with pytest.raises(InjectError, match="this kernel's struct bio has no wings"):
        types.member("bio", "wings")
    with pytest.raises(InjectError, match="this kernel's struct bird has no wings"):
        types.member("bird", "wings")


# ---------------------------------------------------------------- paths

ACCESSES = {
    # in a register
    ("open_ctree", "bio"): Access(0, (), 8, 0, 64, False, False),
    ("open_ctree", "flags"): Access(1, (), 4, 0, 32, False, False),
    ("open_ctree", "class"): Access(2, (), 8, 0, 64, False, True),
    ("open_ctree", "count"): Access(3, (), 8, 0, 64, True, False),
    # through pointers
    ("open_ctree", "bio.bi_next"): Access(0, (0,), 8, 0, 64, False, False),
    ("open_ctree", "bio.bi_bdev.bd_dev"): Access(0, (8, 8), 4, 0, 32, False, False),
    ("open_ctree", "bio.bi_iter.bi_size"): Access(0, (24,), 4, 0, 32, False, False),
    ("open_ctree", "bio.bi_iter.bi_idx"): Access(0, (28,), 4, 0, 32, True, False),
    ("open_ctree", "bio.number"): Access(0, (32,), 8, 0, 64, False, False),
    ("open_ctree", "bio.handle.bd_start"): Access(0, (32, 0), 8, 0, 64, False, False),
    ("open_ctree", "bio.name"): Access(0, (40,), 8, 0, 64, False, True),
    # packed: the member where it stands, not the word that it would stand in
    ("bch2_alloc", "pos.offset"): Access(0, (4,), 8, 0, 64, False, False),
    ("bch2_alloc", "pos.inode"): Access(0, (12,), 8, 0, 64, False, False),
    ("bch2_alloc", "odd.count"): Access(1, (1,), 4, 0, 32, False, False),
    ("bch2_alloc", "odd.cell"): Access(1, (5,), 8, 0, 64, False, False),
    # bit fields
    ("bch2_alloc", "bits.low"): Access(2, (0,), 4, 0, 3, False, False),
    ("bch2_alloc", "bits.high"): Access(2, (0,), 4, 3, 7, True, False),
    ("bch2_alloc", "bits.second"): Access(2, (4,), 4, 0, 32, False, False),
    ("bch2_alloc", "bits.across"): Access(2, (11,), 4, 4, 8, False, False),
    ("bch2_alloc", "bits.late"): Access(2, (8,), 8, 6, 20, False, False),
    # structures by value: one register or two, or the stack
    ("bch2_free", "iter.bi_sector"): Access(0, (), 8, 0, 64, False, False),
    ("bch2_free", "iter.bi_size"): Access(1, (), 4, 0, 32, False, False),
    ("bch2_free", "iter.bi_idx"): Access(1, (), 4, 32, 32, True, False),
    ("bch2_free", "inum.inum"): Access(3, (), 8, 0, 64, False, False),
    ("bch2_free", "rest"): Access(4, (), 4, 0, 32, False, False),
    ("bch2_free", "late"): Access(5, (), 8, 0, 64, False, False),
    ("weak_one", "key.k.low"): Access(0, (0,), 4, 0, 3, False, False),
    ("weak_one", "key.v.bi_bdev.bd_dev"): Access(1, (8, 8), 4, 0, 32, False, False),
    ("large_one", "after"): Access(0, (), 4, 0, 32, False, False),
    ("huge_one", "first"): Access(0, (), 8, 0, 64, False, False),
    ("huge_one", "later"): Access(4, (), 1, 0, 8, False, False),
    ("twin", "f"): Access(5, (), 8, 0, 64, False, False),
}


@pytest.mark.parametrize(("where", "access"), ACCESSES.items(), ids=[" ".join(key) for key in ACCESSES])
def test_access(types: Btf, where: tuple[str, str], access: Access) -> None:
    assert access_to(types, *where) == access


@pytest.mark.parametrize(
    ("function", "path", "values"),
    [
        ("weak_one", "err", {"BCH_ERR_START": 2048, "BCH_ERR_ENOSPC_disk_reservation": 2160}),
        ("weak_one", "level", {"LOW": -3, "HIGH": 7}),
        ("huge_one", "wide", {"WIDE_ALL": -1, "WIDE_TOP": 1 << 40}),
        ("bch2_alloc", "bits.level", {"LOW": -3, "HIGH": 7}),
    ],
)
def test_an_enum_brings_its_names(types: Btf, function: str, path: str, values: dict[str, int]) -> None:
    access = access_to(types, function, path)
    assert types.enum(access.enum_id) == values
    assert access.signed is (min(values.values()) < 0)


@pytest.mark.parametrize(
    ("function", "path", "said"),
    [
        ("no_such", "x", "the kernel's BTF does not describe no_such; its arguments cannot be tested"),
        ("open_ctree", "flag", "open_ctree has no parameter flag; did you mean flags?"),
        ("open_ctree", "zzz", "open_ctree has no parameter zzz; it has bio, flags, class, count"),
        ("open_ctree", "bio.bi_dev", "struct bio has no member bi_dev; did you mean bi_bdev"),
        ("open_ctree", "bio.handl", "struct bio has no member handl; did you mean handle?"),
        ("open_ctree", "bio.bi_bdev.x", "struct block_device has no member x; it has bd_start, bd_dev"),
        ("open_ctree", "flags.x", "gfp_t has no members, so flags.x cannot be followed at x"),
        ("open_ctree", "bio.bi_next.x", "void * has no members, so bio.bi_next.x cannot be followed at x"),
        ("open_ctree", "bio.bi_iter", "bio.bi_iter is a struct bvec_iter, not a value; it has bi_sector, bi_size"),
        ("open_ctree", "bio.tag", "bio.tag is an embedded string; only strings behind a pointer"),
        ("open_ctree", "bio.links", "bio.links is an array; name one of its members"),
        ("bch2_free", "inum", "inum is a subvol_inum_t, not a value; it has subvol, inum"),
        ("bch2_free", "more", "more is parameter 5 of bch2_free and comes on the stack; only what comes in the 6"),
        ("weak_one", "pos.offset", "pos is parameter 1 of weak_one and comes on the stack"),
        ("weak_one", "odd.cell", "odd is parameter 2 of weak_one and comes on the stack"),
        ("large_one", "large.first", "large is parameter 1 of large_one and comes on the stack"),
        ("twin", "g", "g is parameter 7 of twin and comes on the stack"),
        ("twin", "huge", "huge is parameter 8 of twin and comes on the stack"),
        ("huge_one", "huge", "huge has 16 bytes; values of up to 8 bytes can be tested"),
        ("__do_sys_getpid", "regs.ax", "has no members, so regs.ax cannot be followed at ax"),
    ],
)
def test_a_path_that_leads_nowhere(types: Btf, function: str, path: str, said: str) -> None:
    assert said in refused(types, function, path)


def test_a_field_across_nine_bytes(tmp_path: Path) -> None:
    blob = Blob()
    number = blob.integer("u64", 8)
    record = blob.structure("record", 16, [("pad", number, 0, 4), ("field", number, 4, 62)])
    blob.function("f", 0, [("record", blob.to(record))])
    blob.write(tmp_path)
    assert refused(Btf(tmp_path), "f", "record.field").startswith("record.field is a bit field across nine bytes")


def test_types_without_end_are_refused(tmp_path: Path) -> None:
    """A typedef of itself, which no compiler writes and a damaged file may hold."""
    blob = Blob()
    blob.to(1, module.TYPEDEF, "ouroboros")
    blob.function("f", 0, [("x", 1)])
    blob.write(tmp_path)
    types = Btf(tmp_path)
    assert types.spelling(1) == "ouroboros"
    assert "nests qualifiers without end" in refused(types, "f", "x")


def test_a_structure_that_holds_itself(tmp_path: Path) -> None:
    blob = Blob()
    blob.structure("", 8, [("", 1, 0)])
    pointer = blob.to(1)
    blob.function("f", 0, [("x", pointer)])
    blob.write(tmp_path)
    assert "has no member y" in refused(Btf(tmp_path), "f", "x.y")
