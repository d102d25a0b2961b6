"""QEMU's streams: the end that inject keeps, and the end that QEMU inherits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import Callable

from inject.errors import InjectError
from inject.vm.channel import MAX_LINE

PIPE_SIZE = 1 << 20
F_SETPIPE_SZ = 1031
"""linux/fcntl.h; Python's fcntl has it since 3.10."""

_READ = 64 << 10
_OUTBOX = 2 * MAX_LINE


class Stream:
    """One of QEMU's streams.

    ``own`` is the end that inject reads, ``theirs`` the one that QEMU inherits; :meth:`close` closes both.
    """

    def __init__(self, name: str, take: Callable[[bytes], None]) -> None:
        self.name = name
        self.take = take
        self.outbox = bytearray()
        self.own, self.theirs = self.open()
        os.set_blocking(self.own, False)

    def open(self) -> tuple[int, int]:
        """A socket pair: small messages both ways."""
        return tuple(end.detach() for end in socket.socketpair())  # type: ignore[return-value]

    def receive(self) -> bool:
        """Take what is there; False at the end of the stream."""
        try:
            data = os.read(self.own, _READ)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if data:
            self.take(data)
        return bool(data)

    def send(self, data: bytes) -> None:
        """Queue ``data``; raises InjectError when the other side has not read for too long."""
        if len(self.outbox) + len(data) > _OUTBOX:
            raise InjectError(f"the guest does not read its {self.name} port")
        self.outbox += data
        self.flush()

    def flush(self) -> None:
        """Hand over as much as goes without waiting; what QEMU can no longer take is dropped."""
        try:
            while self.outbox:
                del self.outbox[: os.write(self.own, self.outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self.outbox.clear()

    def close_theirs(self) -> None:
        """Close QEMU's end, which QEMU has inherited."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def close(self) -> None:
        """Close both ends."""
        self.close_theirs()
        if self.own >= 0:
            os.close(self.own)
            self.own = -1


class Pipe(Stream):
    """A stream that QEMU only writes, byte by byte: a pipe joins the bytes, a socket keeps each apart."""

    def open(self) -> tuple[int, int]:
        """A pipe of :data:`PIPE_SIZE` bytes; a full one must not block QEMU."""
        own, theirs = os.pipe()
        os.set_blocking(theirs, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(theirs, F_SETPIPE_SZ, PIPE_SIZE)
        return own, theirs
