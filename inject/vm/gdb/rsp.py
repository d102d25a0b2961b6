"""Packets to and from QEMU's gdb stub or a gdb (GDB manual, appendix "Remote Serial Protocol")."""

from __future__ import annotations

import select
import socket
import time
from collections import deque

from inject.errors import InjectError

INTERRUPT = b"\x03"
ANSWER = 30.0
"""Seconds for the stub to answer; it needs far less than one, on a machine that is not overloaded."""

MOST = 1 << 20
"""Bytes of the longest packet; QEMU announces 4 KiB."""


class Gone(InjectError):
    """The other side of ``wire`` closed the connection, is silent, or does not speak the protocol."""

    def __init__(self, wire: Wire, message: str) -> None:
        super().__init__(message)
        self.wire = wire


class Wire:
    """One connection: packets with their checksum, each acknowledged at once; a socket loses none."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._rest = bytearray()
        self._inbox: deque[bytes] = deque()

    def fileno(self) -> int:
        """The descriptor, for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, packet: bytes) -> None:
        """Send a packet; raises Gone when the other side does not take it."""
        self._write(b"$" + packet + b"#%02x" % (sum(packet) & 0xFF))

    def interrupt(self) -> None:
        """Ask for a stop: a single byte outside of any packet, as gdb does."""
        self._write(INTERRUPT)

    def _write(self, data: bytes) -> None:
        until = time.monotonic() + ANSWER
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Gone(self, "the debugger does not read") from None
                select.select([], [self._socket], [], 0.2)
            except OSError as error:
                raise Gone(self, f"the debugger's connection broke: {error.strerror}") from None

    def packets(self) -> list[bytes]:
        """The packets that have come, an interrupt as INTERRUPT; raises Gone at the end of the connection."""
        self._receive()
        found = list(self._inbox)
        self._inbox.clear()
        return found

    def _receive(self) -> None:
        try:
            data = self._socket.recv(64 << 10)
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone(self, f"the debugger's connection broke: {error.strerror}") from None
        if not data:
            raise Gone(self, "the debugger's connection was closed")
        self._rest += data
        if len(self._rest) > MOST:
            raise Gone(self, "the other side is not a debugger")
        self._cut()

    def _cut(self) -> None:
        while self._rest:
            if self._rest[:1] == INTERRUPT:
                self._inbox.append(INTERRUPT)
            if self._rest[:1] != b"$":  # acknowledgements, and noise of a new connection
                del self._rest[:1]
                continue
            end = self._rest.find(b"#")
            if end < 0 or len(self._rest) < end + 3:
                break
            self._inbox.append(bytes(self._rest[1:end]))
            del self._rest[: end + 3]
            self._write(b"+")

    def next(self, timeout: float = ANSWER) -> bytes:
        """The next packet, waiting for it; raises Gone after ``timeout`` seconds."""
        until = time.monotonic() + timeout
        while not self._inbox:
            left = until - time.monotonic()
            if left <= 0:
                raise Gone(self, f"QEMU's gdb stub gave no answer for {timeout:g} s")
            select.select([self._socket], [], [], min(left, 0.2))
            self._receive()
        return self._inbox.popleft()

    def ask(self, packet: bytes) -> bytes:
        """Send a request and return the answer."""
        self.send(packet)
        return self.next()

    def ask_bytes(self, packet: bytes) -> bytes:
        """Send a request for registers or memory; raises Gone if the answer is not bytes in hexadecimal."""
        try:
            return bytes.fromhex(self.ask(packet).decode("ascii"))
        except ValueError:
            raise Gone(self, "QEMU's gdb stub gave no registers") from None
