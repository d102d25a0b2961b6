"""What is slow to ask the kernel for, kept in the cache for as long as it stays true."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
from pathlib import Path
from typing import Optional, Union

from inject.kernel.files import text_of
from inject.store import write_file

Text = Union[bytes, mmap.mmap]
NOTE = "notes/.note.gnu.build-id"
MOST_MODULES = 1024


def state(root: Path, build_id: str) -> str:
    """A hash of all on which the kernel's symbols depend; "" if that cannot be told.

    That is the boot, which decides where vmlinux is, and each loaded module by address and
    build id: a module that was built anew can have the name, size and place of the old one.
    """
    boot = text_of(root / "proc/sys/kernel/random/boot_id")
    lines = text_of(root / "proc/modules").splitlines()
    if not boot or not build_id or len(lines) > MOST_MODULES:
        return ""
    digest = hashlib.sha256(f"{boot}\n{build_id}\n".encode())
    for line in lines:
        words = line.split()
        try:
            note = (root / "sys/module" / words[0] / NOTE).read_bytes()
        except OSError:
            return ""
        # The number of its users and their names change, and say nothing about its symbols.
        digest.update(f"{words[0]} {words[1]} {words[4:]}\n".encode() + note)
    return digest.hexdigest()


def load(directory: Path, name: str, key: str) -> Optional[mmap.mmap]:
    """What :func:`keep` wrote for ``key``; None if there is none, or another user can write it."""
    try:
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not (_private(status) and _private(directory.stat()) and stat.S_ISREG(status.st_mode)):
            return None
        found = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)
    head = f"{key} {len(found)}\n".encode()
    return found if found[: len(head)] == head else None


def keep(directory: Path, name: str, key: str, text: bytes) -> None:
    """Write ``text`` for the next run; a disk that refuses costs only the time saved.

    The head has the whole length, so that a part is not taken for all of it.
    """
    length = len(text) + len(key) + 2
    while len(f"{length}") + len(text) + len(key) + 2 != length:
        length = len(f"{length}") + len(text) + len(key) + 2
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(directory / name, f"{key} {length}\n".encode() + text)


def _private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
