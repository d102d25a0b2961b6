"""Output of a command: its beginning and its end, up to a limit, and the number of bytes left out."""

from __future__ import annotations

import os
import selectors
import time
from typing import Callable, Optional

DEFAULT_LIMIT = 256 << 10
"""Bytes of output kept of one command."""

_CHUNK = 64 << 10

TICK = 0.5
"""Seconds between two calls of ``tick`` in wait_collecting(), at most."""


class Output:
    """Buffer that keeps the first and the last half of ``limit`` bytes, and counts the rest.

    ``on_output`` is called with every piece as it arrives.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, on_output: Optional[Callable[[bytes], None]] = None) -> None:
        if limit < 2:
            raise ValueError("an output limit must be at least 2 bytes")
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self._on_output = on_output
        self.dropped = 0
        """Bytes left out between head and tail."""

    def feed(self, data: bytes) -> None:
        """Add ``data`` at the end."""
        if self._on_output is not None and data:
            self._on_output(data)
        room = self._head_limit - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        excess = len(self._tail) - self._tail_limit
        if excess > 0:
            del self._tail[:excess]
            self.dropped += excess

    def text(self) -> str:
        """Head and tail as text; a line between them says how many bytes are left out."""
        if not self.dropped:
            return (self._head + self._tail).decode("utf-8", "replace")
        head = self._head.decode("utf-8", "replace").rstrip("\n")
        tail = self._tail.decode("utf-8", "replace").lstrip("\n")
        return f"{head}\n[... {self.dropped} bytes left out ...]\n{tail}"


def wait_collecting(
    pidfd: int, pipe: int, output: Output, deadline: float, tick: Callable[[], object] = lambda: None
) -> bool:
    """Read ``pipe`` into ``output`` until the process behind ``pidfd`` ends.

    ``pipe`` must be non-blocking. Returns False if ``deadline`` (seconds of
    time.monotonic) came first. A pipe that other processes hold open does not
    extend the wait, and a pipe closed early does not end it. ``tick`` is called again and
    again while the wait goes on, and not while ``output`` passes something on.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(pidfd, selectors.EVENT_READ)
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            tick()
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ready = {key.fd for key, _ in selector.select(min(left, TICK))}
            if pipe in ready and not _read_once(pipe, output):
                selector.unregister(pipe)
            if pidfd in ready:
                return True


def drain(pipe: int, output: Output, limit: int = 16 << 20) -> None:
    """Read what the non-blocking ``pipe`` holds now, at most ``limit`` bytes; never waits."""
    for _ in range(max(1, limit // _CHUNK)):
        if not _read_once(pipe, output):
            return


def _read_once(pipe: int, output: Output) -> bool:
    """Read once; False at the end of the pipe, or if there is nothing to read now."""
    try:
        data = os.read(pipe, _CHUNK)
    except BlockingIOError:
        return False
    output.feed(data)
    return bool(data)
