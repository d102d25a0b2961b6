"""Control groups (version 2): sets of processes that inject lists, kills and waits for as one."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun, InjectError
from inject.process.janitor import Janitor
from inject.process.mounts import MOUNTINFO, Mount, mounts

_INIT_NAMESPACE = 0xEFFFFFFB
"""Inode of the first cgroup namespace (PROC_CGROUP_INIT_INO, include/linux/proc_ns.h)."""

_POLL = 0.02


def unique_name() -> str:
    """A name that no other run uses: process ids are not unique, a container has its own."""
    return f"inject-{os.getpid()}-{secrets.token_hex(8)}"


def hierarchy(mountinfo: Path = MOUNTINFO) -> Path:
    """The mount point of the version 2 hierarchy; raises CannotRun if it is not mounted."""
    return Path(_mount(mountinfo).point)


def _mount(mountinfo: Path) -> Mount:
    """The mount of the hierarchy, a writable one if there are several."""
    there = mounts(mountinfo)
    found = [mount for mount in there if mount.kind == "cgroup2" and mount.root == "/"]
    if found:
        return next((mount for mount in found if not mount.read_only), found[0])
    # Version 1 hierarchies lie below /sys/fs/cgroup: a mount on top would hide them.
    taken = any(Path("/sys/fs/cgroup") in (Path(mount.point), *Path(mount.point).parents) for mount in there)
    place = "/run/cgroup2" if taken else "/sys/fs/cgroup"
    make = f"mkdir -p {place} && " if taken else ""
    raise CannotRun("no cgroup v2 hierarchy is mounted", f"{make}mount -t cgroup2 none {place}")


def writable_hierarchy(mountinfo: Path = MOUNTINFO) -> Path:
    """The hierarchy's mount point; raises CannotRun if no group can be made there."""
    mount = _mount(mountinfo)
    if mount.read_only:
        raise CannotRun(
            f"the cgroup v2 hierarchy on {mount.point} is mounted read-only",
            f"mount -o remount,rw {mount.point}, or run outside the container",
        )
    return Path(mount.point)


def require_first_namespace(namespace: Path = Path("/proc/self/ns/cgroup")) -> None:
    """Raise CannotRun inside a cgroup namespace, which hides the depth that the kernel uses."""
    if namespace.exists() and namespace.stat().st_ino != _INIT_NAMESPACE:
        raise CannotRun(
            "inject runs in its own cgroup namespace, so the kernel's depth of a cgroup is unknown",
            "run on the host, or in a container with --cgroupns=host",
        )


class Cgroup:
    """A directory in the version 2 hierarchy.

    ``id`` and ``level`` are what bpf_get_current_ancestor_cgroup_id() takes and
    returns (cgroup_id() in include/linux/cgroup.h: the kernfs inode number; the
    root has level 0).
    """

    def __init__(self, path: Path, level: int) -> None:
        self.path = path
        self.level = level

    @classmethod
    def create(cls, janitor: Janitor, root: Optional[Path] = None) -> Cgroup:
        """A new group below the root of the hierarchy, registered with ``janitor``.

        Raises CannotRun without cgroup v2, without root, or inside a cgroup
        namespace, which hides the true depth.
        """
        require_first_namespace()
        base = root or writable_hierarchy()
        path = base / unique_name()
        janitor.register("cgroup", str(path))
        group = cls(path, 1)
        group._make()
        if not (path / "cgroup.kill").exists():
            group.remove()
            raise CannotRun("this kernel has no cgroup.kill", "Linux 5.14 or later is needed")
        return group

    def child(self, name: str) -> Cgroup:
        """A new group ``name`` inside this one; remove() removes both."""
        group = Cgroup(self.path / name, self.level + 1)
        group._make()
        return group

    def _make(self) -> None:
        try:
            self.path.mkdir()
        except OSError as error:
            kind = CannotRun if isinstance(error, PermissionError) else InjectError
            raise kind(f"cannot create the cgroup {self.path}: {error.strerror}", "run as root") from error

    @property
    def id(self) -> int:
        """The kernel's id of this group."""
        return self.path.stat().st_ino

    def add(self, pid: int) -> None:
        """Move process ``pid`` here; raises InjectError when the kernel refuses."""
        try:
            (self.path / "cgroup.procs").write_text(f"{pid}\n")
        except OSError as error:
            raise InjectError(f"cannot move process {pid} into {self.path}: {error.strerror}") from error

    def procs(self) -> list[int]:
        """Processes here and below, without zombies; empty if the group was removed."""
        found: list[int] = []
        for directory in self._tree():
            try:
                text = (directory / "cgroup.procs").read_text()
            except OSError:  # removed meanwhile, or a threaded group, whose processes its parent lists
                continue
            found += [int(word) for word in text.split()]
        return found

    def populated(self) -> bool:
        """True if a live process is here or below."""
        try:
            return "populated 1" in (self.path / "cgroup.events").read_text()
        except FileNotFoundError:
            return False

    def kill(self) -> None:
        """SIGKILL everything here and below, also concurrent forks; returns at once."""
        try:
            (self.path / "cgroup.kill").write_text("1")
        except FileNotFoundError:
            return
        except OSError as error:
            raise InjectError(f"cannot kill the processes in {self.path}: {error.strerror}") from error

    def wait_empty(self, seconds: float) -> bool:
        """Wait until no process is here or below; False if that takes longer than ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.populated():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        return True

    def remove(self) -> bool:
        """Remove this group and all groups inside; False if a process is still in one."""
        for directory in reversed(list(self._tree())):
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def close(self, janitor: Janitor, seconds: float = 5.0) -> bool:
        """Kill, wait, remove, release at ``janitor``; if that fails, return False and leave it to the janitor."""
        self.kill()
        if not (self.wait_empty(seconds) and self.remove()):
            return False
        janitor.release("cgroup", str(self.path))
        return True

    def _tree(self) -> Iterator[Path]:
        """This directory and those below it, parents first."""
        for directory, _, _ in os.walk(self.path):
            yield Path(directory)
