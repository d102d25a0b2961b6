"""A fresh filesystem on scratch devices: made, mounted, unmounted, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from inject import mounting
from inject.cgroup import Cgroup
from inject.errors import CannotRun, InjectError
from inject.janitor import BLKPG_ADD, UNDO, Janitor, change_part, mount_points, undo_dir, undo_loop, undo_part
from inject.model import Filesystem
from inject.prepared import Shelf, zero
from inject.tool import Completed, check_tool, run_tool

SERIAL = "inject-scratch"
"""Disks of a guest whose serial number begins so are ours to overwrite; a number follows."""

MKFS = {
    "bcachefs": ("bcachefs", "format", "--force"),
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
"""How each type is made without a question asked."""

MINIMUM = {"xfs": 300 << 20, "btrfs": 109 << 20, "bcachefs": 32 << 20}
"""Bytes below which mkfs refuses: mkfs.xfs since 5.19 (validate_supported() in mkfs/xfs_mkfs.c),
mkfs.btrfs without --mixed (btrfs_min_dev_size() in kernel-shared/volumes.c); `bcachefs format` 1.13 made
24M, and on 16M ended in ENOSPC_disk_reservation."""

MULTI_DEVICE = ("bcachefs", "btrfs")

_SECTOR = 512
_MKFS_TIMEOUT = 120.0
_MKFS_TRIES = 5
"""`bcachefs format` of bcachefs-tools 1.12 dies of SIGSEGV or SIGABRT in about one of 15 calls (21 of 400,
on one CPU as on two, with and without malloc's per-thread cache); a repeat on a wiped device succeeds."""
_MOUNT_TIMEOUT = 60.0
_PREPARED = ("bcachefs",)
"""Types of which mkfs is slow and the kernel remembers nothing: btrfs keeps generations by UUID and path."""
_NODE_TIMEOUT = 10.0
"""Seconds that devtmpfs gets to show a partition."""


class Fixture:
    """``spec`` made real. Use as a context manager: entering makes and mounts, leaving undoes it all.

    ``directory`` holds the mount point and, outside a guest, the files behind the loop
    devices. ``cgroup`` is where the tools run; it must not be the workload's.
    ``shelf`` has filesystems that were made so before.
    Everything is registered with ``janitor`` before it is made. Every failed step
    is an InjectError with the command, how it ended and its last line.
    """

    def __init__(
        self, spec: Filesystem, *, directory: Path, janitor: Janitor, cgroup: Cgroup, shelf: Optional[Shelf] = None
    ) -> None:
        self.spec = spec
        self.devices: tuple[str, ...] = ()
        """Device nodes, in order; ``$DEV`` or ``$DEV1`` is the first."""
        self.notes: list[str] = []
        """What went otherwise than planned and was mended."""
        self.mountpoint = directory / "mnt"
        self._directory = directory
        self._janitor = janitor
        self._cgroup = cgroup
        self._shelf = shelf if spec.type in _PREPARED else None
        self._registered: list[tuple[str, ...]] = []

    # ------------------------------------------------------------ making

    def open(self) -> None:
        """Claim devices, wipe them, make the filesystem and mount it."""
        self._check_spec()
        self.devices = tuple(self._claim())
        self._mkfs()
        self.mountpoint.mkdir(exist_ok=True)
        self.mount()

    @property
    def env(self) -> dict[str, str]:
        """What scripts see: ``DEV`` (the first), ``DEV1`` ..., ``MNT``."""
        numbered = {f"DEV{number}": device for number, device in enumerate(self.devices, 1)}
        return {"DEV": self.devices[0], **numbered, "MNT": str(self.mountpoint)}

    def _check_spec(self) -> None:
        spec = self.spec
        if spec.type not in MKFS:
            raise InjectError(f"no way to make a {spec.type} filesystem", f"known: {', '.join(sorted(MKFS))}")
        if spec.devices > 1 and spec.type not in MULTI_DEVICE:
            raise InjectError(f"{spec.type} takes one device, not {spec.devices}")
        if spec.size < MINIMUM.get(spec.type, 0):
            least = MINIMUM[spec.type] >> 20
            raise InjectError(
                f"{spec.type} cannot be made on {size_text(spec.size)}", f"it needs devices of at least {least}M"
            )
        if shutil.which(MKFS[spec.type][0]) is None:
            raise CannotRun(f"{MKFS[spec.type][0]} is not installed")
        if not _kernel_knows(spec.type):
            raise CannotRun(f"this kernel has no {spec.type}")

    def _claim(self) -> list[str]:
        disks = scratch_disks()
        if not disks:
            return [self._loop(number) for number in range(self.spec.devices)]
        if len(disks) < self.spec.devices:
            raise CannotRun(f"the scenario wants {self.spec.devices} scratch disks, the guest has {len(disks)}")
        return [self._partition(disk) for disk in disks[: self.spec.devices]]

    def _partition(self, disk: Path) -> str:
        """Cut the first bytes off a guest's scratch disk: a partition in the kernel's table only."""
        device = f"/dev/{disk.name}"
        have = int((disk / "size").read_text()) * _SECTOR
        if have < self.spec.size:
            raise CannotRun(
                f"the scenario wants scratch devices of {size_text(self.spec.size)}, {device} has {size_text(have)}"
            )
        trouble = undo_part(device, "1")
        if trouble:
            raise InjectError(trouble, "another run seems to use this guest's scratch disks")
        self._register("part", device, "1")
        try:
            change_part(device, BLKPG_ADD, 1, self.spec.size)
        except OSError as error:
            raise InjectError(f"cannot cut {size_text(self.spec.size)} off {device}: {error.strerror}") from error
        node = Path(f"{device}1")
        deadline = time.monotonic() + _NODE_TIMEOUT
        while not _is_block(node):
            if time.monotonic() >= deadline:
                raise InjectError(f"{node} did not appear within {_NODE_TIMEOUT:.0f} s")
            time.sleep(0.01)
        return str(node)

    def _loop(self, number: int) -> str:
        """A loop device over a sparse file."""
        file = self._directory / f"scratch{number}"
        left = (self.spec.devices - number) * self.spec.size
        free = shutil.disk_usage(self._directory).free
        if free < left:
            # A sparse file that cannot grow would show as I/O errors, and the kernel be blamed for them.
            raise InjectError(
                f"scratch devices need {size_text(left)} below {self._directory}, {size_text(free)} are free",
                "free some space, or point TMPDIR elsewhere",
            )
        file.touch()
        os.truncate(file, self.spec.size)
        self._register("loop", str(file))
        argv = ["losetup", "--find", "--show"]
        done = run_tool([*argv, "--direct-io=on", str(file)], timeout=_MOUNT_TIMEOUT, cgroup=self._cgroup)
        if done.code != 0:  # a file on tmpfs, for one, has no direct I/O
            undo_loop(str(file))
            return check_tool([*argv, str(file)], timeout=_MOUNT_TIMEOUT, cgroup=self._cgroup).strip()
        return done.output.strip().splitlines()[-1]

    def _mkfs(self) -> None:
        """Make it, or take the one made so before."""
        spec = self.spec
        key = (spec.type, spec.devices, spec.size, tuple(spec.mkfs))
        if self._shelf is not None and self._shelf.restore(key, self.devices, spec.size):
            return
        self._make([*MKFS[spec.type], *spec.mkfs, *self.devices])
        if self._shelf is not None:
            self._shelf.keep(key, self.devices, spec.size)

    def _make(self, argv: Sequence[str]) -> None:
        """Wipe and make; a mkfs that crashes is repeated a few times, one that refuses is not.

        `bcachefs format` gives up on the remains of some old filesystems.
        """
        for left in reversed(range(_MKFS_TRIES)):
            for device in self.devices:
                zero(device, self.spec.size)
            done = run_tool(argv, timeout=_MKFS_TIMEOUT, cgroup=self._cgroup)
            if done.code == 0:
                return
            if not (done.crashed and left):
                raise done.failure()
            self.notes.append(f"`{done.command}` {done.how()} and was repeated")

    # ------------------------------------------------------------ mounting

    @property
    def mounted(self) -> bool:
        """Whether something is mounted at the mount point."""
        return str(self.mountpoint) in mount_points()

    def try_mount(self, options: Sequence[str] = ()) -> Completed:
        """Mount with the scenario's and these options; says how it went, an error included."""
        self._register("mount", str(self.mountpoint))
        source = ":".join(self.devices) if self.spec.type == "bcachefs" else self.devices[0]
        chosen = [f"device={device}" for device in self.devices[1:]] if self.spec.type == "btrfs" else []
        if not (self.spec.mount or options):
            target = str(self.mountpoint)
            data = ",".join(chosen)
            return mounting.mount(self.spec.type, source, target, data, timeout=_MOUNT_TIMEOUT, cgroup=self._cgroup)
        flags = ["-o", ",".join([*self.spec.mount, *options, *chosen])]
        # -i: mount.bcachefs would ask for a passphrase and read superblocks on its own; mount(2) is what we test.
        argv = ["mount", "-i", "-t", self.spec.type, *flags, source, str(self.mountpoint)]
        return run_tool(argv, timeout=_MOUNT_TIMEOUT, cgroup=self._cgroup)

    def mount(self) -> None:
        """Mount; raises InjectError if that fails."""
        done = self.try_mount()
        if done.code != 0:
            raise done.failure()

    def umount(self) -> None:
        """Unmount everything at and below the mount point; does nothing where nothing is mounted.

        Raises InjectError, with the processes that hold it, when it stays busy or hangs.
        """
        below = str(self.mountpoint) + "/"
        for _ in range(16):
            inside = [p for p in mount_points() if p == str(self.mountpoint) or p.startswith(below)]
            if not inside:
                self._release("mount", str(self.mountpoint))
                return
            done = mounting.umount(inside[-1], timeout=_MOUNT_TIMEOUT, cgroup=self._cgroup)
            if done.code != 0:
                error = done.failure()
                error.hint = holders(Path(inside[-1]))
                raise error
        raise InjectError(f"more than 16 mounts lie on {self.mountpoint}")

    def remount(self) -> None:
        """Unmount and mount again."""
        self.umount()
        self.mount()

    # ------------------------------------------------------------ undoing

    def close(self) -> None:
        """Unmount, detach, remove. What resists stays the janitor's; raises InjectError naming the first."""
        trouble: list[str] = []
        try:
            self.umount()
        except InjectError as error:
            trouble.append(str(error))
        for kind, *args in reversed([r for r in self._registered if r[0] in ("loop", "part")]):
            words = UNDO[kind](*args)
            if words:
                trouble.append(words)
            else:
                self._release(kind, *args)
        if trouble:
            raise InjectError(trouble[0])
        with contextlib.suppress(FileNotFoundError):
            self.mountpoint.rmdir()

    def __enter__(self) -> Fixture:
        try:
            self.open()
        except BaseException:
            self._close_quietly()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _close_quietly(self) -> None:
        """After another error, which is the one to report; what resists is left to the janitor."""
        try:
            self.close()
        except InjectError:
            return

    def _register(self, *resource: str) -> None:
        if resource not in self._registered:
            self._janitor.register(*resource)
            self._registered.append(resource)

    def _release(self, *resource: str) -> None:
        if resource in self._registered:
            self._janitor.release(*resource)
            self._registered.remove(resource)


def trial_directory(janitor: Janitor) -> Path:
    """A fresh directory that the janitor removes; raises InjectError on a full disk, in words."""
    base = Path(tempfile.gettempdir())
    for _ in range(100):
        path = base / f"inject-{os.getpid()}-{os.urandom(4).hex()}"
        janitor.register("dir", str(path))
        try:
            path.mkdir(mode=0o755)
            return path
        except FileExistsError:
            janitor.release("dir", str(path))
        except OSError as error:
            raise InjectError(f"cannot make a directory below {base}: {error.strerror}") from error
    raise InjectError(f"no free name below {base}")


def remove_directory(path: Path, janitor: Janitor) -> None:
    """Undo trial_directory(); raises InjectError if it stays, for one because a mount lies in it."""
    words = undo_dir(str(path))
    if words:
        raise InjectError(words)
    janitor.release("dir", str(path))


def scratch_disks(block: Path = Path("/sys/block")) -> list[Path]:
    """The guest's scratch disks in the order of their serial numbers, never of their names."""
    found = {}
    for file in block.glob("*/serial"):
        serial = file.read_text(errors="replace").strip()
        if serial.startswith(SERIAL):
            found[serial] = file.parent
    return [found[serial] for serial in sorted(found)]


def holders(mountpoint: Path, proc: Path = Path("/proc")) -> str:
    """Which processes have files open or stand below ``mountpoint``: at most five, in words."""
    prefix = str(mountpoint)
    names = []
    for process in proc.glob("[0-9]*"):
        try:
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            targets = [str(link.readlink()) for link in links]
            comm = (process / "comm").read_text().strip()
        except OSError:
            continue
        if any(target == prefix or target.startswith(prefix + "/") for target in targets):
            names.append(f"{comm}/{process.name}")
    return "held by " + ", ".join(names[:5]) if names else ""


def size_text(size: int) -> str:
    """Bytes as a scenario would write them."""
    for unit, shift in (("G", 30), ("M", 20), ("K", 10)):
        if size >= 1 << shift:
            whole = size / (1 << shift)
            return f"{whole:.0f}{unit}" if whole == int(whole) else f"{whole:.1f}{unit}"
    return str(size)


def _kernel_knows(name: str) -> bool:
    """Whether the kernel has filesystem ``name``, loading its module if there is one."""
    for _ in range(2):
        lines = Path("/proc/filesystems").read_text().splitlines()
        if any(line.split()[-1] == name for line in lines if line.strip()):
            return True
        if shutil.which("modprobe") is None:
            return False
        run_tool(["modprobe", name], timeout=_MOUNT_TIMEOUT)
    return False


def _is_block(path: Path) -> bool:
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False
