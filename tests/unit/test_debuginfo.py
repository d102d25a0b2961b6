"""Symbols of stock kernels for gdb: found, or what would be downloaded is said; never downloaded unasked."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from inject.cli import cli, in_guest, vm
from inject.errors import CannotRun, InjectError
from inject.vm import attach
from inject.vm.build import artifacts, debian, debuginfo, image, override, stock
from inject.vm.build.cache import Cache, Entry
from inject.vm.gdb.diversions import OVERRIDE, RETURNING, Diversions
from inject.vm.gdb.rsp import Wire
from inject.vm.gdb.symbols import Symbols
from tests.support import ROOT
from tests.unit.test_stock import RELEASE, fill, fill_module, write_program

BANNER = b"HdrS\0" + RELEASE.encode() + b" (builder@host) #1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-12)\0"
PACKAGE = f"linux-image-{RELEASE}-dbg"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """With a stock kernel, its module and an image."""
    monkeypatch.setenv("INJECT_CACHE", str(tmp_path / "cache"))
    found = Cache(tmp_path / "cache")
    fill(found, image.KIND, image.key(), image.ROOTFS)
    with found.building(stock.KIND, stock.key("stock"), lambda _: None) as staging:
        for name in stock.ARTEFACTS:
            (staging.path / name).write_bytes(BANNER if name == "bzImage" else b"x")
        staging.publish({"release": RELEASE})
    fill_module(found, stock.KIND, stock.key("stock"), override.FILE)
    return found


def entry(cache: Cache) -> Entry:
    found = cache.find(stock.KIND, stock.key("stock"))
    assert found is not None
    return found


def with_symbols(cache: Cache) -> None:
    names = (debuginfo.VMLINUX, debuginfo.SYSTEM_MAP, debuginfo.SCRIPT)
    fill(cache, debuginfo.KIND, debuginfo.key(entry(cache)), *names, release=RELEASE)


# ---------------------------------------------------------------- finding and saying


@pytest.mark.parametrize(
    "words", [("exec", "--gdb", "--", "true"), ("fail", "--gdb", "f", "--", "x"), ("shell", "--gdb")]
)
def test_gdb_says_what_it_would_download_and_boots_nothing(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(debian, "run", lambda *_, **__: pytest.fail("something is downloaded"))
    monkeypatch.setattr(attach, "vm_exec", lambda *_, **__: pytest.fail("a guest is booted"))
    monkeypatch.setattr(attach, "vm_shell", lambda *_, **__: pytest.fail("a guest is booted"))
    done = CliRunner().invoke(cli, ["vm", words[0], "--kernel", "stock", *words[1:]])
    assert isinstance(done.exception, CannotRun)
    assert str(done.exception) == (
        f"gdb needs the symbols of kernel {RELEASE}, which are not here: Debian has them in {PACKAGE} (about 1 GB);"
        " `inject vm build --kernel stock --symbols` downloads it; --kernel test has symbols of its own"
    )


def test_symbols_that_are_there_are_used(cache: Cache) -> None:
    without = artifacts.find("stock")
    assert without is not None and without.vmlinux is None
    with pytest.raises(CannotRun):
        artifacts.require_symbols("stock", without)
    with_symbols(cache)
    found = artifacts.find("stock")
    assert found is not None and found.vmlinux is not None and found.vmlinux.name == "vmlinux"
    artifacts.require_symbols("stock", found)
    assert artifacts.symbols("stock") == found.vmlinux, "it is not downloaded again"


def test_each_kernel_has_symbols_of_its_own(cache: Cache) -> None:
    mine = debuginfo.key(entry(cache))
    fill(cache, stock.KIND, stock.key("stock:6.1"), *stock.ARTEFACTS, release="6.1.0-50-amd64")
    other = cache.find(stock.KIND, stock.key("stock:6.1"))
    assert other is not None and debuginfo.key(other) != mine


def test_a_stop_at_an_injection_needs_another_kernel(cache: Cache) -> None:
    done = CliRunner().invoke(cli, ["vm", "fail", "--kernel", "stock", "f", "--stop-on-injection", "--", "x"])
    assert isinstance(done.exception, CannotRun)
    assert "Debian's kernels do not have; use --kernel test" in str(done.exception)


def test_without_a_kernel_the_stop_gets_the_one_that_can(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ready(flavour: str, *_: Any, **__: Any) -> Any:
        asked.append(flavour)
        raise InjectError("enough")

    monkeypatch.setattr(vm, "ready_artifacts", ready)
    monkeypatch.setattr(in_guest, "ready_artifacts", ready)
    CliRunner().invoke(cli, ["vm", "fail", "f", "--return", "-EIO", "--stop-on-injection", "--", "x"])
    CliRunner().invoke(cli, ["vm", "run", "--stop-on-injection", str(ROOT / "scenarios/smoke/mkdir.yaml")])
    CliRunner().invoke(cli, ["vm", "fail", "f", "--return", "-EIO", "--gdb", "--", "x"])
    assert asked == ["test", "test", "stock"]


# ---------------------------------------------------------------- the download


APT_CACHE = '#!/bin/sh\n[ "$2" = "$HAS" ] && printf "Package: x\\nSize: 1041404444\\n" || exit 100\n'


def fetched(cache: Cache, tmp_path: Path, has: str) -> tuple[str, str]:
    """What the hook downloads from an archive that has ``has``, and what it prints."""
    tools = tmp_path / "tools"
    tools.mkdir()
    write_program(tools / "apt-cache", APT_CACHE)
    write_program(tools / "apt-get", '#!/bin/sh\necho "$*" >"$LOG"\nexit 1\n')
    tree = debuginfo._tree(stock.chosen("stock"), entry(cache), tmp_path)
    (tmp_path / "root").mkdir()
    log = tmp_path / "log"
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "MMDEBSTRAP_APT_CONFIG": "", "HAS": has, "LOG": str(log)}
    done = subprocess.run(
        ["sh", "-c", tree.fetch, "exec", str(tmp_path / "root")], env=environment, capture_output=True, text=True
    )
    return (log.read_text() if log.exists() else ""), done.stdout


def test_package_and_size_are_said_before_the_download(cache: Cache, tmp_path: Path) -> None:
    asked, said = fetched(cache, tmp_path, f"{PACKAGE}=6.12.117-1")
    assert asked.split()[-2:] == ["download", f"{PACKAGE}=6.12.117-1"]
    assert said == f"== downloading {PACKAGE} 6.12.117-1, 1041 MB\n"


def test_a_version_that_is_gone_is_a_sentence(cache: Cache, tmp_path: Path) -> None:
    asked, said = fetched(cache, tmp_path, f"{PACKAGE}=6.12.120-1")
    assert asked == "" and said == f"Debian trixie has no {PACKAGE} 6.12.117-1\n"


def test_the_version_is_that_of_the_image(cache: Cache) -> None:
    assert debuginfo.version_of(entry(cache)) == "6.12.117-1"
    fill(cache, stock.KIND, stock.key("stock:7.3"), *stock.ARTEFACTS, release="7.3.4")
    other = cache.find(stock.KIND, stock.key("stock:7.3"))
    assert other is not None
    with pytest.raises(InjectError, match="does not say from which version"):
        debuginfo.version_of(other)


def test_what_is_unpacked_is_kept(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that Debian's package has, by the hook that looks for them."""

    def run(tree: debian.Tree, *_: Any, **__: Any) -> None:
        root = tmp_path / "root"
        for name in (
            f"boot/vmlinux-{RELEASE}",
            f"boot/System.map-{RELEASE}",
            f"lib/modules/{RELEASE}/kernel/fs/ext4/ext4.ko",
            f"lib/modules/{RELEASE}/kernel/drivers/md/dm-mod.ko.debug",
        ):
            file = root / "out/usr/lib/debug" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
        subprocess.run(["sh", "-c", tree.hooks[0], "exec", str(root)], check=True)
        assert not (root / "out").exists()
        shutil.move(root / "kept.tar", tree.hooks[1].split()[-1])

    monkeypatch.setattr(debian, "run", run)
    built = debuginfo.build("stock", entry(cache), cache, lambda _: None)
    assert set(built.manifest["files"]) == {"vmlinux", "System.map", "modules.gdb", "ext4.debug", "dm_mod.debug"}
    assert built.file("vmlinux").read_text() == f"boot/vmlinux-{RELEASE}"
    said = built.file("modules.gdb").read_text()
    assert "set $inject_has_dm_mod = 1\nset $inject_has_ext4 = 1\n" in said
    assert f"add-symbol-file {built.path}/%s.debug" in said
    assert debuginfo.find(entry(cache), cache) == built


# ---------------------------------------------------------------- gdb


@pytest.mark.parametrize(
    ("release", "base"),
    [("6.1.0-50-amd64", "core_layout.base"), ("6.12.117+deb13-amd64", "mem[0].base"), ("7.3.4-amd64", "mem[0].base")],
)
def test_gdb_takes_the_script(tmp_path: Path, release: str, base: str) -> None:
    text = debuginfo.script(release, tmp_path, ["ext4", "dm_mod"])
    assert f"(unsigned long)$module->{base}\n" in text
    file = tmp_path / "modules.gdb"
    file.write_text(text)
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    asked = ["gdb", "-batch", "-nx", "-x", str(file), "-ex", "help inject-modules", "-ex", "print $inject_has_ext4"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert "Read the symbols of the filesystem" in done.stdout and done.stdout.endswith("$1 = 1\n"), done
    assert done.stderr == ""


def test_a_kernel_without_the_two_functions_is_not_stopped() -> None:
    own, other = socket.socketpair()
    with own, other:
        other.settimeout(0)
        lacking = Diversions(Wire(own), Symbols("ffffffff81000000 T _text\n"))
        assert lacking.lacking.startswith(f"this kernel has no {OVERRIDE}()")
        lacking.set_breakpoints()
        assert lacking.stopped(b"1", wanted=True) is None and lacking.shown is None
        with pytest.raises(BlockingIOError):
            other.recv(1)
        both = Symbols(f"ffffffff81000000 T {OVERRIDE}\nffffffff81000010 T {RETURNING}\n")
        assert Diversions(Wire(own), both).lacking == ""
