"""Errors in scenario files: one, and all of a file."""

from __future__ import annotations

from collections.abc import Iterable

from inject.errors import ExitStatus, InjectError, Place, ScenarioError
from inject.model.text import printable

MAX_PROBLEMS = 50
"""Problems reported for one file: most of the later ones follow from the first."""


class ScenarioErrors(InjectError):
    """All problems of all files given, in the order of reading."""

    status = ExitStatus.USAGE
    placed = True

    def __init__(self, errors: Iterable[ScenarioError]) -> None:
        self.errors: tuple[ScenarioError, ...] = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


class Problems:
    """The problems of one file."""

    def __init__(self) -> None:
        self._found: list[ScenarioError] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: Place, message: str, hint: str = "") -> None:
        """Add a problem at ``place``."""
        self._found.append(wrong(place, message, hint))

    def catch(self, error: ScenarioError) -> None:
        """Add a problem that was raised."""
        self._found.append(error)

    def errors(self) -> list[ScenarioError]:
        """The problems in the order of the file, each once, at most MAX_PROBLEMS."""
        found = sorted(self._found, key=lambda error: (error.place.line, error.place.column))
        errors = list({(error.place, error.message): error for error in found}.values())
        if len(errors) <= MAX_PROBLEMS:
            return errors
        more = f"{len(errors) - MAX_PROBLEMS} more problems in this file"
        return [*errors[:MAX_PROBLEMS], wrong(errors[MAX_PROBLEMS].place, more, "fix those above first")]


def wrong(place: Place, message: str, hint: str = "") -> ScenarioError:
    """The error for a problem at ``place``, on one line: both texts may repeat what the file says."""
    return ScenarioError(_one_line(message), place=place, hint=_one_line(hint))


def _one_line(text: str) -> str:
    return printable(text).replace("\t", "\\t")


def place_at(text: str, offset: int, file: str) -> Place:
    """The line and column of the character at ``offset``, as an editor counts them."""
    before = text[:offset].replace("\r\n", "\n").replace("\r", "\n")
    return Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def must_be(place: Place, label: str, expected: str, got: str, hint: str = "") -> ScenarioError:
    """The error for a value of the wrong kind; ``label`` is the key that it stands under."""
    return wrong(place, f"`{label}` must be {expected}, got {got}", hint)
