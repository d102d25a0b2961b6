"""Each thing that can be missing has its own line, with the fix for it."""

from __future__ import annotations

import gzip
import importlib.machinery
import importlib.util
import os
from pathlib import Path
from typing import Any, Optional

import pytest

from inject import doctor
from inject.doctor import OPTIONAL, Check, can_boot_guests, can_inject, examine
from inject.engine import bcc
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import BY_MODULE
from tests.support.fake_kernel import CONFIG, RELEASE, build


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user, programs and libraries with which nothing is missing; a folder for PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("qemu-system-x86_64", "mmdebstrap"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    library = tmp_path / "python"
    library.mkdir()
    (library / "bcc.py").touch()
    monkeypatch.syspath_prepend(library)
    return programs


def missing(kernel: Kernel) -> dict[str, Check]:
    """Every item that is not there, by its name."""
    return {check.name: check for check in examine(kernel) if check.ok is not True}


def test_lockdown_that_cannot_be_read_is_not_called_absent(tmp_path: Path) -> None:
    options = CONFIG + "CONFIG_SECURITY_LOCKDOWN_LSM=y\n"
    for text, ok, said in (("", None, "unknown: securityfs"), ("[none] integrity confidentiality", True, "none")):
        kernel = build(tmp_path / said[:4], config=gzip.compress(options.encode()), lockdown=text)
        (found,) = (check for check in examine(kernel) if check.name == "lockdown")
        assert (found.ok, found.detail.startswith(said)) == (ok, True), found


def test_nothing_is_missing(ready: Path, tmp_path: Path) -> None:
    checks = examine(build(tmp_path / "root"))
    assert [check.name for check in checks if check.ok is not True] == []
    assert can_inject(checks) and can_boot_guests(checks)
    assert len({check.name for check in checks}) == len(checks) >= 20


V1 = """\
25 20 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
30 25 0:27 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
"""
READ_ONLY = "29 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n"


def test_a_hybrid_hierarchy_is_found(ready: Path, tmp_path: Path) -> None:
    """Where run finds it: beside version 1."""
    hybrid = V1 + "31 25 0:28 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw\n"
    checks = {check.name: check for check in examine(build(tmp_path / "root", mountinfo=hybrid))}
    assert checks["cgroup v2"] == Check("cgroup v2", True, "mounted on /sys/fs/cgroup/unified")


def test_a_namespace_is_said(ready: Path, tmp_path: Path) -> None:
    kernel = build(tmp_path / "root")
    (tmp_path / "root/proc/self/ns").mkdir()
    (tmp_path / "root/proc/self/ns/cgroup").touch()
    assert missing(kernel)["cgroup v2"].fix.endswith("--cgroupns=host")


ITEMS: list[tuple[str, dict[str, Any], Optional[bool], str, str]] = [
    ("debugfs", {"list": None, "blacklist": None}, False, "not mounted", "mount -t debugfs none /sys/kernel/debug"),
    (
        "error-injectable functions",
        {"list": None},
        False,
        "this kernel has no list",
        "CONFIG_FUNCTION_ERROR_INJECTION=y",
    ),
    (
        "lockdown",
        {"lockdown": "none integrity [confidentiality]"},
        False,
        "kernel lockdown (confidentiality) forbids probes",
        "boot with lockdown=none or integrity",
    ),
    ("cgroup v2", {"mountinfo": ""}, False, "no cgroup v2", "mount -t cgroup2 none /sys/fs/cgroup"),
    (
        "cgroup v2",
        {"mountinfo": V1},
        False,
        "no cgroup v2",
        "mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2",
    ),
    ("cgroup v2", {"mountinfo": READ_ONLY}, False, "read-only", "mount -o remount,rw /sys/fs/cgroup"),
    ("cgroup v2", {"mountinfo": None}, False, "cannot read", "mount -t proc"),
    ("probe switches", {"kprobe_switch": "0"}, False, "kprobes are switched off", "echo 1 >"),
    ("kernel headers", {"headers": None}, False, f"none for {RELEASE}", f"apt-get install linux-headers-{RELEASE}"),
    ("BTF", {"btf": None}, None, "absent: arguments", "CONFIG_DEBUG_INFO_BTF=y"),
    ("kernel log", {"kmsg": None}, False, "/dev/kmsg cannot be read and written", "run with sudo"),
    ("KVM", {"kvm": None}, None, "some ten times slower", "add yourself to group kvm"),
    ("configuration", {"config": None}, None, "does not show how it was built", "CONFIG_IKCONFIG_PROC=y"),
]


@pytest.mark.parametrize(("name", "changes", "ok", "detail", "fix"), ITEMS, ids=[item[0] for item in ITEMS])
def test_a_missing_item(
    ready: Path, tmp_path: Path, name: str, changes: dict[str, Any], ok: Optional[bool], detail: str, fix: str
) -> None:
    found = missing(build(tmp_path / "root", **changes))
    assert found[name].ok is ok
    assert detail in found[name].detail
    assert fix in found[name].fix
    with_it = {"debugfs": {"error-injectable functions"}, "lockdown": {"inject's module"}}
    assert set(found) - {name} <= with_it.get(name, set())
    checks = list(found.values())
    assert can_inject(checks) is (ok is None)
    assert can_boot_guests(checks)


@pytest.mark.parametrize("option", [name for name, _ in doctor.CONFIG])
def test_a_missing_option(ready: Path, tmp_path: Path, option: str) -> None:
    without = gzip.compress(CONFIG.replace(f"{option}=y", f"# {option} is not set").encode())
    found = missing(build(tmp_path / "root", config=without))
    assert list(found) == [option, *["inject's module"] * (option in BY_MODULE)]
    assert found[option].ok is (None if option in OPTIONAL else False)
    assert found[option].detail.startswith(f"this kernel was built without {option}, which ")
    assert found[option].fix.endswith(f"build the kernel with {option}=y, or use `inject vm run`")
    assert ("inject module load" in found[option].fix) == (option in BY_MODULE)
    assert can_inject(list(found.values())) is (option in OPTIONAL)


@pytest.mark.parametrize(
    ("program", "package"), [("qemu-system-x86_64", "qemu-system-x86"), ("mmdebstrap", "mmdebstrap")]
)
def test_a_missing_program(ready: Path, tmp_path: Path, program: str, package: str) -> None:
    (ready / program).unlink()
    found = missing(build(tmp_path / "root"))
    assert found == {program: Check(program, False, "not installed", f"apt-get install {package}", here=False)}
    assert can_inject(list(found.values()))
    assert not can_boot_guests(list(found.values()))


def test_no_root(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = missing(build(tmp_path / "root"))
    assert found == {"root": Check("root", False, "not root", "run with sudo")}


def test_no_bcc(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def hidden(name: str, package: Optional[str] = None) -> Optional[importlib.machinery.ModuleSpec]:
        return None if name == "bcc" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    monkeypatch.setattr(bcc, "DIST_PACKAGES", tmp_path)
    found = missing(build(tmp_path / "root"))
    assert found == {"bcc": Check("bcc", False, "not installed for this Python", "apt-get install python3-bpfcc")}


def test_headers_inside_the_kernel_are_enough(ready: Path, tmp_path: Path) -> None:
    kernel = build(tmp_path / "root", headers=None)
    (tmp_path / "root/sys/kernel/kheaders.tar.xz").touch()
    assert missing(kernel) == {}


def test_a_closed_debugfs_asks_for_root(powerless: Path) -> None:
    kernel = build(powerless)
    where = powerless / "sys/kernel/debug"
    where.chmod(0)
    try:
        found = missing(kernel)
    finally:
        where.chmod(0o755)
    assert found["debugfs"] == Check("debugfs", False, "readable by root only", "run with sudo")
    assert found["error-injectable functions"].fix == "run with sudo"
    assert found["root"].fix == "run with sudo"


def test_a_bare_machine_has_many_lines_and_no_traceback(ready: Path, tmp_path: Path) -> None:
    found = missing(Kernel(tmp_path / "nowhere"))
    assert {"configuration", "debugfs", "error-injectable functions", "cgroup v2", "kernel headers", "BTF"} <= set(
        found
    )
    assert all(check.detail and check.fix and "\n" not in check.detail + check.fix for check in found.values())
