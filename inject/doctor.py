"""Checks of what injection needs, each with a fix; and the versions for a bug report."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject import __version__
from inject.engine.bcc import remedy
from inject.errors import CannotRun, InjectError
from inject.kernel.files import DEBUGFS, MOUNT_DEBUGFS
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import (
    BY_MODULE,
    CONFIG,
    LOAD,
    MOUNT_SECURITYFS,
    OPTIONAL,
    Obstacle,
    of_addresses,
    of_lockdown,
    of_option,
    of_signatures,
    of_switches,
)
from inject.kernel.points import NoList
from inject.process.cgroup import require_first_namespace, writable_hierarchy
from inject.process.tool import run_tool

QEMU = "qemu-system-x86_64"
ABSENT = "not installed"
_VERSION_TIMEOUT = 10.0
"""Seconds for a program to print its version; measured 0.03."""


@dataclass(frozen=True)
class Check:
    """One item; ``ok`` None: it is missing, but only some work needs it."""

    name: str
    ok: Optional[bool]
    detail: str
    fix: str = ""
    here: bool = True
    """Whether injection in this kernel needs it; False: only guests (`inject vm`) do."""


def examine(kernel: Kernel) -> list[Check]:
    """Every item, in the order in which to fix them. Needs no root and changes nothing."""
    checks = [_root(), *_config(kernel), _debugfs(kernel), _points(kernel), _module(kernel)]
    checks += [_lockdown(kernel), _switches(kernel), _addresses(kernel)]
    checks += [_cgroup(kernel), _bcc(), _headers(kernel), _btf(kernel), _kmsg(kernel)]
    checks += [_program(QEMU, "qemu-system-x86"), _program("mmdebstrap", "mmdebstrap"), _kvm(kernel)]
    return checks


def can_inject(checks: list[Check]) -> bool:
    """True if `inject run` can work on this kernel."""
    return all(check.ok is not False for check in checks if check.here)


def can_boot_guests(checks: list[Check]) -> bool:
    """True if `inject vm` can work on this machine."""
    return all(check.ok is not False for check in checks if not check.here)


def _root() -> Check:
    if os.geteuid() == 0:
        return Check("root", True, "running as root")
    return Check("root", False, "not root", "run with sudo")


def _config(kernel: Kernel) -> list[Check]:
    if not kernel.config.options:
        return [Check("configuration", None, "this kernel does not show how it was built", "CONFIG_IKCONFIG_PROC=y")]
    checks = []
    spared = OPTIONAL | BY_MODULE if kernel.overrider else OPTIONAL
    for name, why in CONFIG:
        checks.append(_of(of_option(kernel, name), name, why, None if name in spared else False))
    return checks


def _of(obstacle: Optional[Obstacle], name: str, fine: str, missing: Optional[bool] = False) -> Check:
    """``fine`` is the detail if there is no obstacle, ``missing`` is ``ok`` if there is one."""
    if obstacle is None:
        return Check(name, True, fine)
    return Check(name, missing, obstacle.message, obstacle.fix)


def _debugfs(kernel: Kernel) -> Check:
    where = kernel.root / DEBUGFS
    try:
        mounted = any(where.iterdir())
    except PermissionError:
        return Check("debugfs", False, "readable by root only", "run with sudo")
    except OSError:
        mounted = False
    if mounted:
        return Check("debugfs", True, f"mounted on {where}")
    return Check("debugfs", False, "not mounted", MOUNT_DEBUGFS)


def _points(kernel: Kernel) -> Check:
    try:
        return Check("error-injectable functions", True, f"{len(kernel.points.all)} in the error-injection list")
    except NoList as error:
        return Check("error-injectable functions", None if kernel.overrider else False, error.message, error.hint)
    except CannotRun as error:
        return Check("error-injectable functions", False, error.message, error.hint)


def _module(kernel: Kernel) -> Check:
    found = kernel.overrider
    if found is None:
        stock = any(of_option(kernel, option) for option in BY_MODULE)
        what = "function" if stock else "function that is not marked ALLOW_ERROR_INJECTION"
        refused = of_signatures(kernel)
        if refused is not None:
            return Check("inject's module", None, f"not loaded, and {refused.message}", refused.fix)
        return Check("inject's module", None if stock else True, f"not loaded: it can fail any {what}", LOAD)
    kfunc = "kfunc, and " if found.kfunc else ""
    return Check("inject's module", True, f"loaded: any function can be failed, by {kfunc}probes of its own")


def _lockdown(kernel: Kernel) -> Check:
    if not kernel.lockdown and kernel.config.has("CONFIG_SECURITY_LOCKDOWN_LSM"):
        return Check("lockdown", None, "unknown: securityfs is not mounted", MOUNT_SECURITYFS)
    return _of(of_lockdown(kernel), "lockdown", kernel.lockdown or "not built in")


def _switches(kernel: Kernel) -> Check:
    return _of(next(iter(of_switches(kernel)), None), "probe switches", "ftrace and kprobes are on")


def _addresses(kernel: Kernel) -> Check:
    hidden = of_addresses(kernel, "`stack`, --trace, or a function with NOFAIL callers")
    return _of(hidden, "kernel addresses", "shown", None)


def _cgroup(kernel: Kernel) -> Check:
    proc = kernel.root / "proc/self"
    try:
        require_first_namespace(proc / "ns/cgroup")
        return Check("cgroup v2", True, f"mounted on {writable_hierarchy(proc / 'mountinfo')}")
    except CannotRun as error:
        return Check("cgroup v2", False, error.message, error.hint)
    except OSError as error:
        return Check("cgroup v2", False, f"cannot read {error.filename}: {error.strerror}", "mount -t proc none /proc")


def _bcc() -> Check:
    if importlib.util.find_spec("bcc") is None:
        return Check("bcc", False, f"{ABSENT} for this Python", remedy())
    return Check("bcc", True, "installed")


def _headers(kernel: Kernel) -> Check:
    build = kernel.root / f"lib/modules/{kernel.release}/build/include"
    packed = kernel.root / "sys/kernel/kheaders.tar.xz"
    if build.exists() or packed.exists():
        return Check("kernel headers", True, str(build if build.exists() else packed))
    return Check(
        "kernel headers",
        False,
        f"none for {kernel.release}, and bcc compiles against them",
        f"apt-get install linux-headers-{kernel.release}, or CONFIG_IKHEADERS=y",
    )


def _btf(kernel: Kernel) -> Check:
    if (kernel.root / "sys/kernel/btf/vmlinux").exists():
        return Check("BTF", True, "/sys/kernel/btf/vmlinux")
    return Check("BTF", None, "absent: arguments and BCH_ERR_* have no names", "CONFIG_DEBUG_INFO_BTF=y")


def _kmsg(kernel: Kernel) -> Check:
    if os.access(kernel.root / "dev/kmsg", os.R_OK | os.W_OK):
        return Check("kernel log", True, "/dev/kmsg")
    return Check("kernel log", False, "/dev/kmsg cannot be read and written", "run with sudo, outside a container")


def _program(name: str, package: str) -> Check:
    where = shutil.which(name)
    if where:
        return Check(name, True, where, here=False)
    return Check(name, False, ABSENT, f"apt-get install {package}", here=False)


def _kvm(kernel: Kernel) -> Check:
    if os.access(kernel.root / "dev/kvm", os.R_OK | os.W_OK):
        return Check(
            "KVM", True, "/dev/kvm can be opened; whether it boots a kernel shows at the first guest", here=False
        )
    return Check(
        "KVM", None, "no access: guests run under TCG, some ten times slower", "add yourself to group kvm", here=False
    )


# ---------------------------------------------------------------- versions


def versions(kernel: Kernel) -> list[tuple[str, str]]:
    """Name and version of everything whose version matters. Imports nothing that is slow and starts one program."""
    return [
        ("inject", __version__),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("kernel", f"{kernel.release or 'unknown'} ({os.uname().machine})"),
        ("bcc", _bcc_version()),
        ("QEMU", _qemu_version()),
    ]


def _bcc_version() -> str:
    """Version of bcc from the file of its package; importing it would load LLVM."""
    found = importlib.util.find_spec("bcc")
    if found is None:
        return f"{ABSENT} for this Python"
    for directory in found.submodule_search_locations or ():
        try:
            text = (Path(directory) / "version.py").read_text(errors="replace")
        except OSError:
            continue
        match = re.search(r"__version__\s*=\s*['\"]([^'\"]+)", text)
        if match:
            return match[1]
    return "installed, but does not say its version"


def _qemu_version() -> str:
    """Version of QEMU from the first line of its output."""
    try:
        done = run_tool([QEMU, "--version"], timeout=_VERSION_TIMEOUT)
    except InjectError:
        return ABSENT
    match = re.search(r"version (\S+(?: \([^)]*\))?)", done.output)
    return match[1] if match and done.code == 0 else f"{QEMU} {done.how()}"
