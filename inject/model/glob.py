"""Shell globs over names: their tokens, and regular expressions for them."""

from __future__ import annotations

import re


def tokens(pattern: str) -> list[str]:
    return re.findall(r"\[(?:!|(?!!)).[^\]]*\]|.", pattern, re.DOTALL)


def bracket(token: str) -> tuple[bool, list[tuple[str, str]]]:
    """``[!a-cx]`` as (whether it is negated, its ranges with both ends); a range that runs backwards holds nothing."""
    negated = token[1] == "!"
    inside = token[1 + negated : -1]
    ranges = []
    at = 0
    while at < len(inside):
        last = at + 2 if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside) else at
        ranges.append((inside[at], inside[last]))
        at = last + 1
    return negated, [(first, last) for first, last in ranges if first <= last]


def to_regex(pattern: str) -> str:
    """``pattern`` as a regular expression for one word among many: nothing in it takes white space.

    What stands between two stars is only tried where it first occurs, which is as good as any other
    place, so that a match takes no longer than the word times the pattern.
    """
    parts: list[list[str]] = [[]]
    for token in tokens(pattern):
        if token == "*":
            parts.append([])
        else:
            parts[-1].append(r"\S" if token == "?" else _class(token) if len(token) > 1 else re.escape(token))
    first, *middle = ("".join(part) for part in parts)
    if not middle:
        return first
    last = middle.pop()
    return first + "".join(rf"(?:(?!{part})\S)*{part}" for part in middle if part) + rf"\S*{last}"


def _class(token: str) -> str:
    """A bracket as a regular expression; one that holds nothing matches nothing, or negated everything."""
    negated, ranges = bracket(token)
    inside = "".join(f"{re.escape(first)}-{re.escape(last)}" for first, last in ranges)
    if not inside:
        return r"\S" if negated else "(?!)"
    return rf"(?!\s)[{'^' * negated}{inside}]"


def is_glob(text: str) -> bool:
    """True if ``text`` has a wildcard."""
    return any(character in text for character in "*?[")
