"""What is read of a kernel, from files that look like its /proc and /sys."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from inject.errors import CannotRun
from inject.kernel import symbols as symbols_module
from inject.kernel.kernel import Kernel
from inject.kernel.symbols import KernelSymbol
from inject.model.point import ErrorType, FaultPoint
from tests.support.fake_kernel import CONFIG, RELEASE, build


def refusal(kernel: Kernel, function: str) -> tuple[str, str]:
    """Why ``function`` cannot be failed, and the hint."""
    with pytest.raises(CannotRun) as caught:
        kernel.points.find(function)
    assert "\n" not in str(caught.value)
    return caught.value.message, caught.value.hint


# ---------------------------------------------------------------- identity and configuration


def test_who_it_is(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.release == RELEASE
    assert kernel.build_id == "deadbeef"
    assert list(kernel.modules.loaded()) == ["xfs", "libcrc32c"]


@pytest.mark.parametrize("notes", [None, b"", b"GNU\0", b"no notes here", b"\x06\0\0\0\x04\0\0\0\0\1\0\0Linux\0\0\0"])
def test_no_build_id(tmp_path: Path, notes: bytes | None) -> None:
    assert build(tmp_path, notes=notes).build_id == ""


def test_an_empty_root_is_no_traceback(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    assert (kernel.release, kernel.build_id, kernel.config.options, kernel.lockdown) == ("", "", {}, "")
    symbols = kernel.symbols
    assert symbols.named("x") == symbols.functions("x*") == symbols.of_module("xfs") == symbols.text_addresses == []
    assert (symbols.names_at(4096), kernel.ftrace.blacklist, kernel.ftrace.traceable) == ((), frozenset(), frozenset())
    assert not kernel.oopsed() and not kernel.is_guest() and list(kernel.modules.loaded()) == []


def test_configuration(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.config.has("CONFIG_XFS_FS") and kernel.config.has("CONFIG_XFS_FS=m")
    assert not kernel.config.has("CONFIG_XFS_FS=y")
    assert kernel.config.has("CONFIG_DEFAULT_HOSTNAME=(none)")
    assert not kernel.config.has("CONFIG_KASAN") and not kernel.config.has("CONFIG_XFS")


@pytest.mark.parametrize("where", [f"boot/config-{RELEASE}", f"lib/modules/{RELEASE}/build/.config"])
@pytest.mark.parametrize("packed", [None, b"", b"not gzip", gzip.compress(CONFIG.encode(), mtime=0)[:40]])
def test_configuration_from_elsewhere(tmp_path: Path, where: str, packed: bytes | None) -> None:
    kernel = build(tmp_path, config=packed)
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / where).write_text("CONFIG_OTHER=y\n")
    assert kernel.config.options == {"CONFIG_OTHER": "y"}


# ---------------------------------------------------------------- symbols


def test_symbols_of_a_name(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.symbols.named("open_ctree") == [KernelSymbol("open_ctree", 0xFFFFFFFF81001000, "T")]
    assert kernel.symbols.named("weak_one")[0].kind == "W"
    assert [symbol.address for symbol in kernel.symbols.named("twin")] == [0xFFFFFFFF81003000, 0xFFFFFFFF81003100]
    assert kernel.symbols.named("xfs_mount") == [KernelSymbol("xfs_mount", 0xFFFFFFFFC0001000, "t", "xfs")]
    assert kernel.symbols.named("open") == kernel.symbols.named("ctree") == kernel.symbols.named("some_data") == []


def test_the_last_line_may_lack_its_end(tmp_path: Path) -> None:
    kernel = build(tmp_path, kallsyms="ffffffff81000000 T first\nffffffff81000010 T last")
    assert kernel.symbols.named("last") == [KernelSymbol("last", 0xFFFFFFFF81000010, "T")]
    assert kernel.symbols.named("first") == [KernelSymbol("first", 0xFFFFFFFF81000000, "T")]
    assert kernel.symbols.text_addresses == [0xFFFFFFFF81000000, 0xFFFFFFFF81000010]


def test_functions_by_glob_and_with_their_clones(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert [symbol.name for symbol in kernel.symbols.functions("bch2_*")] == ["bch2_alloc", "bch2_free"]
    assert [symbol.name for symbol in kernel.symbols.functions("xfs_*mount")] == ["xfs_mount", "xfs_umount"]
    assert [symbol.name for symbol in kernel.symbols.functions("should_failslab")] == ["should_failslab.constprop.0"]
    assert kernel.symbols.functions("bch2") == kernel.symbols.functions("bch2_counter") == []
    assert kernel.symbols.functions("nothing_*") == []


def test_symbols_of_a_module(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert [symbol.name for symbol in kernel.symbols.of_module("xfs")] == ["xfs_mount", "xfs_umount"]
    assert kernel.symbols.of_module("xf") == kernel.symbols.of_module("") == []


def test_folded_names(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.symbols.names_at(0xFFFFFFFF81002000) == ("__do_sys_getpid", "__x64_sys_getpid")
    assert kernel.symbols.names_at(0xFFFFFFFF81002001) == kernel.symbols.names_at(0) == ()


def test_text_addresses_are_of_text(tmp_path: Path) -> None:
    addresses = build(tmp_path).symbols.text_addresses
    assert addresses == sorted(set(addresses))
    assert 0xFFFFFFFFC0001100 in addresses and 0xFFFFFFFF81007000 not in addresses


def test_kallsyms_is_read_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols_module, "LIMIT", 60)
    assert build(tmp_path).symbols.named("bch2_alloc") == []


def test_blacklist_and_traceable(tmp_path: Path) -> None:
    kernel = build(tmp_path, traceable="open_ctree\nxfs_mount [xfs]\n")
    assert kernel.ftrace.blacklist == {"do_int3"}
    assert kernel.ftrace.traceable == {"open_ctree", "xfs_mount"}


ADDRESSES = """\
ffffffff81001000 open_ctree
ffffffff81003000 twin
ffffffff81003100 twin
ffffffff81004000 should_failslab.constprop.0
ffffffffc0001000 xfs_mount [xfs]
ffffffff81005000 bch2_alloc
"""


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


def test_addresses_of_data_too(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.symbols.addresses("bch2_counter") == [0xFFFFFFFF81008000]
    assert kernel.symbols.addresses("xfs_mount") == [0xFFFFFFFFC0001000]
    assert kernel.symbols.addresses("twin") == [0xFFFFFFFF81003000, 0xFFFFFFFF81003100]
    assert kernel.symbols.addresses("bch2_coun") == kernel.symbols.addresses("counter") == []


def test_is_emulated(tmp_path: Path) -> None:
    assert not build(tmp_path / "a").is_emulated()
    assert build(tmp_path / "b", cpuinfo="model name\t: QEMU TCG CPU version 2.5+\n").is_emulated()


def test_traceable_through_debugfs(tmp_path: Path) -> None:
    kernel = build(tmp_path, traceable=None)
    where = tmp_path / "sys/kernel/debug/tracing/available_filter_functions"
    where.parent.mkdir(parents=True)
    where.write_text("only_here\n")
    assert kernel.ftrace.traceable == {"only_here"}


# ---------------------------------------------------------------- fault points


def test_the_list(tmp_path: Path) -> None:
    points = build(tmp_path).points.all
    assert [(point.function, point.module, point.error_type.name) for point in points] == [
        ("__bch2_disk_reservation_add", "", "ERRNO"),
        ("__x64_sys_getpid", "", "ERRNO"),
        ("bch2_alloc", "", "ERRNO_NULL"),
        ("bch2_free", "", "NULL"),
        ("open_ctree", "", "ERRNO"),
        ("twin", "", "ERRNO"),
        ("weak_one", "", "TRUE"),
        ("xfs_mount", "xfs", "ERRNO"),
    ]


def test_a_point_has_its_address_and_all_its_names(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.points.find("open_ctree") == FaultPoint(
        "open_ctree", ErrorType.ERRNO, "", 0xFFFFFFFF81001000, ("open_ctree",)
    )
    assert kernel.points.find("xfs_mount").module == "xfs"


def test_a_folded_name_is_the_tagged_function(tmp_path: Path) -> None:
    point = build(tmp_path).points.find("__do_sys_getpid")
    assert (point.function, point.error_type) == ("__do_sys_getpid", ErrorType.ERRNO)
    assert point.names == ("__do_sys_getpid", "__x64_sys_getpid")


def test_hidden_addresses(tmp_path: Path) -> None:
    """As kptr_restrict shows them: all zero. The name still is on the list."""
    hidden = "".join(f"0000000000000000 T {name}\n" for name in ("open_ctree", "other", "twin", "twin"))
    kernel = build(tmp_path, kallsyms=hidden)
    assert kernel.points.find("open_ctree") == FaultPoint("open_ctree", ErrorType.ERRNO, "", 0, ("open_ctree",))
    assert refusal(kernel, "other")[0] == "other is not in this kernel"


def test_without_kallsyms_the_list_is_enough(tmp_path: Path) -> None:
    assert build(tmp_path, kallsyms=None).points.find("open_ctree").names == ("open_ctree",)


@pytest.mark.parametrize(
    ("function", "said", "hint"),
    [
        (
            "untagged_one",
            "untagged_one is not error-injectable",
            "ALLOW_ERROR_INJECTION(untagged_one, ERRNO)",
        ),
        ("twin", "2 functions are called twin", "tag a uniquely named function"),
        ("should_failslab", "should_failslab is not in this kernel", "only the clone should_failslab.constprop.0"),
        ("split_only", "split_only is not in this kernel", "it may be inlined"),
        ("open_ctre", "open_ctre is not in this kernel", "did you mean open_ctree?"),
        ("bch2_allo", "bch2_allo is not in this kernel", "did you mean bch2_alloc?"),
        ("nothing_like_it", "nothing_like_it is not in this kernel", "see `inject list`"),
        ("bch2_counter", "bch2_counter is not in this kernel", "it may be inlined"),
    ],
)
def test_why_there_is_no_such_point(tmp_path: Path, function: str, said: str, hint: str) -> None:
    message, advice = refusal(build(tmp_path), function)
    assert message == said
    assert hint in advice


def test_no_list_since_it_was_not_built(tmp_path: Path) -> None:
    plain = CONFIG.replace("CONFIG_FUNCTION_ERROR_INJECTION=y", "# CONFIG_FUNCTION_ERROR_INJECTION is not set")
    message, hint = refusal(build(tmp_path, config=gzip.compress(plain.encode()), list=None), "open_ctree")
    assert message == "this kernel was built without CONFIG_FUNCTION_ERROR_INJECTION"
    assert "CONFIG_BPF_KPROBE_OVERRIDE=y" in hint and "inject vm run" in hint


def test_no_list_since_debugfs_is_not_mounted(tmp_path: Path) -> None:
    kernel = build(tmp_path, list=None, blacklist=None)
    (tmp_path / "sys/kernel/debug").mkdir(parents=True, exist_ok=True)
    message, hint = refusal(kernel, "open_ctree")
    assert "debugfs" in message
    assert "mount -t debugfs none /sys/kernel/debug" in hint


def test_no_list_though_debugfs_is_mounted(tmp_path: Path) -> None:
    assert refusal(build(tmp_path, list=None, config=None), "open_ctree")[1].endswith(
        "CONFIG_FUNCTION_ERROR_INJECTION=y"
    )


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    kernel = build(tmp_path, list=None)
    (tmp_path / "sys/kernel/debug/error_injection/list").mkdir(parents=True)
    message, hint = refusal(kernel, "open_ctree")
    assert message.startswith("cannot read ") and message.endswith(": Is a directory")
    assert hint == "mount -t debugfs none /sys/kernel/debug"


@pytest.mark.parametrize("closed", ["", "error_injection"], ids=["debugfs", "folder"])
def test_not_being_root_is_said(powerless: Path, closed: str) -> None:
    """debugfs is mode 0700: without root not even the folder of the list can be looked into."""
    kernel = build(powerless)
    directory = powerless / "sys/kernel/debug" / closed
    directory.chmod(0)
    try:
        assert refusal(kernel, "open_ctree") == (
            "the list of injectable functions is readable by root only",
            "run with sudo",
        )
    finally:
        directory.chmod(0o755)


# ---------------------------------------------------------------- state


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        (None, ""),
    ],
)
def test_lockdown(tmp_path: Path, text: str | None, mode: str) -> None:
    assert build(tmp_path, lockdown=text).lockdown == mode


@pytest.mark.parametrize(("text", "oopsed"), [("0\n", False), ("128\n", True), ("640\n", True), ("512\n", False)])
def test_oopsed(tmp_path: Path, text: str, oopsed: bool) -> None:
    assert build(tmp_path, tainted=text).oopsed() is oopsed


def test_oopsed_is_asked_anew(tmp_path: Path) -> None:
    """All else is one moment of one kernel, but this changes between trials."""
    kernel = build(tmp_path)
    assert not kernel.oopsed()
    build(tmp_path, tainted="128\n")
    assert kernel.oopsed()


@pytest.mark.parametrize(
    ("flags", "guest"), [("fpu hypervisor sse", True), ("fpu sse", False), ("nohypervisor", False)]
)
def test_is_guest(tmp_path: Path, flags: str, guest: bool) -> None:
    assert build(tmp_path, cpuinfo=f"flags\t\t: {flags}\nbugs\t\t: hypervisor\n").is_guest() is guest
