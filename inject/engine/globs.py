"""Shell globs as bit sets, so that the BPF program matches them without branching.

A pattern is cut into tokens that take one character each; a ``*`` before token i
lets state i stay. Bit i of the program's state says that i tokens are matched.
"""

from __future__ import annotations

from collections.abc import Iterable

from inject.engine.abi import ALPHABET, TOKENS
from inject.errors import InjectError
from inject.model.glob import bracket, tokens


def _codes(token: str) -> Iterable[int]:
    """The bytes that ``token`` takes; never NUL, which ends a text."""
    if token == "?":
        return range(1, 256)
    if len(token) == 1:
        return (ord(token),) if 0 < ord(token) < 256 else ()
    negated, ranges = bracket(token)
    held = {code for first, last in ranges for code in range(ord(first), min(ord(last), 255) + 1)}
    return {code for code in range(1, 256) if (code in held) != negated}


def compile_glob(pattern: str) -> bytes:
    """``pattern`` (``*``, ``?``, ``[a-z]``, ``[!x]``) as a ``struct alphabet``.

    Raises InjectError if it has more than TOKENS tokens.
    """
    takes = [0] * 256
    stays = 0
    count = 0
    for token in tokens(pattern):
        if token == "*":
            stays |= 1 << count
            continue
        if count == TOKENS:
            raise InjectError(f"the pattern {pattern!r} is too long", f"at most {TOKENS} characters beside *")
        for code in _codes(token):
            takes[code] |= 1 << count
        count += 1
    return ALPHABET.pack(*takes, stays, 1 << count)
