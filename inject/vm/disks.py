"""The disks of a guest: an overlay on the image, the checkout, scratch disks; new for each guest."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun
from inject.vm import qemu
from inject.vm.carry import checkout

SCRATCH_DISKS = 4
SCRATCH_SIZE = 8 << 30
"""Bytes of each scratch disk; sparse: only what is written takes room."""


@dataclass(frozen=True)
class Parts:
    """The files that a guest boots from; none of them is ever written.

    ``headers`` is an ext4 image for /lib/modules, None when the image has its own.
    ``checkout`` is the directory whose ``inject/`` runs in the guest, ``modules`` holds
    what earlier guests compiled of it.
    """

    kernel: Path
    rootfs: Path
    headers: Optional[Path]
    checkout: Path
    modules: Optional[Path] = None


def new_directory() -> Path:
    """A new directory for disks: in /var/tmp rather than /tmp, which may be memory."""
    place = os.environ.get("TMPDIR") or ("/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir())
    return Path(tempfile.mkdtemp(prefix="inject-vm-", dir=place))


def make_disks(tool: str, parts: Parts, directory: Path) -> tuple[qemu.Disk, ...]:
    """Make the overlay, the checkout and the scratch disks in ``directory``; raises CannotRun when a disk cannot be."""
    overlay = directory / "root.qcow2"
    _create(tool, overlay, "-b", str(parts.rootfs.resolve()), "-F", "raw")
    code = directory / "checkout.tar"
    checkout.pack(parts.checkout, code, parts.modules)
    scratch = [directory / f"scratch{number}.qcow2" for number in range(SCRATCH_DISKS)]
    _create(tool, scratch[0], str(SCRATCH_SIZE))
    for other in scratch[1:]:
        shutil.copyfile(scratch[0], other)
    disks = [qemu.Disk("inject-root", str(overlay), "qcow2")]
    disks.append(qemu.Disk(checkout.SERIAL, str(code), read_only=True))
    if parts.headers is not None:
        disks.append(qemu.Disk("inject-headers", str(parts.headers), read_only=True))
    disks += [qemu.Disk(f"inject-scratch{number}", str(path), "qcow2") for number, path in enumerate(scratch)]
    return tuple(disks)


def _create(tool: str, path: Path, *words: str) -> None:
    options = list(words) if not words[0].startswith("-") else []
    backing = list(words) if words[0].startswith("-") else []
    done = subprocess.run(
        [tool, "create", "-q", "-f", "qcow2", *backing, str(path), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise CannotRun(f"cannot create a disk for the guest: {done.stderr.strip()}")
