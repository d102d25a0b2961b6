"""Whether injection can work here, item by item, with the fix for each thing missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from typing import Optional

from inject.errors import CannotRun
from inject.kernel.files import DEBUGFS, MOUNT_DEBUGFS
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import CONFIG, OPTIONAL, Obstacle, of_lockdown, of_option


@dataclass(frozen=True)
class Check:
    """One item: ``ok`` None means that it is missing but only some work needs it."""

    name: str
    ok: Optional[bool]
    detail: str
    fix: str = ""
    here: bool = True
    """Whether it concerns faults in this kernel; False: only guests (`inject vm`)."""


def examine(kernel: Kernel) -> list[Check]:
    """Every item in the order in which one would mend them. Needs no root and changes nothing."""
    checks = [_root(), *_config(kernel), _debugfs(kernel), _points(kernel), _lockdown(kernel)]
    checks += [_cgroup(kernel), _bcc(), _headers(kernel), _btf(kernel), _kmsg(kernel)]
    checks += [_program("qemu-system-x86_64", "qemu-system-x86"), _program("mmdebstrap", "mmdebstrap"), _kvm(kernel)]
    return checks


def can_inject(checks: list[Check]) -> bool:
    """Whether `inject run` can work on this kernel."""
    return all(check.ok is not False for check in checks if check.here)


def can_boot_guests(checks: list[Check]) -> bool:
    """Whether `inject vm` can work on this machine."""
    return all(check.ok is not False for check in checks if not check.here)


def _root() -> Check:
    if os.geteuid() == 0:
        return Check("root", True, "running as root")
    return Check("root", False, "not root", "run with sudo")


def _config(kernel: Kernel) -> list[Check]:
    if not kernel.config.options:
        return [Check("configuration", None, "this kernel does not show how it was built", "CONFIG_IKCONFIG_PROC=y")]
    checks = []
    for name, why in CONFIG:
        checks.append(_of(of_option(kernel, name), name, why, None if name in OPTIONAL else False))
    return checks


def _of(obstacle: Optional[Obstacle], name: str, fine: str, missing: Optional[bool] = False) -> Check:
    """``fine`` is what is said where there is no obstacle, ``missing`` how bad it is where there is one."""
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
        return Check("tagged functions", True, f"{len(kernel.points.all)} in the error-injection list")
    except CannotRun as error:
        return Check("tagged functions", False, error.message, error.hint)


def _lockdown(kernel: Kernel) -> Check:
    return _of(of_lockdown(kernel), "lockdown", kernel.lockdown or "not built in")


def _cgroup(kernel: Kernel) -> Check:
    if (kernel.root / "sys/fs/cgroup/cgroup.controllers").exists():
        return Check("cgroup v2", True, "mounted on /sys/fs/cgroup")
    return Check("cgroup v2", False, "not mounted", "mount -t cgroup2 none /sys/fs/cgroup")


def _bcc() -> Check:
    if importlib.util.find_spec("bcc") is None:
        return Check("bcc", False, "not installed for this Python", "apt-get install python3-bpfcc")
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
    return Check(name, False, "not installed", f"apt-get install {package}", here=False)


def _kvm(kernel: Kernel) -> Check:
    if os.access(kernel.root / "dev/kvm", os.R_OK | os.W_OK):
        return Check("KVM", True, "/dev/kvm is there; whether it boots a kernel shows at the first guest", here=False)
    return Check(
        "KVM", None, "no access: guests run under TCG, some ten times slower", "add yourself to group kvm", here=False
    )
