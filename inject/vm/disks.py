"""The disks of a guest: an overlay on the image, the checkout, scratch disks; new for each guest."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun
from inject.store import temporary_place
from inject.vm import qemu
from inject.vm.carry import checkout

SCRATCH_DISKS = 4
SCRATCH_SIZE = 8 << 30
CREATING = 60.0
"""Seconds that qemu-img may take for a disk; measured 0.03."""
"""Bytes of each scratch disk; sparse: only what is written takes room."""


@dataclass(frozen=True)
class Kept:
    """The files of a guest that is saved, in ``directory``; with ``saving`` of the guest that is to be saved.

    With ``scratch`` its scratch disks are among them.
    """

    directory: Path
    saving: bool = False
    scratch: bool = False

    @property
    def memory(self) -> Path:
        """The guest's memory, a file of that size."""
        return self.directory / "memory"

    @property
    def root(self) -> Path:
        """The overlay of its root disk."""
        return self.directory / "root.qcow2"

    @property
    def code(self) -> Path:
        """The checkout that it unpacked."""
        return self.directory / "checkout.tar"

    def scratch_disk(self, number: int) -> Path:
        """A scratch disk, from 0."""
        return self.directory / f"scratch{number}.qcow2"

    def prepare_overlays(self, tool: str) -> None:
        """Make the overlay of each disk, which later guests copy: that takes less time than ``tool``."""
        for disk in (self.root, *(self.scratch_disk(number) for number in range(SCRATCH_DISKS))):
            with _overlay(disk).open("xb") as file:
                _create(tool, file.fileno(), "-b", str(disk.resolve()), "-F", "qcow2")


@dataclass(frozen=True)
class Parts:
    """The files that a guest boots from; none of them is ever written.

    ``headers`` is an ext4 image for /lib/modules, None when the image has its own.
    ``initramfs`` is for kernels that have the drivers of their disks as modules;
    ``override`` is inject's kernel module.
    ``checkout`` is the directory whose ``inject/`` runs in the guest, ``modules`` holds
    what earlier guests compiled of it. ``kept``: the guest is saved, or continues from one that was.
    """

    kernel: Path
    rootfs: Path
    headers: Optional[Path]
    checkout: Path
    modules: Optional[Path] = None
    initramfs: Optional[Path] = None
    override: Optional[Path] = None
    kept: Optional[Kept] = None


class Disks:
    """The disks of one guest, as files that have no name: at SIGKILL they are gone with this process and QEMU.

    ``all`` are for QEMU, which must inherit ``fds``. :meth:`close` once QEMU has opened them.
    """

    def __init__(self, tool: str, parts: Parts) -> None:
        self.fds: list[int] = []
        try:
            self.all = self._make(tool, parts)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        while self.fds:
            os.close(self.fds.pop())

    def _make(self, tool: str, parts: Parts) -> tuple[qemu.Disk, ...]:
        """Make the overlay, the checkout and the scratch disks; raises CannotRun when a disk cannot be."""
        root, code = self._root_and_code(tool, parts)
        scratch = self._scratch(tool, parts.kept)
        disks = [qemu.Disk("inject-root", root, "qcow2"), qemu.Disk(checkout.SERIAL, code, read_only=True)]
        if parts.headers is not None:
            disks.append(qemu.Disk("inject-headers", str(parts.headers), read_only=True))
        disks += [qemu.Disk(f"inject-scratch{number}", path, "qcow2") for number, path in enumerate(scratch)]
        return tuple(disks)

    def _scratch(self, tool: str, kept: Optional[Kept]) -> list[str]:
        """Paths of the scratch disks: empty ones, or those of the guest that was saved below overlays."""
        if kept is not None and kept.scratch and not kept.saving:
            return [self._over(tool, kept.scratch_disk(number)) for number in range(SCRATCH_DISKS)]
        named = kept if kept is not None and kept.scratch else None
        made = [self._file(named.scratch_disk(number) if named else None) for number in range(SCRATCH_DISKS)]
        _create(tool, made[0], str(SCRATCH_SIZE))
        for other in made[1:]:
            shutil.copyfile(path_of(made[0]), path_of(other))
        return [path_of(fd) for fd in made]

    def _over(self, tool: str, disk: Path) -> str:
        """Path of a new overlay of the qcow2 file ``disk``."""
        made = self._file()
        if _overlay(disk).exists():
            shutil.copyfile(_overlay(disk), path_of(made))
        else:
            _create(tool, made, "-b", str(disk.resolve()), "-F", "qcow2")
        return path_of(made)

    def _root_and_code(self, tool: str, parts: Parts) -> tuple[str, str]:
        """Paths of the overlay and of the checkout's tar; of a guest that is saved they have a name."""
        kept = parts.kept
        if kept is None or kept.saving:
            overlay = self._file(kept.root if kept is not None else None)
            code = self._file(kept.code if kept is not None else None)
            _create(tool, overlay, "-b", str(parts.rootfs.resolve()), "-F", "raw")
            checkout.pack(parts.checkout, Path(path_of(code)), parts.modules, parts.override)
            return path_of(overlay), path_of(code)
        return self._over(tool, kept.root), str(kept.code)

    def _file(self, path: Optional[Path] = None) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.fds.append(unnamed_file() if path is None else os.open(path, flags, 0o600))
        return self.fds[-1]


def _overlay(disk: Path) -> Path:
    return disk.with_suffix(".overlay")


def path_of(fd: int) -> str:
    """The path of a descriptor in each process that has it."""
    return f"/proc/self/fd/{fd}"


def unnamed_file() -> int:
    """A new file without a name: in /var/tmp rather than /tmp, which may be memory."""
    place = os.environ.get("TMPDIR") or ("/var/tmp" if Path("/var/tmp").is_dir() else temporary_place())
    try:
        return os.open(place, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # EISDIR: from a kernel that does not know the flag
            raise CannotRun(f"cannot make a file in {place}: {error.strerror}", "set TMPDIR to another place") from None
    fd, name = tempfile.mkstemp(prefix="inject-vm-", dir=place)  # a filesystem without O_TMPFILE
    Path(name).unlink()
    return fd


def _create(tool: str, fd: int, *words: str) -> None:
    options = list(words) if not words[0].startswith("-") else []
    backing = list(words) if words[0].startswith("-") else []
    try:
        done = subprocess.run(
            [tool, "create", "-q", "-f", "qcow2", *backing, path_of(fd), *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CREATING,
            check=False,
            pass_fds=(fd,),
        )
    except subprocess.TimeoutExpired:
        raise CannotRun(f"cannot create a disk for the guest: {tool} did not end within {CREATING:g} s") from None
    if done.returncode != 0:
        raise CannotRun(f"cannot create a disk for the guest: {done.stderr.strip()}")
