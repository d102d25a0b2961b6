"""What is wrong with scenario files: one problem, the list of all, and how text is quoted in them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Optional

from inject.errors import ExitStatus, InjectError, Place, ScenarioError

MAX_PROBLEMS = 50
"""Problems reported for one file; after the first few the rest is mostly echo."""

MAX_SHOWN = 40
"""Characters of the user's own text that a message repeats."""


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


def printable(text: str) -> str:
    """``text`` on one line, with everything a terminal might act upon written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(text: str) -> str:
    """The user's own text as a message repeats it: in backticks, on one line, cut to MAX_SHOWN."""
    cut = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
    return f"`{printable(cut)}`"


def closest(word: str, known: Iterable[str]) -> Optional[str]:
    """The known word that ``word`` was most likely meant to be; None if nothing is near."""
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word[:64].lower(), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else None


def suggestion(word: str, known: Sequence[str]) -> str:
    """The next step for a word that is not known: the near one, or all of them."""
    near = closest(word, known) if len(known) > 3 else None
    return f"did you mean `{near}`?" if near else f"write {either(known)}"


def either(words: Sequence[str]) -> str:
    """``a, b or c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
