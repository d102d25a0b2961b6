"""Pieces of a shell script: lines that belong together, such as those of a loop, a function or a here-document."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace

MOST_LINES = 400
"""Lines of a script that is taken apart; a longer one is one piece. Each line costs a syntax check or more."""

PARSING = 10.0
"""Seconds for one syntax check."""

_NOTHING = re.compile(r"\s*(?:#.*)?")
_HEAD = re.compile(
    r"\s*(?:(?:for|while|until|if|select)\b.*\b(?:do|then)|(?:function\s+)?[\w-]+\s*\(\)\s*[{(]|function\s+[\w-]+\s*{|[{(])\s*"
)
_LOOP = re.compile(r"\s*(?:for|while|until|if|select)\b")
_TAIL = re.compile(r"\s*(?:done|fi|}|\))\s*(?:[|<>&;].*)?")


@dataclass(frozen=True)
class Piece:
    """Lines that stay together; between ``head`` and ``tail`` other pieces may go."""

    head: tuple[str, ...]
    body: tuple[Piece, ...] = ()
    tail: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """All its lines."""
        return [*self.head, *(line for piece in self.body for line in piece.lines), *self.tail]


Parses = Callable[[str], bool]
"""True if a script has no syntax error."""


def parses(script: str) -> bool:
    """True if bash finds neither an error nor anything to warn of, such as a here-document without its end."""
    try:
        done = subprocess.run(["bash", "-n"], input=script.encode(), capture_output=True, timeout=PARSING, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and not done.stderr


def pieces_of(script: str, fine: Parses = parses) -> tuple[Piece, ...]:
    """The pieces of ``script``, without comments and empty lines between them."""
    lines = script.rstrip("\n").split("\n")
    if len(lines) > MOST_LINES:
        return (Piece(tuple(lines)),)
    return _split(lines, fine) or (Piece(tuple(lines)),)


def text_of(pieces: Iterable[Piece]) -> str:
    """The script of ``pieces``."""
    return "".join(f"{line}\n" for piece in pieces for line in piece.lines)


def count(script: str) -> int:
    """Number of lines that are not empty and not a comment."""
    return sum(not _NOTHING.fullmatch(line) for line in script.split("\n"))


def _split(lines: Sequence[str], fine: Parses) -> tuple[Piece, ...]:
    """The pieces of ``lines``; () if not all of them can be put into one that parses."""
    found: list[Piece] = []
    start = 0
    while start < len(lines):
        if _NOTHING.fullmatch(lines[start]):
            start += 1
            continue
        ends = range(start + 1, len(lines) + 1)
        end = next((end for end in ends if _is_whole(lines[start:end], fine)), None)
        if end is None:
            return ()
        found.append(_piece(lines[start:end], fine))
        start = end
    return tuple(found)


def _is_whole(lines: Sequence[str], fine: Parses) -> bool:
    continued = len(lines[-1]) - len(lines[-1].rstrip("\\"))
    return continued % 2 == 0 and fine("".join(f"{line}\n" for line in lines))


def _piece(lines: Sequence[str], fine: Parses) -> Piece:
    """One piece, with a body if it is a loop, a condition, a group or a function whose inside can be taken apart."""
    whole = Piece(tuple(lines))
    if len(lines) < 3 or not _HEAD.fullmatch(lines[0]) or not _TAIL.fullmatch(lines[-1]):
        return whole
    body = _split(lines[1:-1], fine)
    return Piece((lines[0],), body, (lines[-1],)) if body else whole


Search = Generator[tuple[Piece, ...], bool, tuple[Piece, ...]]
"""Yields pieces to try, is sent whether the script still fails with them, and returns the fewest."""


def fewest(pieces: tuple[Piece, ...]) -> Search:
    """Search for the fewest of ``pieces`` by delta debugging, then inside each that is left, then without its head.

    A. Zeller and R. Hildebrandt, Simplifying and Isolating Failure-Inducing Input (2002): ddmin.
    """
    kept = yield from ddmin(pieces)
    at = 0
    while at < len(kept):
        piece = kept[at]
        if piece.body:
            before, behind = kept[:at], kept[at + 1 :]
            body = yield from _within(before, piece, behind)
            kept = (*before, replace(piece, body=body), *behind)
            bare = tuple(Piece((one.head[0].lstrip(),)) if len(one.lines) == 1 else one for one in body)
            if _LOOP.match(piece.head[0]) and (yield (*before, *bare, *behind)):
                kept = (*before, *bare, *behind)
                at += len(bare) - 1
        at += 1
    return kept


def _within(before: tuple[Piece, ...], piece: Piece, behind: tuple[Piece, ...]) -> Search:
    """The same for the body of ``piece``; what is yielded is the whole."""
    inner = fewest(piece.body)
    try:
        body = next(inner)
        while True:
            body = inner.send((yield (*before, replace(piece, body=body), *behind)))
    except StopIteration as end:
        return tuple(end.value)


def ddmin(pieces: tuple[Piece, ...]) -> Search:
    """The minimizing delta debugging algorithm: none of the pieces that it returns can be left out alone."""
    kept, parts = pieces, 2
    while len(kept) >= 2:
        size = len(kept) / parts
        cuts = [round(size * number) for number in range(parts + 1)]
        for start, end in zip(cuts, cuts[1:]):
            fewer = (*kept[:start], *kept[end:])
            if (yield fewer):
                kept, parts = fewer, max(parts - 1, 2)
                break
        else:
            if parts >= len(kept):
                break
            parts = min(2 * parts, len(kept))
    return kept
