"""What probes can stand on, and how functions begin in memory."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.support.fake_kernel import build

ADDRESSES = """\
ffffffff81001000 open_ctree
ffffffff81003000 twin
ffffffff81003100 twin
ffffffff81004000 should_failslab.constprop.0
ffffffffc0001000 xfs_mount [xfs]
ffffffff81005000 bch2_alloc
"""


def test_blacklist_and_traceable(tmp_path: Path) -> None:
    kernel = build(tmp_path, traceable="open_ctree\nxfs_mount [xfs]\n")
    assert kernel.ftrace.blacklist == {"do_int3"}
    assert kernel.ftrace.traceable == {"open_ctree", "xfs_mount"}


ENABLED = """\
open_ctree (2) R   D   M \ttramp: ftrace_regs_caller+0x0/0x65 (call_direct_funcs+0x0/0x20)
\tdirect-->bpf_trampoline_6442537168+0x0/0x11b
xfs_mount [xfs] (1)     D   M \t
\tdirect-->bpf_trampoline_6442537169+0x0/0x11b
__do_sys_getpid (1)     D O M \t
bch2_alloc (1) R I     M \ttramp: 0xffffffffc0200000 (kprobe_ftrace_handler+0x0/0x1e0) ->ftrace_D+0x0/0x10
"""


def test_another_programs_trampoline(tmp_path: Path) -> None:
    """A kprobe's own is none; a module's function has its module behind it, a folded one perhaps its other name."""
    kernel = build(tmp_path, enabled=ENABLED)
    points = [kernel.points.find(name) for name in ("open_ctree", "xfs_mount", "__x64_sys_getpid", "bch2_alloc")]
    assert kernel.ftrace.with_trampoline(points) == points[:3]
    assert kernel.ftrace.with_trampoline([]) == []
    assert build(tmp_path / "other").ftrace.with_trampoline(points) == []


def test_traceable_by_address(tmp_path: Path) -> None:
    kernel = build(tmp_path, traceable_addrs=ADDRESSES)
    assert kernel.ftrace.traceable_at(r"(?:open_ctree|twin)") == {
        0xFFFFFFFF81001000: "open_ctree",
        0xFFFFFFFF81003000: "twin",
        0xFFFFFFFF81003100: "twin",
    }
    assert kernel.ftrace.traceable_at(r"xfs_\w+") == {0xFFFFFFFFC0001000: "xfs_mount"}
    assert kernel.ftrace.traceable_at(r"open") == {}


def test_traceable_by_address_from_the_names_alone(tmp_path: Path) -> None:
    """Linux before 6.5: a name that two functions share says nothing of the address."""
    kernel = build(tmp_path, traceable="open_ctree\ntwin\nxfs_mount [xfs]\n")
    found = kernel.ftrace.traceable_at(r"(?:open_ctree|twin|xfs_mount|bch2_alloc)")
    assert found == {0xFFFFFFFF81001000: "open_ctree", 0xFFFFFFFFC0001000: "xfs_mount"}


def core(address: int, data: bytes) -> bytes:
    """A /proc/kcore with one segment (Elf64_Ehdr, Elf64_Phdr in include/uapi/linux/elf.h)."""
    head = bytearray(64)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, 2)
    note = struct.pack("<IIQQQQQQ", 4, 0, 0, 0, 0, 1 << 20, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 0, 200, address, 0, len(data), len(data), 0)
    return (bytes(head) + note + load).ljust(200, b"\0") + data


def test_memory(tmp_path: Path) -> None:
    kernel = build(tmp_path, kcore=core(0xFFFFFFFF81000000, b"abcdefgh"))
    assert kernel.memory.read(0xFFFFFFFF81000002, 3) == b"cde"
    assert kernel.memory.read(0xFFFFFFFF81000006, 3) == b"", "past the segment"
    assert kernel.memory.read(0x1000, 1) == b""


def test_functions_that_align_their_frame(tmp_path: Path) -> None:
    """bch2_extent_fallocate() of 6.12 as gcc 14 begins it, a plain function after it, one that cannot be read."""
    aligning = bytes.fromhex("e8ab27a0ff 4c8d542408 4883e4f0 41ff72f8 55 4889e5".replace(" ", ""))
    plain = bytes.fromhex("e8ab27a0ff 55 4889e5".replace(" ", ""))
    start = 0xFFFFFFFF81000000
    memory = aligning.ljust(64, b"\x90") + plain.ljust(64, b"\x90")
    kernel = build(tmp_path, kcore=core(start, memory))
    assert kernel.ftrace.realigned([start + 64, start, 0xFFFFFFFFC0000000]) == {start}
    assert build(tmp_path / "other").ftrace.realigned([start]) == set()


@pytest.mark.parametrize("broken", [None, b"", b"ELF", core(0, b"")[:100]])
def test_memory_that_cannot_be_read(tmp_path: Path, broken: bytes | None) -> None:
    assert build(tmp_path, kcore=broken).memory.read(0xFFFFFFFF81000000, 4) == b""


def test_traceable_through_debugfs(tmp_path: Path) -> None:
    kernel = build(tmp_path, traceable=None)
    where = tmp_path / "sys/kernel/debug/tracing/available_filter_functions"
    where.parent.mkdir(parents=True)
    where.write_text("only_here\n")
    assert kernel.ftrace.traceable == {"only_here"}
