"""The one exception that commands turn into a sentence, and the exit codes."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where something is written: ``file:line:col``, both counted from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class ExitStatus(enum.IntEnum):
    """What a command's exit code says; see the table in README.md."""

    OK = 0
    FAIL = 1
    USAGE = 2
    CANNOT_RUN = 3
    ERROR = 4
    LOST = 128
    INTERRUPTED = 130


class InjectError(Exception):
    """Something the user has to know, in one sentence, with the next step as hint.

    ``status`` is the exit code of a command that ends with this error.
    """

    status = ExitStatus.ERROR

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ScenarioError(InjectError):
    """A scenario file is wrong at one place: ``file:line:col: message``."""

    status = ExitStatus.USAGE

    def __init__(self, message: str, *, file: str, line: int = 1, column: int = 1, hint: str = "") -> None:
        super().__init__(f"{file}:{line}:{column}: {message}", hint)
        self.file = file
        self.line = line
        self.column = column


class CannotRun(InjectError):
    """This machine or kernel lacks something that the command needs."""

    status = ExitStatus.CANNOT_RUN


class GuestLost(InjectError):
    """The guest ended, or fell silent, without an answer."""

    status = ExitStatus.LOST

    def __init__(self, message: str, hint: str = "", *, console: str = "") -> None:
        super().__init__(message, hint)
        self.console = console
