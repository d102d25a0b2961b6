"""Text for messages: escapes, near words, and lists, sizes and durations in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Optional

SHOWN = 40
"""Characters of the user's own text that a message repeats."""

LISTED = 6
"""Names that a sentence lists; the others are counted."""

ALIKE = 0.7
"""Least likeness of two words (difflib's ratio) for one to be meant by the other."""

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
"""Suffixes of a size, all binary."""


def printable(text: str) -> str:
    """``text`` with an escape for every character that a terminal might act on, except tabs."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_lines(text: str) -> str:
    """:func:`printable` for each line of ``text``."""
    if text.isprintable():
        return text
    return "\n".join(printable(line) for line in text.split("\n"))


def shown(text: str, most: int = SHOWN) -> str:
    """The user's own text as a message repeats it: in backticks, on one line, cut to ``most`` characters."""
    cut = text if len(text) <= most else text[: most - 3] + "..."
    return f"`{printable(cut)}`".replace("\t", "\\t")


def near(word: str, known: Iterable[str], most: int = 3, alike: float = ALIKE) -> list[str]:
    """The known words that ``word`` may be meant to be, the nearest first; case does not count."""
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word[:64].lower(), folded, n=most, cutoff=alike)
    return [folded[name] for name in found]


def nearest(word: str, known: Iterable[str], alike: float = ALIKE) -> Optional[str]:
    """The known word that ``word`` is most likely meant to be; None if nothing is near."""
    return next(iter(near(word, known, 1, alike)), None)


def either(words: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """``a, b, c and 7 more``."""
    words = ", ".join(names[:most])
    return f"{words} and {len(names) - most} more" if len(names) > most else words


def size_text(count: int) -> str:
    """Bytes as a scenario has them: ``512M``, ``1.5G``."""
    suffix = max((suffix for suffix, unit in UNITS.items() if count >= unit), key=UNITS.__getitem__, default="")
    whole = f"{count / UNITS[suffix]:.1f}"
    return whole[:-2] + suffix if whole.endswith(".0") else whole + suffix


def duration(seconds: float) -> str:
    """``4.2 s``, ``41 s``, ``12 min 5 s``, ``2 h 0 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
