"""Reader of a directory tree, which remount runs in a fork, see run_forked().

A fork, because a read of a damaged filesystem may hang in the kernel. Not a new Python:
remount reads the tree three times in a trial, and starting Python took longer than
reading the tree (measured in a guest under TCG).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext
from hashlib import sha256
from typing import Optional, Union

from inject.oracles.page_cache import unchanged

Identity = tuple[Union[int, str], ...]
"""What of a name must not change, in the order of FIELDS; () if it cannot be read."""
Row = tuple[str, Identity, str, str]

FIELDS = ("mode", "inode", "size", "mtime", "ctime", "owner", "group", "links", "device", "target", "xattrs")

_NAMESPACES = ("security.", "system.", "trusted.", "user.")
"""Those of xattr(7); a filesystem computes some of its own."""

_CHUNK = 1 << 20


def walk(root: str, max_names: int, max_bytes: int, *, keep_cache: bool = False) -> Iterator[Union[Row, tuple[str]]]:
    """Rows (path, identity, digest, error) below ``root``, then (what was left out,). Stays on one filesystem.

    With ``keep_cache`` the same data is in the page cache afterwards as before; it must be synced.
    """
    names = unread = 0
    left = max_bytes
    left_out = []
    top, error = _look(root)
    if top is None:  # xfs after a shutdown, for one: xfs_vn_getattr(), fs/xfs/xfs_iops.c
        yield "", (), "", error
        yield ("",)
        return
    pending = [""]
    while pending:
        directory = pending.pop()
        children, error = _list(os.path.join(root, directory))  # noqa: PTH118 - bytes of names are kept as they are
        if error:
            yield directory, (), "", error
        for child in children:
            names += 1
            if names > max_names:
                left_out.append(f"only the first {max_names} names were read")
                pending.clear()
                break
            path = os.path.join(directory, child)  # noqa: PTH118
            info, error = _look(os.path.join(root, path))  # noqa: PTH118
            if info is None:
                yield path, (), "", error
                continue
            digest = ""
            more, error = _more(os.path.join(root, path), info)  # noqa: PTH118
            if info.st_dev == top.st_dev:
                if stat.S_ISDIR(info.st_mode):
                    pending.append(path)
                elif stat.S_ISREG(info.st_mode) and info.st_size <= left:
                    left -= info.st_size
                    digest, bad = _digest(os.path.join(root, path), info.st_size, keep_cache)  # noqa: PTH118
                    error = error or bad
                elif stat.S_ISREG(info.st_mode):
                    unread += 1
            yield path, (*_stat(info), *more), digest, error
    if unread and max_bytes:
        left_out.append(f"{unread} files beyond {max_bytes} bytes in all were not read")
    yield (", ".join(left_out),)


def _list(path: str) -> tuple[list[str], str]:
    """Names in a directory, sorted, and the error if it cannot be listed."""
    try:
        return sorted(os.listdir(path)), ""  # noqa: PTH208
    except OSError as error:
        return [], f"cannot list: {error.strerror}"


def _look(path: str) -> tuple[Optional[os.stat_result], str]:
    try:
        return os.lstat(path), ""
    except OSError as error:
        return None, f"cannot stat: {error.strerror}"


def _stat(info: os.stat_result) -> tuple[int, ...]:
    times = info.st_mtime_ns, info.st_ctime_ns
    owner = info.st_uid, info.st_gid
    return (info.st_mode, info.st_ino, info.st_size, *times, *owner, info.st_nlink, info.st_rdev)


def _more(path: str, info: os.stat_result) -> tuple[tuple[str, str], str]:
    """Target of a symlink, checksum of the extended attributes, and the error if they cannot be read."""
    try:
        target = os.readlink(path) if stat.S_ISLNK(info.st_mode) else ""  # noqa: PTH115
        return (target, _xattrs(path)), ""
    except OSError as error:
        return ("", ""), f"cannot read its link or attributes: {error.strerror}"


def _xattrs(path: str) -> str:
    """Checksum of names and values; "" without any."""
    try:
        found = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return ""
        raise
    names = sorted(name for name in found if name.startswith(_NAMESPACES))
    if not names:
        return ""
    pairs = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
    return sha256(ascii(pairs).encode()).hexdigest()[:16]


def _digest(path: str, size: int, keep_cache: bool) -> tuple[str, str]:
    """Checksum of at most ``size`` bytes, and the error if it cannot be read."""
    digest = sha256()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME)
        try:
            with unchanged(fd, size) if keep_cache else nullcontext():
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
