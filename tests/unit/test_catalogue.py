"""The table of all functions that can be failed, of a kernel whose text and types are written by hand."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import pytest

from inject.kernel.callers import Callers
from inject.kernel.catalogue import Catalogue, catalogue
from inject.kernel.functions import Functions
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.point import ErrorType
from tests.support.fake_kernel import CONFIG, build
from tests.support.raw_btf import SIGNED, Blob

TEXT, MODULE = 0xFFFFFFFF81000000, 0xFFFFFFFFC0001000
SYMBOLS = f"""\
{TEXT:x} T _stext
{TEXT:x} T user
{TEXT + 0x100:x} t nothing
{TEXT + 0x200:x} t by_err
{TEXT + 0x210:x} t by_null
{TEXT + 0x220:x} t by_both
{TEXT + 0x230:x} t marked_one
{TEXT + 0x240:x} t gone_put
{TEXT + 0x250:x} t twin
{TEXT + 0x260:x} t twin
{TEXT + 0x270:x} t do_int3
{TEXT + 0x280:x} t by_err.cold
{TEXT + 0x290:x} t odd_asm
{TEXT + 0x1000:x} T _etext
{TEXT + 0x1010:x} T _sinittext
{TEXT + 0x1080:x} t early_one
{TEXT + 0x1100:x} T _einittext
{MODULE:x} t xfs_user\t[xfs]
{MODULE + 0x80:x} t xfs_own\t[xfs]
"""
IS_ERR, NULL, IGNORED = (bytes.fromhex(code) for code in ("483d00f0ffff7700", "4885c07400", "31c0c3"))


def call(at: int, target: int, after: bytes) -> bytes:
    return b"\xe8" + struct.pack("<i", target - (at + 5)) + after


def kcore(*segments: tuple[int, bytes]) -> bytes:
    """An ELF file with these segments of memory."""
    table, body = b"", b""
    for address, data in segments:
        table += struct.pack("<IIQQQQQQ", 1, 5, 0x1000 + len(body), address, 0, len(data), len(data), 4096)
        body += data
    header = b"\x7fELF" + bytes(28) + struct.pack("<Q", 64) + bytes(14) + struct.pack("<HH", 56, len(segments))
    return (header.ljust(64, b"\0") + table).ljust(0x1000, b"\0") + body


def text() -> bytes:
    code = bytearray(b"\xcc" * 0x1000)
    at = 0
    for target, after in (
        *[(0x200, IS_ERR)] * 3,
        (0x210, NULL),
        (0x220, NULL),
        (0x220, IS_ERR),
        (0x230, IGNORED),
        (0x240, IGNORED),
    ):
        part = call(TEXT + at, TEXT + target, after)
        code[at : at + len(part)] = part
        at += 0x18
    code[0x100:0x105] = call(TEXT + 0x100, TEXT + 0x200, b"").replace(b"\xe8", b"\xe9", 1)  # a tail call
    return bytes(code)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setenv("INJECT_CACHE", str(tmp_path / "cache"))
    blob = Blob()
    s32 = blob.integer("int", 4, SIGNED)
    pointer = blob.to(0)
    for name in ("by_err", "by_null", "by_both"):
        blob.function(name, pointer, [("of", s32)])
    for name in ("marked_one", "gone_put", "user", "twin", "do_int3", "gone", "early_one"):
        blob.function(name, s32, [])
    blob.function("nothing", 0, [])
    module = Blob(blob)
    for name in ("xfs_own", "xfs_user"):
        module.function(name, pointer, [])
    root = tmp_path / "root"
    blob.write(root)
    module.write(root, "xfs")
    own = bytearray(b"\xcc" * 0x1080)
    for at, target, after in ((0, MODULE + 0x80, NULL), (0x20, TEXT + 0x200, IGNORED)):
        part = call(MODULE + at, target, after)
        own[at : at + len(part)] = part
    return build(
        root,
        kallsyms=SYMBOLS,
        btf=None,
        list="marked_one\tERRNO\n",
        traceable="".join(f"{name}\n" for name in ("by_err", "by_null", "by_both", "marked_one", "user", "xfs_own")),
        modules="xfs 2400000 1 - Live 0xffffffffc0001000\n",
        config=gzip.compress(f"{CONFIG}CONFIG_X86_64=y\n".encode()),
        kcore=kcore((TEXT, text()), (MODULE, bytes(own))),
        blacklist=f"0x{TEXT + 0x270:x}-0x{TEXT + 0x280:x}\tdo_int3\n",
    )


def found(kernel: Kernel, pattern: str = "*") -> Catalogue:
    return catalogue(kernel, Types(kernel), pattern)


def test_what_can_be_failed_and_what_its_callers_do(kernel: Kernel) -> None:
    table = found(kernel)
    assert table.callers_unknown == ""
    rows = {one.point.function: (one.point.error_type, one.checks and one.checks.calls) for one in table.entries}
    assert rows == {
        "marked_one": (ErrorType.ERRNO, 1),
        "by_both": (ErrorType.ERRNO_NULL, 2),
        "by_err": (ErrorType.ERRNO, 5),
        "by_null": (ErrorType.NULL, 1),
        "gone_put": (ErrorType.ERRNO, 1),
        "user": (ErrorType.ERRNO, 0),
        "xfs_own": (ErrorType.NULL, 1),
        "xfs_user": (ErrorType.ERRNO_NULL, 0),
    }
    by_err = next(one for one in table.entries if one.point.function == "by_err")
    assert by_err.prototype == "void * by_err(int of)" and by_err.ftrace and not by_err.point.marked
    assert by_err.checks is not None
    assert (by_err.checks.checked, by_err.checks.is_err, by_err.checks.returned, by_err.checks.ignored) == (3, 3, 0, 2)
    assert table.entries[0].point.function == "marked_one", "marked ones first"
    unsafe = [one.point.function for one in table.entries if one.unsafe]
    assert unsafe == ["gone_put"]
    assert [one.point.function for one in table.entries if not one.ftrace] == ["gone_put", "xfs_user"]


def test_what_cannot_be_failed_is_counted(kernel: Kernel) -> None:
    assert found(kernel).left_out == {
        "return nothing": 1,
        "share their name": 2,
        "are on the kprobe blacklist": 1,
        "are of the kernel's start (__init)": 2,  # _sinittext and early_one
        "are not described by BTF": 4,  # _stext, odd_asm, _etext and _einittext
        "are inlined everywhere": 1,
    }


def test_a_pattern_selects_both(kernel: Kernel) -> None:
    table = found(kernel, "by_*")
    assert [one.point.function for one in table.entries] == ["by_both", "by_err", "by_null"]
    assert table.left_out == {}
    assert found(kernel, "nothing").left_out == {"return nothing": 1}


def test_the_calls_in_vmlinux_are_kept(kernel: Kernel, tmp_path: Path) -> None:
    before = found(kernel)
    (kept,) = (tmp_path / "cache/callers").iterdir()
    assert kept.name == f"{kernel.build_id}.json"
    again = Kernel(kernel.root)
    assert found(again) == before
    table = json.loads(kept.read_text())
    table[str(0x200)][1] = 7
    kept.write_text(json.dumps(table))
    checks = next(one.checks for one in found(Kernel(kernel.root)).entries if one.point.function == "by_err")
    assert checks is not None and checks.is_err == 7, "it is what is kept"
    (one,) = found(Kernel(kernel.root), "by_err").entries
    assert one.checks == checks, "for a pattern, too"
    kept.write_text("damaged")
    assert found(Kernel(kernel.root)) == before


def test_a_single_function_is_decided_by_its_callers(kernel: Kernel) -> None:
    functions = Functions(kernel, Types(kernel))
    assert functions.find("by_err").error_type is ErrorType.ERRNO
    assert functions.find("by_null").error_type is ErrorType.NULL
    assert functions.find("by_both").error_type is ErrorType.ERRNO_NULL
    assert functions.find("xfs_own").error_type is ErrorType.NULL
    assert functions.find("by_err", force=True).error_type is ErrorType.ERRNO_NULL


def test_the_callers_of_one(kernel: Kernel) -> None:
    callers = Callers(kernel, Types(kernel))
    places = [(callers.name(site.caller), site.offset) for site in callers.of(TEXT + 0x200)]
    assert places == [("user", 0), ("user", 0x18), ("user", 0x30), ("nothing", 0), ("xfs_user", 0x20)]


def test_why_nothing_is_known_of_callers(kernel: Kernel) -> None:
    (kernel.root / "proc/kcore").write_bytes(b"")
    assert "cannot be read from /proc/kcore" in Callers(Kernel(kernel.root), Types(kernel)).unknown
    (kernel.root / "proc/kallsyms").write_text("0000000000000000 T _stext\n0000000000000000 t by_err\n")
    assert "hides the addresses" in Callers(Kernel(kernel.root), Types(kernel)).unknown
