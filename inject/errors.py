"""The exceptions that a command turns into a sentence, and the exit codes."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Place in a file, as text ``file:line:col``; lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class ExitStatus(enum.IntEnum):
    """Exit codes of a command, as in README.md."""

    OK = 0
    FAIL = 1
    USAGE = 2
    CANNOT_RUN = 3
    ERROR = 4
    LOST = 128
    INTERRUPTED = 130


class InjectError(Exception):
    """Error for the user: one sentence, with the next step as hint.

    ``status`` is the exit code of a command that ends with this error. ``placed``: each line
    of the text begins with ``file:line:col``.
    """

    status = ExitStatus.ERROR
    placed = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ScenarioError(InjectError):
    """Error at one place of a scenario; as text ``file:line:col: message; hint``."""

    status = ExitStatus.USAGE
    placed = True

    def __init__(self, message: str, *, place: Place, hint: str = "") -> None:
        super().__init__(message, hint)
        self.place = place

    def __str__(self) -> str:
        return f"{self.place}: {super().__str__()}"


class CannotRun(InjectError):
    """This machine or kernel lacks something that the command needs."""

    status = ExitStatus.CANNOT_RUN


class GuestLost(InjectError):
    """The guest ended, or fell silent, without an answer."""

    status = ExitStatus.LOST

    def __init__(self, message: str, hint: str = "", *, console: str = "") -> None:
        super().__init__(message, hint)
        self.console = console
