"""The guest's console: its last lines, and what they say about its end."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

from inject.errors import InjectError
from inject.model.text import printable_lines

KEPT = 256 << 10
"""Bytes of console output that are kept, the newest ones."""

MOST_WRITTEN = 64 << 20
"""Bytes of one guest's console that go into a file."""

MOST_FILES = 10_000

_PANIC = re.compile(r"Kernel panic - not syncing(?:: *(?P<why>[^\r\n]*))?")
_CAUSE = re.compile(r"(?:BUG: |Oops: |kernel BUG at |Internal error: |general protection fault)[^\r\n]*")
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|c)")


class Console:
    """A bounded memory of what the guest printed. ``seen`` counts all bytes ever printed.

    With ``file`` (a descriptor, closed by ``close``) it is written there as well, as it comes.
    """

    def __init__(self, kept: int = KEPT, file: Optional[int] = None) -> None:
        self.kept = kept
        self._file = file
        self.seen = 0
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what the guest printed next."""
        self.seen += len(data)
        if self._file is not None:
            self._write(data)
        self._data += data
        if len(self._data) > 2 * self.kept:
            del self._data[: -self.kept]

    def _write(self, data: bytes) -> None:
        """Write to the file, up to its bound; a full disk ends the file, not the run."""
        assert self._file is not None
        if self.seen > MOST_WRITTEN:
            data = b"\n[the console goes on; only its first 64 MiB are kept here]\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            self.close()
        if self.seen > MOST_WRITTEN:
            self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def raw(self) -> bytes:
        """All that is kept, as it came."""
        return bytes(self._data[-self.kept :])

    def text(self) -> str:
        """All that is kept, without carriage returns and colours; nothing in it can act on a terminal."""
        text = bytes(self._data[-self.kept :]).decode("utf-8", "replace").replace("\r", "")
        return printable_lines(_ESCAPE.sub("", text))

    def tail(self, lines: int = 60) -> str:
        """The last ``lines`` lines."""
        return "\n".join(self.text().rstrip("\n").split("\n")[-lines:])

    def panic(self) -> Optional[str]:
        """The reason of the kernel's panic ("" if it gave none); None if it did not panic.

        After an oops the panic itself only says "Fatal exception"; then the oops is the answer.
        """
        text = self.text()
        found = _PANIC.search(text)
        if found is None:
            return None
        why = (found["why"] or "").strip()
        cause = _CAUSE.search(text) if why.startswith("Fatal exception") else None
        return f"{cause[0].strip()} ({why})" if cause else why


def new_file(directory: Path) -> int:
    """A descriptor of a new file ``console-N.log`` in ``directory``, which is made; N is the first free number.

    Raises InjectError if it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(1, MOST_FILES):
            try:
                return os.open(
                    directory / f"console-{number}.log", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
                )
            except FileExistsError:
                continue
    except OSError as error:
        raise InjectError(
            f"cannot keep consoles in {directory}: {error.strerror}", "choose another --consoles"
        ) from None
    raise InjectError(f"{directory} holds {MOST_FILES} consoles", "empty it, or choose another --consoles")
