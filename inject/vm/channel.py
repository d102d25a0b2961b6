"""JSON lines between host and guest, both ways, every buffer bounded.

The guest's agent imports this file too, under emulation, where an import costs
tens of milliseconds: nothing but the cheap modules may be imported here.

The host asks (``do``) and the agent answers (``is``); ``id`` joins the two:

``ping``
    ``pong``
``exec`` (argv, env, cwd, stdin, tty as [rows, columns] or null)
    any number of ``out`` (stream 1 or 2, data), then ``exit`` (code or signal)
``stdin`` (data, or eof)
    ``taken`` (bytes): as many may follow
``signal`` (signal), ``resize`` (rows, columns)
    nothing
``write`` (path, data, mode, append)
    ``done``
``read`` (path, offset)
    ``done`` (data, eof)

Unasked, the agent says ``hello`` (release, uptime, init) once when it is up.
A request that cannot be done is answered with ``error`` (message).
"""

from __future__ import annotations

import binascii
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

AGENT_PORT = "inject.agent"
RESULTS_PORT = "inject.results"
"""Names of the two virtio-serial ports; links of these names are in /dev/virtio-ports."""

WATCHED = "inject.gdb"
"""Word on the kernel's command line of a guest that a debugger watches."""

CHUNK = 32 << 10
"""Bytes of a stream or file that travel in one message."""

WINDOW = 256 << 10
"""Bytes of standard input that may be on their way to one command."""

MAX_LINE = 8 << 20
"""Bytes of the longest line that is accepted; a longer one is dropped and counted."""


def encode(message: Mapping[str, Any]) -> bytes:
    """``message`` as one line."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object in ``line``; raises ValueError when it is not a JSON object."""
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message


def pack(data: bytes) -> str:
    """Any bytes as text for a message."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def unpack(text: str) -> bytes:
    """The inverse of :func:`pack`; raises ValueError on anything else."""
    return binascii.a2b_base64(text)


class Lines:
    """Cuts a byte stream into lines of at most ``limit`` bytes.

    ``dropped`` counts the lines that were longer; they are skipped to their end.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self.limit = limit
        self.dropped = 0
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their newline."""
        lines = []
        *ends, rest = data.split(b"\n")
        for part in ends:
            self._grow(part)
            if not self._skipping:
                lines.append(bytes(self._rest))
            self._rest.clear()
            self._skipping = False
        self._grow(rest)
        return lines

    def _grow(self, part: bytes) -> None:
        if self._skipping:
            return
        if len(self._rest) + len(part) > self.limit:
            self.dropped += 1
            self._skipping = True
            self._rest.clear()
            return
        self._rest += part
