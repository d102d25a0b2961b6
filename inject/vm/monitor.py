"""QEMU's monitor (QMP, docs/interop/qmp-spec): commands, replies and events."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Optional

from inject.errors import InjectError
from inject.model.text import printable_lines
from inject.vm.channel import Lines, decode, encode

ANSWER = 10.0
"""Seconds for QEMU to answer one command."""


class MonitorError(InjectError):
    """QEMU's monitor refused or gave no answer."""


class Monitor:
    """Commands to one QEMU.

    ``send`` writes to the monitor, ``pump`` waits a moment for anything to come,
    ``is_open`` says whether the monitor can still answer. ``stopped`` is True while QEMU,
    not the guest's kernel, holds the guest.
    """

    def __init__(self, send: Callable[[bytes], None], pump: Callable[[], None], is_open: Callable[[], bool]) -> None:
        self._send = send
        self._pump = pump
        self._is_open = is_open
        self._lines = Lines()
        self._asked = 0
        self._awaited = 0
        """The id of the answer that is waited for; 0: none."""
        self._reply: Optional[dict[str, Any]] = None
        self.stopped = False
        self.shutdown = ""
        """QEMU's first word for why the guest ended (``guest-shutdown``, ``guest-reset``), "" while unknown."""
        self.out_of_space = False

    def ask(self, command: str, timeout: float = ANSWER, **arguments: Any) -> Any:
        """Run a command of the monitor and return its answer.

        Raises MonitorError when QEMU refuses, ends, or is silent for ``timeout`` seconds.
        """
        if not self._is_open():
            raise MonitorError(f"QEMU ended before {command}")
        self._asked += 1
        self._awaited, self._reply = self._asked, None
        request = {"execute": command, "id": self._awaited, **({"arguments": arguments} if arguments else {})}
        self._send(encode(request))
        until = time.monotonic() + timeout
        while self._reply is None:
            if not self._is_open():
                raise MonitorError(f"QEMU ended during {command}")
            if time.monotonic() > until:
                raise MonitorError(f"QEMU gave no answer to {command} for {timeout:g} s")
            self._pump()
        reply, self._reply, self._awaited = self._reply, None, 0
        if "error" in reply:
            said = reply["error"].get("desc", "") if isinstance(reply["error"], dict) else reply["error"]
            raise MonitorError(f"QEMU refused {command}: {printable_lines(str(said))}")
        return reply.get("return")

    def hear(self, data: bytes) -> None:
        """Take what QEMU wrote. Ignores what is not QMP, and answers that :meth:`ask` does not wait for."""
        for line in self._lines.feed(data):
            with contextlib.suppress(ValueError):
                self._take(decode(line))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            if message["id"] == self._awaited:
                self._reply = message
        elif "event" in message:
            data = message.get("data")
            self._event(message["event"], data if isinstance(data, dict) else {})

    def _event(self, name: object, data: dict[str, Any]) -> None:
        if name in ("STOP", "RESUME"):
            self.stopped = name == "STOP"
        elif name == "SHUTDOWN":
            self.shutdown = self.shutdown or str(data.get("reason", ""))
        elif name == "BLOCK_IO_ERROR":
            self.out_of_space = self.out_of_space or bool(data.get("nospace"))
