"""The module into the kernel and out of it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import stat
import time
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun
from inject.kernel.files import text_of
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import MOUNT_SECURITYFS, of_signatures
from inject.kernel.overrider import NAME, VERSION, Overrider
from inject.module.device import DEVICE
from inject.process.janitor import delete_module

FINIT_MODULE = {"x86_64": 313, "aarch64": 273}
"""Numbers of the system call (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h)."""
WAIT = 10.0
"""Seconds that another process may take for loading or unloading the module."""
_POLL = 0.05
_OPENS = 20
"""Times that the device is opened, each _POLL after the one before."""


def load(kernel: Kernel, path: Path, *, keep: bool = False) -> bool:
    """Load the module, unless it is loaded; False if it was. ``keep``: it stays when its last user ends.

    One of another version that nobody uses is replaced. Raises CannotRun if the kernel refuses
    the module, or has it in another version that must stay.
    """
    parameters = b"keep=1" if keep else b""
    deadline = time.monotonic() + WAIT
    while True:
        if kernel.overrider is not None:
            if keep:
                set_keep(kernel)
            return False
        other = Overrider.version(kernel.root)
        if other and other != VERSION:
            _replace(kernel, other)
        try:
            _insert(path, parameters)
        except OSError as error:
            # Another process loads it (EEXIST, EBUSY: wait for it), or has just unloaded it.
            if error.errno not in (errno.EEXIST, errno.EBUSY) or time.monotonic() > deadline:
                raise _refused(kernel, path, error) from None
            time.sleep(_POLL)
            continue
        return True


def hold(kernel: Kernel, path: Path) -> Optional[int]:
    """Load the module and keep it: an open file of its device, without which another inject could unload it.

    The kernel closes the file when this process ends. None if there is no device file. Raises as load() does.
    """
    number = 0
    for _ in range(_OPENS):
        load(kernel, path)
        try:
            return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:  # the inject that loaded it may have unloaded it by now
            number = error.errno or 0
        time.sleep(_POLL)
    if number == errno.ENOENT:
        return None  # /dev is no devtmpfs: the kfunc needs no file
    raise CannotRun(f"cannot open {DEVICE}: {os.strerror(number)}", "run with sudo")


def _replace(kernel: Kernel, other: str) -> None:
    """Unload the module of version ``other``; raises CannotRun if it is in use, or kept."""
    what = f"the module {NAME} is loaded in version {other}, and this inject needs {VERSION}"
    if is_kept(kernel):
        raise CannotRun(what, "`inject module unload`, then run again")
    try:
        unload()
    except InUse:
        raise CannotRun(f"{what}; another inject uses it", "end that one, then run again") from None


def set_keep(kernel: Kernel) -> None:
    """Let the module stay when its last user ends. Raises CannotRun without root."""
    try:
        (kernel.root / f"sys/module/{NAME}/parameters/keep").write_text("1")
    except OSError as error:
        raise CannotRun(f"cannot keep the module {NAME}: {error.strerror}", "run with sudo") from None


def is_kept(kernel: Kernel) -> bool:
    """True if the module stays when its last user ends."""
    return text_of(kernel.root / f"sys/module/{NAME}/parameters/keep") == "Y"


def users(kernel: Kernel) -> int:
    """How often the module is in use: by open files of its device, by programs that call its kfunc."""
    count = text_of(kernel.root / f"sys/module/{NAME}/refcnt")
    return int(count) if count.isdigit() else 0


def unload() -> bool:
    """Unload the module; False if it was not loaded. Raises CannotRun if it is in use or the kernel refuses."""
    try:
        delete_module(NAME)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        if error.errno in (errno.EWOULDBLOCK, errno.EBUSY):
            raise InUse(f"the module {NAME} is in use", "end the inject that uses it") from None
        if error.errno == errno.EPERM:
            raise CannotRun("unloading a module needs root", "run with sudo") from None
        raise CannotRun(f"the kernel does not unload {NAME}: {error.strerror}", "dmesg may say why") from None
    return True


class InUse(CannotRun):
    """A fault is attached by way of the module."""


def _insert(path: Path, parameters: bytes) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise CannotRun(
                f"{path} could be changed by another user than root", "remove it, and inject builds it again"
            )
        _call(FINIT_MODULE, descriptor, ctypes.c_char_p(parameters), 0)
    finally:
        os.close(descriptor)


def _call(numbers: dict[str, int], *arguments: object) -> None:
    number = numbers.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"modules are not loaded on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _refused(kernel: Kernel, path: Path, error: OSError) -> CannotRun:
    """Why the kernel does not take the module (kernel/module/main.c, v6.12)."""
    what = f"the kernel does not load {NAME}"
    if error.errno in (errno.EPERM, errno.EKEYREJECTED, errno.ENOKEY, errno.EBADMSG):
        obstacle = of_signatures(kernel)
        if obstacle is not None:
            return CannotRun(f"{what}: {obstacle.message}", obstacle.fix.replace("sign it", f"sign {path}"))
        if error.errno != errno.EPERM:
            return CannotRun(
                f"{what}: it takes signed modules only",
                f"sign {path} with a key enrolled by mokutil, or use a guest: `inject vm run`",
            )
        if os.geteuid() == 0 and not kernel.lockdown:
            return CannotRun(
                f"{what}: it is locked down, or this is a container without CAP_SYS_MODULE",
                f"{MOUNT_SECURITYFS}, then `inject doctor`; in a container, run on its host",
            )
        return CannotRun("loading a module needs root", "run with sudo; in a container, on its host")
    if error.errno in (errno.ENOEXEC, errno.EINVAL, errno.ENOENT):
        return CannotRun(
            f"{what} ({error.strerror}): {path} was built for another kernel, or this one lacks what it needs",
            "dmesg says which; remove the file, and inject builds it again",
        )
    return CannotRun(f"{what}: {error.strerror}", "dmesg may say why")
