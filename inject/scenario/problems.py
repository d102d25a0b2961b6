"""What is wrong with scenario files: one problem, and the list of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inject.errors import ExitStatus, InjectError, Place, ScenarioError
from inject.model.text import either, nearest

MAX_PROBLEMS = 50
"""Problems reported for one file; after the first few the rest is mostly echo."""


class ScenarioErrors(InjectError):
    """Everything that is wrong in all files given, in the order of reading."""

    status = ExitStatus.USAGE

    def __init__(self, errors: Iterable[ScenarioError]) -> None:
        self.errors: tuple[ScenarioError, ...] = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


class Problems:
    """Collects the problems of one file."""

    def __init__(self) -> None:
        self._found: list[ScenarioError] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: Place, message: str, hint: str = "") -> None:
        """Note one problem at ``place``."""
        self._found.append(wrong(place, message, hint))

    def catch(self, error: ScenarioError) -> None:
        """Note a problem that was raised."""
        self._found.append(error)

    def errors(self) -> list[ScenarioError]:
        """All problems in the order of the file, each place and sentence once, at most MAX_PROBLEMS."""
        found = sorted(self._found, key=lambda error: (error.place.line, error.place.column))
        errors = list({(error.place, error.message): error for error in found}.values())
        if len(errors) <= MAX_PROBLEMS:
            return errors
        more = f"{len(errors) - MAX_PROBLEMS} more problems follow in this file"
        return [*errors[:MAX_PROBLEMS], wrong(errors[MAX_PROBLEMS].place, more, "fix those above first")]


def wrong(place: Place, message: str, hint: str = "") -> ScenarioError:
    """The error for a problem at ``place``."""
    return ScenarioError(message, place=place, hint=hint)


def place_at(text: str, offset: int, file: str) -> Place:
    """The line and column of the character at ``offset``, as an editor counts them."""
    before = text[:offset].replace("\r\n", "\n").replace("\r", "\n")
    return Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def suggestion(word: str, known: Sequence[str]) -> str:
    """The next step for a word that is not known: the near one, or all of them."""
    near = nearest(word, known) if len(known) > 3 else None
    return f"did you mean `{near}`?" if near else f"write {either(known)}"
