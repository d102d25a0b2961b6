"""What a kernel is, how it was built and its state, from files that look like its /proc and /sys."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from inject.kernel.config import SLOWEST
from inject.kernel.kernel import Kernel
from tests.support.fake_kernel import CONFIG, RELEASE, build


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


@pytest.mark.parametrize(
    ("line", "slowness"), [("CONFIG_KASAN_GENERIC=y", SLOWEST), ("CONFIG_KASAN_HW_TAGS=y", 1), ("CONFIG_KASAN=y", 1)]
)
def test_kernels_that_check_each_access_get_more_time(tmp_path: Path, line: str, slowness: int) -> None:
    packed = gzip.compress(f"{CONFIG}{line}\n".encode(), mtime=0)
    assert build(tmp_path, config=packed).config.slowness == slowness


@pytest.mark.parametrize("where", [f"boot/config-{RELEASE}", f"lib/modules/{RELEASE}/build/.config"])
@pytest.mark.parametrize("packed", [None, b"", b"not gzip", gzip.compress(CONFIG.encode(), mtime=0)[:40]])
def test_configuration_from_elsewhere(tmp_path: Path, where: str, packed: bytes | None) -> None:
    kernel = build(tmp_path, config=packed)
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / where).write_text("CONFIG_OTHER=y\n")
    assert kernel.config.options == {"CONFIG_OTHER": "y"}


def test_is_emulated(tmp_path: Path) -> None:
    assert not build(tmp_path / "a").is_emulated()
    assert build(tmp_path / "b", cpuinfo="model name\t: QEMU TCG CPU version 2.5+\n").is_emulated()


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
    ("cmdline", "guest"),
    [
        ("console=ttyS0 init=/sbin/inject-init quiet\n", True),
        ("root=/dev/vda1 ro quiet\n", False),
        ("init=/sbin/inject-init-not\n", False),
    ],
)
def test_only_a_guest_of_inject_is_one(tmp_path: Path, cmdline: str, guest: bool) -> None:
    """Another virtual machine is a machine: `scope: any` needs --allow-any there."""
    kernel = build(tmp_path, cpuinfo="flags\t\t: fpu hypervisor sse\n")
    (tmp_path / "proc/cmdline").write_text(cmdline)
    assert kernel.is_guest() is guest
