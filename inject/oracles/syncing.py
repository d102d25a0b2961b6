"""syncfs(2) of one filesystem, without starting a program."""

from __future__ import annotations

import ctypes
import os

from inject.errors import InjectError
from inject.oracles.base import Context
from inject.process.cgroup import Cgroup
from inject.process.tool import run_forked

TIMEOUT = 60.0

_LIBC = ctypes.CDLL(None, use_errno=True)


def syncfs(root: str) -> None:
    """syncfs(2) on the filesystem that ``root`` is on, which Python does not wrap; raises OSError.

    It may hang in the kernel: call it in a fork, see run_forked().
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)


def sync(context: Context) -> None:
    """Write what is dirty on the mounted filesystem; raises InjectError if that fails or hangs."""
    assert context.fixture is not None
    sync_at(str(context.fixture.mountpoint), context.cgroup, context.limit(TIMEOUT))


def sync_at(root: str, cgroup: Cgroup, timeout: float = TIMEOUT) -> None:
    """The same for the filesystem that ``root`` is on, by a process in ``cgroup``."""

    def work() -> list[str]:
        syncfs(root)
        return ["end"]

    done = run_forked(work, timeout=timeout, cgroup=cgroup)
    if done.in_time(f"syncing {root}: it").code != 0:
        raise InjectError(f"syncing {root}: {done.last_line if done.output else done.how()}")
