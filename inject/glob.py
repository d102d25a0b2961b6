"""Shell globs as bit sets, so that the BPF program matches them without branching.

A pattern is cut into tokens that take one character each; a ``*`` before token i
lets state i stay. Bit i of the program's state says that i tokens are matched.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from inject.errors import InjectError

MOST_TOKENS = 63
"""Tokens that fit the program's 64 state bits (override.bpf.c, struct alphabet)."""
SIZE = 256 * 8 + 16


def _tokens(pattern: str) -> list[str]:
    return re.findall(r"\[(?:!|(?!!)).[^\]]*\]|.", pattern, re.DOTALL)


def _bracket(token: str) -> tuple[bool, list[tuple[str, str]]]:
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


def _codes(token: str) -> Iterable[int]:
    """The bytes that ``token`` takes; never that of NUL, which ends a text."""
    if token == "?":
        return range(1, 256)
    if len(token) == 1:
        return (ord(token),) if 0 < ord(token) < 256 else ()
    negated, ranges = _bracket(token)
    held = {code for first, last in ranges for code in range(ord(first), min(ord(last), 255) + 1)}
    return {code for code in range(1, 256) if (code in held) != negated}


def compile_glob(pattern: str) -> bytes:
    """``pattern`` (``*``, ``?``, ``[a-z]``, ``[!x]``) as a ``struct alphabet``.

    Raises InjectError when it has more than MOST_TOKENS tokens.
    """
    takes = [0] * 256
    stays = 0
    count = 0
    for token in _tokens(pattern):
        if token == "*":
            stays |= 1 << count
            continue
        if count == MOST_TOKENS:
            raise InjectError(f"the pattern {pattern!r} is too long", f"at most {MOST_TOKENS} characters beside *")
        for code in _codes(token):
            takes[code] |= 1 << count
        count += 1
    return struct.pack("<256QQQ", *takes, stays, 1 << count)


def to_regex(pattern: str) -> str:
    """``pattern`` as a regular expression for one word among many: nothing in it takes white space."""
    words = {"*": r"\S*", "?": r"\S"}
    return "".join(
        words.get(token) or (_class(token) if len(token) > 1 else re.escape(token)) for token in _tokens(pattern)
    )


def _class(token: str) -> str:
    """A bracket as a regular expression; one that holds nothing matches nothing, or negated everything."""
    negated, ranges = _bracket(token)
    inside = "".join(f"{re.escape(first)}-{re.escape(last)}" for first, last in ranges)
    if not inside:
        return r"\S" if negated else "(?!)"
    return rf"(?!\s)[{'^' * negated}{inside}]"


def is_glob(text: str) -> bool:
    """Whether ``text`` holds a wildcard."""
    return any(character in text for character in "*?[")
