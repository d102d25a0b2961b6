"""Regular expressions of a scenario, with their meaning and their place."""

from __future__ import annotations

import re
from typing import Optional

from inject.errors import Place
from inject.model.text import shown


class Expression(str):
    """The text of a regular expression, with the key that it stands under and its place; equal to its text."""

    key: str
    place: Optional[Place]

    def __new__(cls, text: str, key: str = "", place: Optional[Place] = None) -> Expression:
        """The expression ``text``."""
        made = super().__new__(cls, text)
        made.key = key
        made.place = place
        return made


def compiled(pattern: str) -> re.Pattern[str]:
    """``pattern`` as a scenario means it: ``^`` and ``$`` match at the beginning and the end of each line."""
    return re.compile(pattern, re.MULTILINE)


def described(pattern: str) -> str:
    """The pattern in a message, with its key and place if it has them."""
    words = f"the regular expression {shown(pattern, 80)}"
    if not isinstance(pattern, Expression) or pattern.place is None:
        return words
    return f"{words} of `{pattern.key}` ({pattern.place})"
