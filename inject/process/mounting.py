"""mount(2), umount2(2) and ioctl(2) in a fork, with a time limit, without starting a program.

Under emulation, starting a program takes most of the time, and a trial mounts twice and
unmounts twice.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Callable, Optional

from inject.process.cgroup import Cgroup
from inject.process.tool import Completed, run_forked

FAILED = 32
"""Exit code of mount(8) and umount(8) for a failed call."""

_LIBC = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, source: str, target: str, data: str, *, timeout: float, cgroup: Optional[Cgroup]) -> Completed:
    """Mount with the filesystem's own options ``data``; never reads /etc/fstab nor runs a helper."""
    words = [os.fsencode(word) for word in (source, target, kind)]

    def call() -> int:
        return int(_LIBC.mount(*words, ctypes.c_ulong(0), data.encode() or None))

    argv = ("mount", "-i", "-t", kind, *(("-o", data) if data else ()), source, target)
    return _forked(argv, target, call, timeout, cgroup)


def umount(target: str, *, timeout: float, cgroup: Optional[Cgroup]) -> Completed:
    """Unmount the topmost filesystem on ``target``."""
    path = os.fsencode(target)
    return _forked(("umount", target), target, lambda: int(_LIBC.umount2(path, 0)), timeout, cgroup)


def forget(
    control: str, request: int, size: int, devices: Sequence[str], *, timeout: float, cgroup: Optional[Cgroup]
) -> Completed:
    """Send ``request`` for each of ``devices`` to ``control``; the kernel refuses it for one that it uses or never saw.

    ``size``: bytes of the device's path in the argument, behind a signed 64-bit number.
    """

    def rows() -> Iterator[str]:
        handle = os.open(control, os.O_RDWR | os.O_CLOEXEC)
        for device in devices:
            with contextlib.suppress(OSError):  # a bytearray, because ioctl() takes at most 1024 bytes of bytes
                fcntl.ioctl(handle, request, bytearray(struct.pack(f"=q{size}s", 0, os.fsencode(device))))
        yield from ()

    done = run_forked(rows, timeout=timeout, cgroup=cgroup)
    return Completed(("forget", *devices), done.code, done.output, done.timed_out, done.stuck)


def _forked(
    argv: tuple[str, ...], target: str, call: Callable[[], int], timeout: float, cgroup: Optional[Cgroup]
) -> Completed:
    def rows() -> Iterator[str]:
        if call():
            yield os.strerror(ctypes.get_errno())

    done = run_forked(rows, timeout=timeout, cgroup=cgroup)
    if done.code or not done.output:
        return replace(done, argv=argv)
    return Completed(argv, FAILED, f"{argv[0]}: {target}: {ast.literal_eval(done.output)}\n")
