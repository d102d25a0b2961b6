"""Shell globs as bit sets, so that the BPF program matches them without branching.

A pattern is cut into tokens that take one character each; a ``*`` before token i
lets state i stay. Bit i of the program's state says that i tokens are matched.
"""

from __future__ import annotations

import fnmatch
import re
import struct

from inject.errors import InjectError

MOST_TOKENS = 63
"""Tokens that fit the program's 64 state bits (override.bpf.c, struct alphabet)."""
SIZE = 256 * 8 + 16


def _tokens(pattern: str) -> list[str]:
    return re.findall(r"\[(?:!|(?!!)).[^\]]*\]|.", pattern, re.DOTALL)


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
        takes_one = re.compile(fnmatch.translate(token) if len(token) > 1 or token == "?" else re.escape(token))
        for code in range(1, 256):
            if takes_one.fullmatch(chr(code)):
                takes[code] |= 1 << count
        count += 1
    return struct.pack("<256QQQ", *takes, stays, 1 << count)


def to_regex(pattern: str) -> str:
    """``pattern`` as a regular expression for one word among many: nothing in it takes white space."""
    words = {"*": r"\S*", "?": r"\S"}
    return "".join(
        words.get(token) or (_bracket(token) if len(token) > 1 else re.escape(token)) for token in _tokens(pattern)
    )


def _bracket(token: str) -> str:
    """fnmatch's own idea of a bracket, without the group and the end that it puts around."""
    return r"(?!\s)" + fnmatch.translate(token)[len("(?s:") : -len(r")\Z")]


def is_glob(text: str) -> bool:
    """Whether ``text`` holds a wildcard."""
    return any(character in text for character in "*?[")
