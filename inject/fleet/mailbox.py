"""The way from workers to the main thread, and the word that ends them."""

from __future__ import annotations

import queue
import threading
from typing import Callable

PAUSE = 0.2
"""Seconds that one look takes at most."""

MOST_WAITING = 1000
"""Actions that wait for the main thread; above it a worker waits."""


class Mailbox:
    """Actions of the workers of a batch, done by the main thread one by one."""

    def __init__(self) -> None:
        self._inbox: queue.Queue[Callable[[], None]] = queue.Queue(MOST_WAITING)
        self._ended = threading.Event()
        self.booted = threading.Event()
        """Set when any host of the batch has opened."""

    def end(self) -> None:
        """Stop every worker at its next :meth:`check`."""
        self._ended.set()

    def check(self) -> None:
        """Raise KeyboardInterrupt in a worker that must end."""
        if self._ended.is_set():
            raise KeyboardInterrupt

    def post(self, action: Callable[[], None]) -> None:
        """Have the main thread do ``action``; raises KeyboardInterrupt when the batch ends before."""
        while True:
            self.check()
            try:
                self._inbox.put(action, timeout=PAUSE)
                return
            except queue.Full:
                pass

    def serve(self) -> bool:
        """Do one action, waiting a moment for it; False if there was none."""
        try:
            action = self._inbox.get(timeout=PAUSE)
        except queue.Empty:
            return False
        action()
        return True
