"""QEMU's monitor (QMP, docs/interop/qmp-spec): commands, replies and events."""

from __future__ import annotations

import time
from typing import Any, Callable

from inject.errors import InjectError
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
        self._replies: dict[int, dict[str, Any]] = {}
        self._asked = 0
        self.stopped = False
        self.shutdown = ""
        """QEMU's word for why it ended (``guest-shutdown``, ``guest-reset``), "" while unknown."""
        self.out_of_space = False

    def ask(self, command: str, timeout: float = ANSWER, **arguments: Any) -> Any:
        """Run a command of the monitor and return its answer.

        Raises MonitorError when QEMU refuses, ends, or is silent for ``timeout`` seconds.
        """
        if not self._is_open():
            raise MonitorError(f"QEMU ended before {command}")
        self._asked += 1
        number = self._asked
        request = {"execute": command, "id": number, **({"arguments": arguments} if arguments else {})}
        self._send(encode(request))
        until = time.monotonic() + timeout
        while number not in self._replies:
            if not self._is_open():
                raise MonitorError(f"QEMU ended during {command}")
            if time.monotonic() > until:
                raise MonitorError(f"QEMU gave no answer to {command} for {timeout:g} s")
            self._pump()
        reply = self._replies.pop(number)
        if "error" in reply:
            raise MonitorError(f"QEMU refused {command}: {reply['error'].get('desc', '')}")
        return reply.get("return")

    def hear(self, data: bytes) -> None:
        """Take what QEMU wrote."""
        for line in self._lines.feed(data):
            message = decode(line)
            if "id" in message:
                self._replies[message["id"]] = message
            elif "event" in message:
                self._event(message["event"], message.get("data", {}))

    def _event(self, name: str, data: dict[str, Any]) -> None:
        if name in ("STOP", "RESUME"):
            self.stopped = name == "STOP"
        elif name == "SHUTDOWN":
            self.shutdown = str(data.get("reason", ""))
        elif name == "BLOCK_IO_ERROR":
            self.out_of_space = self.out_of_space or bool(data.get("nospace"))
