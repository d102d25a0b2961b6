"""What lies in a directory tree: names, what stat says, and checksums.

This file also runs as a script in a process of its own, because a read of a
damaged filesystem may hang in the kernel and must not take the tool with it.
Standard library only. It prints one JSON object a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One name below the root. ``digest`` is the sha256 of a regular file that was read, else ""."""

    path: str
    """Relative to the root; bytes that are no UTF-8 as Python's surrogates."""
    identity: tuple[int, ...] = ()
    """Type and mode, inode, size, mtime and ctime in ns: differs as soon as somebody has touched it."""
    digest: str = ""
    error: str = ""
    """Why it could not be listed, looked at or read."""


@dataclass(frozen=True)
class Manifest:
    """A tree. ``bound`` says in words what was left out because there was too much; "" if nothing."""

    entries: tuple[Entry, ...]
    bound: str = ""

    def by_path(self) -> dict[str, Entry]:
        """The entries by their relative path."""
        return {entry.path: entry for entry in self.entries}

    def errors(self) -> list[Entry]:
        """What the filesystem would not give."""
        return [entry for entry in self.entries if entry.error]


def parse(text: str) -> Manifest:
    """What the script printed; raises ValueError when it did not come to its end."""
    entries: list[Entry] = []
    for line in text.splitlines():
        data = json.loads(line)
        if "end" in data:
            return Manifest(tuple(entries), data["end"])
        entries.append(Entry(data["path"], tuple(data["identity"]), data["digest"], data["error"]))
    raise ValueError("the listing has no end")


def walk(root: str, max_names: int, max_bytes: int) -> Iterator[dict[str, Any]]:
    """Entries of the tree below ``root``, then ``{"end": what was left out}``. Stays on one filesystem."""
    names = 0
    left = max_bytes
    unread = 0
    device = os.lstat(root).st_dev
    pending = [""]
    while pending:
        directory = pending.pop()
        children, error = _list(os.path.join(root, directory))  # noqa: PTH118 - bytes of names are kept as they are
        if error:
            yield _entry(directory, error=error)
        for child in children:
            names += 1
            if names > max_names:
                yield {"end": f"only the first {max_names} names were looked at"}
                return
            path = os.path.join(directory, child)  # noqa: PTH118
            found, info = _look(root, path)
            if info is not None and info.st_dev == device:
                if stat.S_ISDIR(info.st_mode):
                    pending.append(path)
                elif stat.S_ISREG(info.st_mode) and info.st_size <= left:
                    left -= info.st_size
                    found["digest"], found["error"] = _digest(os.path.join(root, path), info.st_size)  # noqa: PTH118
                elif stat.S_ISREG(info.st_mode):
                    unread += 1
            yield found
    yield {"end": f"{unread} files beyond {max_bytes} bytes in all were not read" if unread and max_bytes else ""}


def _list(path: str) -> tuple[list[str], str]:
    """Names in a directory, sorted, and why not."""
    try:
        return sorted(os.listdir(path)), ""  # noqa: PTH208
    except OSError as error:
        return [], f"cannot list: {error.strerror}"


def _look(root: str, path: str) -> tuple[dict[str, Any], Optional[os.stat_result]]:
    try:
        info = os.lstat(os.path.join(root, path))  # noqa: PTH118
    except OSError as error:
        return _entry(path, error=f"cannot stat: {error.strerror}"), None
    return _entry(path, [info.st_mode, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]), info


def _entry(path: str, identity: Optional[list[int]] = None, error: str = "") -> dict[str, Any]:
    return {"path": path, "identity": identity or [], "digest": "", "error": error}


def _digest(path: str, size: int) -> tuple[str, str]:
    """The checksum of at most ``size`` bytes, and why it could not be had."""
    digest = hashlib.sha256()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME)
        try:
            while size > 0:
                data = os.read(fd, min(_CHUNK, size))
                if not data:
                    return "", "cannot read: shorter than its size"
                size -= len(data)
                digest.update(data)
        finally:
            os.close(fd)
    except OSError as error:
        return "", f"cannot read: {error.strerror}"
    return digest.hexdigest(), ""


def _main(root: str, max_names: str, max_bytes: str) -> None:
    for item in walk(root, int(max_names), int(max_bytes)):
        sys.stdout.write(json.dumps(item) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
