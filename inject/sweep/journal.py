"""The journal of a sweep: one JSON object a line, on the disk before anything follows from it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inject.errors import InjectError
from inject.model.text import size_text
from inject.store import loads
from inject.sweep.keys import fault_of

NAME = "journal.jsonl"
HERE = "this machine's"
"""Stands before the release of this machine's kernel, if the sweep was made on it."""
LARGEST = 1 << 30
"""Bytes of a journal that are read."""

_FIRST = b'{"type":"sweep"'
"""What a journal begins with as inject writes it, even if its first line was cut."""

DELETE = "delete this line, and what it said is done again by --resume"

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
            raise InjectError(f"{path}:{number}: not a line of a journal", DELETE) from None
        fault = fault_of(found)
        if fault:
            hint = "" if found["type"] == "sweep" else DELETE
            raise InjectError(f"{path}:{number}: a damaged {found['type']} line: {fault}", hint)
        lines.append(found)
    return lines, len(rest)


class SweepJournal:
    """The journal in ``directory``, locked for one sweep. ``append`` may be called from any thread.

    With ``resume`` it goes on with what is there; a last line that was cut is taken away. Without it
    a journal in which no trial has begun is begun anew. Raises InjectError if there is none to go on with,
    or one that ``resume`` must be asked for, if another sweep uses it, if it is not one, or if it cannot be written.
    """

    def __init__(self, directory: Path, *, resume: bool) -> None:
        self._path = directory / NAME
        self._lock = threading.Lock()
        self._failed = ""
        """Why a line could not be written: no other may follow a part of it."""
        self.cut = 0
        """Bytes of a line that was not complete, which were taken away."""
        self._fd = self._opened(directory, resume)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.lines = self._read()
            if not resume and self.lines:
                self._clear(directory)
        except BlockingIOError:
            os.close(self._fd)
            raise InjectError(f"another sweep writes to {directory}", "choose another -o") from None
        except BaseException:
            os.close(self._fd)
            raise

    def _opened(self, directory: Path, resume: bool) -> int:
        """A descriptor of the file, which is made unless it is to ``resume``; a crash of the machine keeps it."""
        try:
            if not resume:
                directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_APPEND | (0 if resume else os.O_CREAT), 0o644)
            parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise InjectError(
                f"{directory} has no sweep to go on with", "name its directory with -o, or omit --resume"
            ) from None
        except FileExistsError:
            raise InjectError(f"{directory} is not a directory", "choose another -o") from None
        except OSError as error:
            raise InjectError(f"cannot write {self._path}: {error.strerror}", "choose another -o") from None
        with contextlib.suppress(OSError):  # some filesystems cannot
            os.fsync(parent)
        os.close(parent)
        return handle

    def _clear(self, directory: Path) -> None:
        """Take away what is there; raises InjectError if a trial has begun, which is not lost unasked."""
        if any(line["type"] == "begun" for line in self.lines):
            raise InjectError(f"{directory} has a sweep", "go on with it (--resume), or choose another -o")
        os.ftruncate(self._fd, 0)
        self.lines = []

    def _read(self) -> list[Line]:
        size = os.fstat(self._fd).st_size
        if size > LARGEST:
            raise InjectError(f"{self._path} has {size_text(size)}, and {size_text(LARGEST)} are read at most")
        with os.fdopen(os.dup(self._fd), "rb") as file:
            data = file.read(LARGEST)
        lines, self.cut = lines_of(data, self._path)
        known = lines[0]["type"] == "sweep" if lines else _FIRST.startswith(data[: len(_FIRST)])
        if not known:
            raise InjectError(f"{self._path} is not the journal of a sweep", "choose another -o")
        if self.cut:
            os.ftruncate(self._fd, len(data) - self.cut)
        return lines

    def append(self, line: Line, *, sync: bool = True) -> None:
        """Write one line; with ``sync`` wait until the disk has all lines.

        Raises InjectError if the disk is full; the journal ends with a whole line, and takes no other.
        """
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if not self._failed:
                self._failed = self._write(data, sync)
            if self._failed:
                raise InjectError(f"cannot write {self._path}: {self._failed}", "make room, and go on with --resume")
            self.lines.append(line)

    def _write(self, data: bytes, sync: bool) -> str:
        """Write ``data`` whole or not at all; why it is not on the disk, or ""."""
        size = os.fstat(self._fd).st_size
        try:
            if os.write(self._fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the rest did not fit
            if sync:
                os.fsync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
            return error.strerror or str(error)
        return ""

    def close(self) -> None:
        """Let other sweeps write to it."""
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def __enter__(self) -> SweepJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
