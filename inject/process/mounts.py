"""Mounts of this mount namespace, as /proc/self/mountinfo lists them.

The janitor has a reader of its own: it runs as a script and imports nothing of inject.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from inject.model.text import listed

MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Mount:
    """One mount: what of which filesystem is mounted where."""

    number: int
    """Device number of the filesystem as the kernel keeps it: MAJOR << 20 | MINOR (include/linux/kdev_t.h)."""
    root: str
    """The directory of the filesystem that is mounted, "/" except for bind mounts."""
    point: str
    kind: str
    """Type of the filesystem."""
    sources: tuple[str, ...]
    """Device nodes; bcachefs names all of them, joined by colons."""
    read_only: bool = False
    """True if the mount or the whole filesystem is."""


def mounts(mountinfo: Path = MOUNTINFO) -> list[Mount]:
    """Every mount, in mount order."""
    return [_mount(line) for line in mountinfo.read_text(errors="surrogateescape").splitlines()]


def mounts_of(devices: Collection[str], mountinfo: Path = MOUNTINFO) -> list[Mount]:
    """Mounts of a filesystem on one of ``devices``, bind mounts included."""
    return [mount for mount in mounts(mountinfo) if set(mount.sources).intersection(devices)]


def _mount(line: str) -> Mount:
    """One line: ``36 35 98:0 /root /point options ... - kind source options`` (proc_pid_mountinfo(5))."""
    left, _, right = line.partition(" - ")
    fields, (kind, source, *options) = left.split(), right.split()
    major, minor = fields[2].split(":")
    sources = tuple(_plain(source).split(":"))
    read_only = "ro" in ",".join([fields[5], *options[:1]]).split(",")
    return Mount(int(major) << 20 | int(minor), _plain(fields[3]), _plain(fields[4]), kind, sources, read_only)


def _plain(word: str) -> str:
    """``word`` without the escapes of blanks and backslashes (mangle_path() in fs/seq_file.c)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def holders(mountpoint: Path, proc: Path = Path("/proc")) -> str:
    """Processes that have files open or stand below ``mountpoint``: at most five, in words."""
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
    return "held by " + listed(names) if names else ""
