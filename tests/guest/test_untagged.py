"""Functions without a mark, of vmlinux, of filesystems in it and in a module, clones, bool and pointer results.

Each by each way of inject's module, with the errno that user space gets. `pytest -rP` prints the table.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import pytest

from inject.engine.engine import Engine
from inject.fixture.devices import scratch_disks
from inject.fixture.modules import load as load_filesystem
from inject.kernel.functions import Functions
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.point import ErrorType
from inject.model.scenario import Probe
from inject.process.cgroup import Cgroup
from tests.guest.test_engine import in_group
from tests.guest.test_override import plan, result_of
from tests.support.workbench import guest_only, module_ways

pytestmark = [guest_only, pytest.mark.slow]

MOUNTED = Path("/tmp/untagged")
"""ext4 on a scratch disk; /tmp itself is a tmpfs."""


@dataclass(frozen=True)
class Case:
    """A function, and a system call that ends in ``expected`` if it returns ``returns``."""

    what: str
    function: str
    kind: ErrorType
    returns: str
    work: Callable[[], object]
    expected: int

    def __str__(self) -> str:
        return f"{self.what}-{self.function}"


def opened(path: Path) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT))


ERRNO, BOOL, NULL, BOTH = ErrorType.ERRNO, ErrorType.BOOL, ErrorType.NULL, ErrorType.ERRNO_NULL
CASES = (
    Case("vmlinux", "vfs_statx", ERRNO, "-ELOOP", lambda: Path("/etc").stat(), errno.ELOOP),
    Case("vmlinux-pointer", "alloc_empty_file", ERRNO, "-ENFILE", lambda: opened(Path("/etc/passwd")), errno.ENFILE),
    Case("vmlinux-pointer", "prepare_creds", NULL, "NULL", lambda: os.setgid(0), errno.ENOMEM),
    Case("vmlinux-bool", "ns_capable_setid", BOOL, "false", lambda: os.setgid(5), errno.EPERM),
    Case("tmpfs", "shmem_symlink", ERRNO, "-ENOSPC", lambda: Path("/tmp/never").symlink_to("x"), errno.ENOSPC),
    Case("tmpfs", "shmem_unlink", ERRNO, "-EROFS", lambda: Path("/tmp/there").unlink(), errno.EROFS),
    Case("ext4", "ext4_symlink", ERRNO, "-EDQUOT", lambda: (MOUNTED / "never").symlink_to("x"), errno.EDQUOT),
    Case("ext4-pointer", "ext4_lookup", BOTH, "-EIO", lambda: (MOUNTED / "absent").stat(), errno.EIO),
    Case("ext4-bool", "ext4_empty_dir", BOOL, "false", lambda: (MOUNTED / "there").rmdir(), errno.ENOTEMPTY),
)


@pytest.fixture(scope="module")
def mounted() -> Iterator[None]:
    """The files and directories that the cases find."""
    load_filesystem(["ext4"])
    disk = Path("/dev") / scratch_disks()[0].name
    MOUNTED.mkdir(exist_ok=True)
    Path("/tmp/there").touch()
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    subprocess.run(["mount", "-t", "ext4", str(disk), str(MOUNTED)], check=True)
    (MOUNTED / "there").mkdir()
    yield
    subprocess.run(["umount", str(MOUNTED)], check=True)
    MOUNTED.rmdir()
    Path("/tmp/there").unlink()


CLIB = ctypes.CDLL(None, use_errno=True)


def called(name: str, *arguments: int) -> None:
    """A function of the C library for which Python has none; raises OSError."""
    if getattr(CLIB, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


CLONES = (
    Case("clone", "do_sigaltstack.constprop.0", ERRNO, "-EDOM", lambda: called("sigaltstack", 0, 0), errno.EDOM),
    Case("clone", "ksys_msgctl.constprop.0", ERRNO, "-EDOM", lambda: called("msgctl", 0, 2, 0), errno.EDOM),
    Case("clone", "ksys_shmctl.constprop.0", ERRNO, "-EDOM", lambda: called("shmctl", 0, 2, 0), errno.EDOM),
)
"""Copies that the compiler made; which of them there are differs between kernels."""
BY_MODULE = pytest.mark.parametrize("probe", [Probe.KFUNC, Probe.MODULE], ids=lambda probe: probe.value)


@BY_MODULE
@pytest.mark.parametrize("case", CASES, ids=str)
def test_user_space_gets_the_errno(
    mounted: None, overrider: None, engine: Engine, group: Cgroup, tmp_path: Path, case: Case, probe: Probe
) -> None:
    kernel = Kernel()  # ext4 may have been loaded since the session began
    fails(kernel, Types(kernel), engine, group, tmp_path, case, probe)


@BY_MODULE
def test_a_clone_is_failed_by_its_own_name(
    overrider: None, engine: Engine, kernel: Kernel, types: Types, group: Cgroup, tmp_path: Path, probe: Probe
) -> None:
    there = [case for case in CLONES if kernel.symbols.named(case.function)]
    described = [case for case in there if types.result(case.function) is not None]
    for case in described[:1]:
        fails(kernel, types, engine, group, tmp_path, case, probe)
    if Probe.KFUNC in module_ways(kernel.release):
        assert described, "the kernel has one of them"
    else:
        print(f"{kernel.release}: BTF describes none of the clones that lead to a system call")


def fails(kernel: Kernel, types: Types, engine: Engine, group: Cgroup, place: Path, case: Case, probe: Probe) -> None:
    """Attach, call, compare, and print a row of the table."""
    name = case.function
    point = Functions(kernel, types).find(name)
    assert (point.marked, point.error_type) == (False, case.kind)
    engine.attach(plan(kernel, types, f"{{function: {name}, return: {case.returns}}}"), probe)
    in_group(engine, group, result_of(case.work, place / "errno"))
    (counts,) = engine.counts()
    engine.detach()
    got = int((place / "errno").read_text())
    assert (got, counts.injected >= 1) == (case.expected, True)
    print(
        f"{kernel.release:24} {probe.value:7} {name} [{point.module or 'vmlinux'}] {point.error_type.value}"
        f" returns {case.returns}: {errno.errorcode[got]}"
    )
