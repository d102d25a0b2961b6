"""The guest's console: its last lines, and what they say about its end."""

from __future__ import annotations

import re
from typing import Optional

KEPT = 256 << 10
"""Bytes of console output that are kept, the newest ones."""

_PANIC = re.compile(r"Kernel panic - not syncing(?:: *(?P<why>[^\r\n]*))?")
_CAUSE = re.compile(r"(?:BUG: |Oops: |kernel BUG at |Internal error: |general protection fault)[^\r\n]*")
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|c)")


class Console:
    """A bounded memory of what the guest printed. ``seen`` counts all bytes ever printed."""

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self.seen = 0
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what the guest printed next."""
        self.seen += len(data)
        self._data += data
        if len(self._data) > 2 * self.kept:
            del self._data[: -self.kept]

    def text(self) -> str:
        """All that is kept, without carriage returns and terminal control sequences."""
        text = bytes(self._data[-self.kept :]).decode("utf-8", "replace").replace("\r", "")
        return _ESCAPE.sub("", text)

    def tail(self, lines: int = 60) -> str:
        """The last ``lines`` lines."""
        return "\n".join(self.text().rstrip("\n").split("\n")[-lines:])

    def panic(self) -> Optional[str]:
        """Why the kernel panicked ("" if it did not say); None if it did not panic.

        After an oops the panic itself only says "Fatal exception"; then the oops is the answer.
        """
        text = self.text()
        found = _PANIC.search(text)
        if found is None:
            return None
        why = (found["why"] or "").strip()
        cause = _CAUSE.search(text) if why.startswith("Fatal exception") else None
        return f"{cause[0].strip()} ({why})" if cause else why
