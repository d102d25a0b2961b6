"""The journal of a sweep: one JSON object a line, on the disk before anything follows from it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inject.errors import InjectError
from inject.store import loads

NAME = "journal.jsonl"
LARGEST = 1 << 30
"""Bytes of a journal that are read."""

Line = Mapping[str, Any]


def lines_of(data: bytes, path: Path) -> tuple[list[Line], int]:
    """The whole lines of a journal, and the bytes of a last one that was cut.

    Raises InjectError that names the line of ``path`` which is not one.
    """
    whole, _, rest = data.rpartition(b"\n")
    lines: list[Line] = []
    for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
        try:
            found = loads(line)
            if not isinstance(found, dict) or not isinstance(found.get("type"), str):
                raise ValueError
        except ValueError:
            raise InjectError(f"{path}:{number}: not a line of a journal", "begin anew in another -o") from None
        lines.append(found)
    return lines, len(rest)


class SweepJournal:
    """The journal in ``directory``, locked for one sweep. ``append`` may be called from any thread.

    With ``resume`` it goes on with what is there; a last line that was cut is taken away. Raises
    InjectError if there is none, or one without ``resume``, if another sweep uses it, or if it
    cannot be written.
    """

    def __init__(self, directory: Path, *, resume: bool) -> None:
        self._path = directory / NAME
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_APPEND | (0 if resume else os.O_CREAT | os.O_EXCL)
        try:
            if not resume:
                directory.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, flags, 0o644)
        except FileExistsError:
            raise InjectError(f"{directory} has a sweep", "go on with it (--resume), or choose another -o") from None
        except FileNotFoundError:
            raise InjectError(f"{directory} has no sweep to go on with", "omit --resume") from None
        except OSError as error:
            raise InjectError(f"cannot write {self._path}: {error.strerror}") from None
        self.cut = 0
        """Bytes of a line that was not complete, which were taken away."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.lines = self._read()
        except BlockingIOError:
            os.close(self._fd)
            raise InjectError(f"another sweep writes to {directory}", "choose another -o") from None
        except BaseException:
            os.close(self._fd)
            raise

    def _read(self) -> list[Line]:
        with os.fdopen(os.dup(self._fd), "rb") as file:
            data = file.read(LARGEST)
        lines, self.cut = lines_of(data, self._path)
        if self.cut:
            os.ftruncate(self._fd, len(data) - self.cut)
        return lines

    def append(self, line: Line, *, sync: bool = True) -> None:
        """Write one line; raises InjectError if the disk is full. With ``sync`` wait until the disk has all lines."""
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                if os.write(self._fd, data) != len(data):
                    raise OSError(28, os.strerror(28))  # the rest did not fit
                if sync:
                    os.fsync(self._fd)
            except OSError as error:
                raise InjectError(
                    f"cannot write {self._path}: {error.strerror}", "make room, and go on with --resume"
                ) from None
            self.lines.append(line)

    def close(self) -> None:
        """Let other sweeps write to it."""
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def __enter__(self) -> SweepJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
