"""The janitor: a process that cleans up if inject ends without doing so.

inject registers every resource *before* it creates it, and releases it after it
removed it. The janitor is a separate process in its own session, which reads these
lines from a pipe. When inject ends for any reason, the pipe closes, and the janitor
removes what is still registered, newest first, once inject is gone with its probes.

Whatever ends inject must not end the janitor: it has its own session, none of inject's
environment, by which CI systems find the processes of a job, and it is in the root
control group, because `systemctl stop` and `docker kill` end what is in inject's own.

This file runs as a script in an isolated interpreter, so that it starts fast and does
not depend on the environment: only the standard library at the top.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

_LOOP_CLR_FD = 0x4C01  # include/uapi/linux/loop.h
_BLKPG = 0x1269  # include/uapi/linux/blkpg.h, with the two operations
BLKPG_ADD = 1
BLKPG_DEL = 2
_DELETE_MODULE = {"x86_64": 176, "aarch64": 106}
"""arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h"""
_PATIENCE = 10.0
"""Seconds to wait for each resource, and for the end of inject."""

_LIMIT = 30.0
"""Seconds for the removal of one resource, in which the kernel may block: less than close() waits."""

_RETRY = 0.01
"""Seconds between two looks."""

_FAREWELL = b'["."]\n'
"""The last line of an inject that goes on without a janitor, and without probes."""

_LOG_LINE = 900
"""Bytes of one line to the kernel log; the kernel takes up to 1024 less its prefix."""


# ---------------------------------------------------------------- inject's side


class Janitor:
    """Handle of the janitor process. Use as a context manager, or call :meth:`close` at the end."""

    def __init__(self) -> None:
        read_end, self._pipe = os.pipe()
        try:
            self._process: Optional[subprocess.Popen[bytes]] = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(os.getpid())],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,
            )
        finally:
            os.close(read_end)
        self.pid = self._process.pid
        """Its process id."""
        _move_to_root(self.pid)

    def register(self, kind: str, *args: str) -> None:
        """Register a resource before it is made.

        ``kind`` is one of :data:`UNDO`. Raises InjectError if the janitor has ended.
        """
        if kind not in UNDO:
            raise ValueError(f"unknown resource {kind!r}")
        self._send(["+", kind, *args])

    def release(self, kind: str, *args: str) -> None:
        """Release a resource that was removed; the same arguments as for :meth:`register`."""
        self._send(["-", kind, *args])

    def _send(self, words: list[str]) -> None:
        line = json.dumps(words).encode() + b"\n"
        try:
            # One write of at most PIPE_BUF bytes is atomic, so a line is never incomplete.
            os.write(self._pipe, line)
        except OSError as error:
            from inject.errors import InjectError

            raise InjectError(f"the janitor process has ended: {error.strerror}", "run again") from error

    def close(self, seconds: float = 60.0) -> bool:
        """End the janitor, which removes what is left; False if that takes longer than ``seconds``."""
        if self._process is None:
            return True
        with contextlib.suppress(OSError):
            os.write(self._pipe, _FAREWELL)
        os.close(self._pipe)
        process, self._process = self._process, None
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return False

    def __enter__(self) -> Janitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _move_to_root(pid: int) -> None:
    """Move a process to the root of the cgroup v2 hierarchy; without one that can be written it stays where it is."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
            left, _, right = line.partition(" - ")
            if right.startswith("cgroup2 ") and left.split()[3] == "/":
                (Path(_unescaped(left.split()[4])) / "cgroup.procs").write_text(str(pid))


# ---------------------------------------------------------------- removal, each may run twice


def undo_cgroup(path: str) -> str:
    """Kill the processes of a cgroup and remove it; returns the error, or ""."""
    group = Path(path)
    deadline = time.monotonic() + _PATIENCE
    while group.exists():
        try:
            (group / "cgroup.kill").write_text("1")
            for directory, _, _ in os.walk(path, topdown=False):
                Path(directory).rmdir()
        except OSError as error:
            if time.monotonic() >= deadline:
                return f"cgroup {path} stays: {error.strerror}"
            time.sleep(0.02)
    return ""


def undo_evict(path: str) -> str:
    """Move the processes of a cgroup to its parent, without killing them, and remove it."""
    group = Path(path)
    deadline = time.monotonic() + _PATIENCE
    while group.exists():
        try:
            for directory, _, _ in os.walk(path, topdown=False):
                for pid in (Path(directory) / "cgroup.procs").read_text().split():
                    _move(pid, group.parent)
                Path(directory).rmdir()
        except OSError as error:
            if time.monotonic() >= deadline:
                return f"cgroup {path} stays: {error.strerror}"
            time.sleep(0.02)
    return ""


def _move(pid: str, group: Path) -> None:
    """Move a process, unless it has ended."""
    try:
        (group / "cgroup.procs").write_text(pid)
    except ProcessLookupError:
        return


def mount_points() -> list[str]:
    """Every mount point of this mount namespace, in mount order."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        points.append(_unescaped(line.split()[4]))
    return points


def _unescaped(word: str) -> str:
    """A path of mountinfo without the escapes of blanks and backslashes."""
    raw = word.encode("utf-8", "surrogateescape")
    return raw.decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")


def undo_mount(path: str) -> str:
    """Unmount everything stacked at ``path`` and below it, lazily as a last resort."""
    for _ in range(16):
        inside = [p for p in mount_points() if p == path or p.startswith(path + "/")]
        if not inside:
            return ""
        if not _umount(["umount", "--", inside[-1]]):
            _umount(["umount", "--lazy", "--", inside[-1]])
    return f"mount {path} stays"


def _umount(argv: list[str]) -> bool:
    """True if ``argv`` succeeded; does not wait for one that hangs in the kernel."""
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        return process.wait(_PATIENCE * 2) == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def undo_loop(path: str) -> str:
    """Detach every loop device of the file ``path``; the kernel keeps one in use until its last user closes it."""
    for backing in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        try:
            file = backing.read_text(errors="surrogateescape").rstrip("\n")
            if file.removesuffix(" (deleted)") != path:
                continue
            fd = os.open(f"/dev/{backing.parent.parent.name}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.ioctl(fd, _LOOP_CLR_FD)
        except OSError as error:
            return f"loop device of {path} stays: {error.strerror}"
        finally:
            os.close(fd)
    return ""


def change_part(device: str, operation: int, number: int, size: int = 0) -> None:
    """Add (BLKPG_ADD) or remove (BLKPG_DEL) a partition of the kernel's table; raises OSError.

    ``size`` in bytes, from the start of the disk. Nothing is written to the disk.
    Own code because Debian 13 no longer ships addpart and delpart.
    """
    import ctypes

    # struct blkpg_partition and blkpg_ioctl_arg, include/uapi/linux/blkpg.h
    partition = ctypes.create_string_buffer(struct.pack("=qqi64s64s4x", 0, size, number, b"", b""))
    argument = struct.pack("@iiiP", operation, 0, len(partition), ctypes.addressof(partition))
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _BLKPG, argument)
    finally:
        os.close(fd)


def undo_part(device: str, number: str) -> str:
    """Take partition ``number`` of ``device`` out of the kernel's table (the disk is not written)."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            change_part(device, BLKPG_DEL, int(number))
            return ""
        except OSError as error:
            if error.errno == errno.ENXIO:  # there is none
                return ""
            if time.monotonic() >= deadline:
                return f"partition {number} of {device} stays: {error.strerror}"
            time.sleep(0.02)


def undo_dir(path: str) -> str:
    """Remove a directory, unless a filesystem is still mounted in it."""
    if any(p == path or p.startswith(path + "/") for p in mount_points()):
        return f"directory {path} stays: a filesystem is mounted in it"
    shutil.rmtree(path, ignore_errors=True)
    return f"directory {path} stays" if Path(path).exists() else ""


def delete_module(name: str) -> None:
    """Unload a kernel module; raises OSError, with EWOULDBLOCK while something uses it."""
    import ctypes
    import platform

    number = _DELETE_MODULE.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"modules are not unloaded on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, ctypes.c_char_p(name.encode()), os.O_NONBLOCK) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def undo_module(name: str) -> str:
    """Unload a module, unless its parameter ``keep`` is set or it stays in use: then another inject unloads it.

    What an inject that has ended held of it the kernel gives back some milliseconds later
    (__bpf_prog_put_noref(), kernel/bpf/syscall.c, v6.12).
    """
    keep = Path(f"/sys/module/{name}/parameters/keep")
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            if keep.exists() and keep.read_text().strip() == "Y":
                return ""
            delete_module(name)
            return ""
        except OSError as error:
            if error.errno == errno.ENOENT:  # it is not loaded
                return ""
            if time.monotonic() >= deadline:
                return "" if error.errno == errno.EWOULDBLOCK else f"module {name} stays: {error.strerror}"
            time.sleep(0.02)


UNDO: dict[str, Callable[..., str]] = {
    "cgroup": undo_cgroup,  # PATH
    "evict": undo_evict,  # PATH
    "mount": undo_mount,  # PATH
    "loop": undo_loop,  # FILE
    "part": undo_part,  # DEVICE NUMBER
    "dir": undo_dir,  # PATH
    "module": undo_module,  # NAME
}
"""Type of resource to the function that removes it, which gets the arguments of its registration."""


# ---------------------------------------------------------------- the process


def sweep(resources: list[tuple[str, ...]]) -> list[str]:
    """Remove everything: processes first, the rest newest first. Returns a sentence for each that stays."""
    cgroups = [r for r in resources if r[0] == "cgroup"]
    others = [r for r in resources if r[0] != "cgroup"]
    stayed = []
    for kind, *args in [*reversed(cgroups), *reversed(others)]:
        try:
            stayed.append(_in_time(kind, args))
        except Exception as error:  # continue with the next resource after any error
            stayed.append(f"{kind} {' '.join(args)} stays: {error}")
    return [words for words in stayed if words]


def _in_time(kind: str, args: list[str]) -> str:
    """Remove one resource in a fork, for _LIMIT at most: a lock that was left taken must not block the others."""
    answer, end = os.pipe()
    if not os.fork():
        try:
            words = UNDO[kind](*args)
        except Exception as error:
            words = f"{kind} {' '.join(args)} stays: {error}"
        os.write(end, words.encode("utf-8", "replace")[:_LOG_LINE])
        os._exit(0)
    os.close(end)
    try:
        if not select.select([answer], [], [], _LIMIT)[0]:
            return f"{kind} {' '.join(args)} stays: its removal hangs in the kernel"
        return os.read(answer, _LOG_LINE).decode("utf-8", "replace")
    finally:
        os.close(answer)


def read_resources(stream: int) -> tuple[list[tuple[str, ...]], bool]:
    """Resources that are still registered when the other end of ``stream`` closes, oldest first.

    And True if inject closed it on purpose.
    """
    resources: list[tuple[str, ...]] = []
    farewell = False
    for line in _lines(stream):
        sign, *words = json.loads(line)
        resource = tuple(words)
        farewell = sign == "."
        if sign == "+":
            resources.append(resource)
        elif resource in resources:
            resources.remove(resource)
    return resources, farewell


def _lines(stream: int) -> Iterator[bytes]:
    """Lines of ``stream`` up to its end. A read that fails is repeated: `scope: any` may fail this process's calls."""
    rest = b""
    while True:
        try:
            data = os.read(stream, 1 << 16)
        except OSError:
            time.sleep(_RETRY)
            continue
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def _wait_for_end(pid: int) -> None:
    """Wait until inject, which is process ``pid``, has ended: then its probes are gone, and no call of this one fails.

    The kernel closes what a process has open before it says that the process ended (do_exit(), kernel/exit.c, v6.12).
    """
    deadline = time.monotonic() + _PATIENCE
    while os.getppid() == pid and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            time.sleep(_RETRY)


def _main(pid: int) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    resources, farewell = read_resources(0)
    if not farewell:
        _wait_for_end(pid)
    stayed = sweep(resources)
    for words in stayed:
        _complain(f"inject: janitor: {words}")
    return 1 if stayed else 0


def _complain(line: str) -> None:
    """Write to the kernel log, because inject may have ended."""
    try:
        fd = os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, line.encode("utf-8", "replace")[:_LOG_LINE] + b"\n")
    except OSError:
        return
    finally:
        os.close(fd)


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1])))
