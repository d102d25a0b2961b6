"""Filesystems as mkfs makes them, kept byte for byte: a run calls mkfs once for each kind, not for each trial."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Hashable, Sequence

from inject.errors import InjectError

LIMIT = 64 << 20
"""Bytes kept in all; a filesystem beyond it is made anew each time."""

_PIECE = 64 << 10
_BLKZEROOUT = 0x127F  # include/uapi/linux/fs.h

Key = Hashable
"""How it was made; the same key, the same filesystem."""
Image = tuple[tuple[int, bytes], ...]
"""What is not zero on a device: offset and content."""


class Shelf:
    """Prepared filesystems of one run.

    A prepared filesystem has the UUID of the one before it. What that one has left behind on the
    device would look like its own (journal entries are told apart by the UUID), so a device is
    zeroed from end to end before mkfs runs, and before a prepared filesystem is written to it.

    Reading a device to keep what is on it takes as long as a few calls of mkfs, so a kind is
    kept when it is made for the second time: a run that makes it once never pays.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept: dict[Key, tuple[Image, ...]] = {}
        self._bytes = 0
        self._made: set[Key] = set()

    def restore(self, key: Key, devices: Sequence[str], size: int) -> bool:
        """Write the filesystem called ``key`` to ``devices``, each of ``size`` bytes; False if there is none."""
        images = self._kept.get(key)
        if images is None:
            return False
        for device, image in zip(devices, images):
            _write(device, size, image)
        return True

    def keep(self, key: Key, devices: Sequence[str], size: int) -> None:
        """Remember what mkfs has made on ``devices``, which were zeroed before, if it was made so before."""
        if key not in self._made:
            self._made.add(key)
            return
        images = tuple(_read(device, size) for device in devices)
        length = sum(len(data) for image in images for _, data in image)
        if self._bytes + length <= self._limit:
            self._kept[key] = images
            self._bytes += length


def zero(device: str, size: int) -> None:
    """Zero the first ``size`` bytes, which a disk that can discard does without writing; raises InjectError."""
    _write(device, size, ())


def _write(device: str, size: int, image: Image) -> None:
    try:
        handle = os.open(device, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, _BLKZEROOUT, struct.pack("=QQ", 0, size))
            for offset, data in image:
                os.pwrite(handle, data, offset)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        step = "`findmnt` shows whether it is mounted" if error.errno == errno.EBUSY else ""
        raise InjectError(f"cannot wipe {device}: {error.strerror}", step) from error


def _read(device: str, size: int) -> Image:
    """All pieces of ``device`` that hold anything."""
    found = []
    zeros = bytes(_PIECE)
    handle = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for offset in range(0, size, _PIECE):
            data = os.pread(handle, min(_PIECE, size - offset), offset)
            if data != zeros[: len(data)]:
                found.append((offset, data))
    finally:
        os.close(handle)
    return tuple(found)
