"""Buffered, direct and mapped reads, and ordinary operations, which coherence and recovery run.

Runs in a fork, see run_forked(), because it may hang in the kernel. The rows are
("differs", path, words) for each difference, ("broken", operation, words) for an
operation that fails, and at the end ("end", what was left out).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Iterator

PIECE = 1 << 20
_FIEMAP = 0xC020660B  # FS_IOC_FIEMAP, include/uapi/linux/fiemap.h
_SYNC, _LAST, _INLINE = 1, 1, 0x200
_EXTENTS = 512


def files(root: str, max_names: int, left_out: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files below ``root``, on its filesystem, at most ``max_names`` names; says so in ``left_out``."""
    try:
        device = os.lstat(root).st_dev
    except OSError as error:  # xfs after a shutdown, for one: xfs_vn_getattr(), fs/xfs/xfs_iops.c
        left_out.append(f"nothing was looked at: {error.strerror}")
        return
    pending = [root]
    names = 0
    while pending:
        directory = pending.pop()
        try:
            children = sorted(os.listdir(directory))  # noqa: PTH208
        except OSError:
            continue  # remount reports a tree that cannot be read
        for child in children:
            names += 1
            if names > max_names:
                left_out.append(f"only the first {max_names} names were looked at")
                return
            path = os.path.join(directory, child)  # noqa: PTH118
            try:
                info = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(info.st_mode):
                yield path, info
            elif stat.S_ISDIR(info.st_mode) and info.st_dev == device:
                pending.append(path)


def compare(path: str, size: int, buffer: mmap.mmap) -> str:
    """How buffered, direct and mapped reads of ``path`` differ, or "". Each reads every piece once."""
    cached = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
    direct = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME | os.O_DIRECT)
    try:
        for start in range(0, size, PIECE):
            length = min(PIECE, size - start)
            before = os.pread(cached, length, start)
            with mmap.mmap(cached, length, prot=mmap.PROT_READ, offset=start) as mapped:
                if mapped[:] != before:
                    return _where(start, before, mapped[:], "read(2) and a mapping disagree")
            stored = buffer[: os.preadv(direct, [buffer], start)][:length]
            if stored != before:
                return _where(start, before, stored, "the page cache and the disk disagree")
            os.posix_fadvise(cached, start, length, os.POSIX_FADV_DONTNEED)
            again = os.pread(cached, length, start)
            if again != before:
                return _where(start, before, again, "it reads differently after the page cache is dropped")
    finally:
        os.close(cached)
        os.close(direct)
    return ""


def _where(start: int, one: bytes, other: bytes, words: str) -> str:
    """The first byte that differs."""
    if len(one) != len(other):
        return f"{words}: {len(one)} and {len(other)} bytes at {start}"
    low = next(i for i in range(len(one)) if one[i] != other[i])
    return f"{words}: byte {start + low} is {one[low]:#04x} and {other[low]:#04x}"


def extents(path: str) -> int:
    """Bytes that FIEMAP maps for the file, or -1 if they do not show its blocks.

    bcachefs has an entry for each replica, at the same place (bch2_fill_extent(), fs/bcachefs/fs.c).
    """
    total: int = 0
    start: int = 0
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
    try:
        while True:
            head = struct.pack("=QQIIII", start, (1 << 64) - 1 - start, _SYNC, 0, _EXTENTS, 0)
            reply = bytearray(head + bytes(56 * _EXTENTS))
            fcntl.ioctl(handle, _FIEMAP, reply)
            mapped: int = struct.unpack_from("=I", reply, 20)[0]
            for number in range(mapped):
                logical, _, length, _, _, flags = struct.unpack_from("=QQQQQI", reply, 32 + 56 * number)
                if flags & _INLINE:
                    return -1
                total += max(0, logical + length - max(logical, start))
                start = max(start, logical + length)
                if flags & _LAST:
                    return total
            if not mapped:
                return total
    finally:
        os.close(handle)


def views(root: str, max_names: int, max_bytes: int, blocks: bool) -> Iterator[tuple[str, str, str]]:
    """Every difference; with ``blocks`` also between st_blocks and the extents."""
    buffer = mmap.mmap(-1, PIECE)
    left = max_bytes
    unread = 0
    left_out: list[str] = []
    for path, info in files(root, max_names, left_out):
        if info.st_size > left:
            unread += 1
            continue
        left -= info.st_size
        name = os.path.relpath(path, root)
        try:
            words = compare(path, info.st_size, buffer)
            mapped = extents(path) if blocks else -1
        except OSError as error:
            words, mapped = f"cannot be read in every way: {error.strerror}", -1
        now = os.lstat(path).st_blocks * 512
        if mapped not in (-1, now) and not words:
            words = f"stat says {now} bytes of blocks, its extents are {mapped}"
        if words:
            yield "differs", name, words
    if unread:
        left_out.append(f"{unread} files beyond {max_bytes} bytes in all were not compared")
    yield "end", ", ".join(left_out), ""


def use(root: str) -> Iterator[tuple[str, str, str]]:
    """Operations that must work after recovery: make, write, sync, read, rename and remove."""
    directory = os.path.join(root, f".inject-{os.getpid()}")  # noqa: PTH118
    data = bytes(range(256)) * 512
    step = "mkdir"
    try:
        os.mkdir(directory)  # noqa: PTH102
        one, other = os.path.join(directory, "a"), os.path.join(directory, "b")  # noqa: PTH118
        step = "create"
        handle = os.open(one, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        step = "write"
        written = os.pwrite(handle, data, 100)
        step = "fsync"
        os.fsync(handle)
        step = "read"
        if written != len(data) or os.pread(handle, len(data) + 200, 100) != data:
            yield "broken", step, "other data than was written"
        os.close(handle)
        step = "rename"
        os.rename(one, other)  # noqa: PTH104
        step = "truncate"
        os.truncate(other, 1000)
        step = "unlink"
        os.unlink(other)  # noqa: PTH108
        step = "rmdir"
        os.rmdir(directory)  # noqa: PTH106
    except OSError as error:
        yield "broken", step, error.strerror or str(error)
    yield "end", "", ""
