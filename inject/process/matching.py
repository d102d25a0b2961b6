"""Matches of a scenario's regular expressions, within a time limit.

Nothing in Python interrupts a match that has begun, so what may take long runs in a fork. Most
expressions cannot take long on texts of their size and run here, which costs nothing more.
"""

from __future__ import annotations

import ast
import math
import re
import resource
from collections.abc import Callable, Iterator, Sequence

from inject.errors import InjectError
from inject.model.expression import compiled, described
from inject.process.tool import run_forked

LIMIT = 10.0
"""Seconds for one expression on all its texts."""

STEPS = 10_000_000
"""Most steps of a match that runs here: a tenth of a second, or some seconds in an emulated guest."""

MEMORY = 1 << 30
"""Bytes of data of a fork that matches."""

_CHOICES = re.compile(r"[*+?{|]")
_NESTED = re.compile(r"\)\s*[*+{]|\(\?[^:]|\\[1-9]")
"""A repeated group, which may take exponential time; and flags and back references, of which steps() knows nothing."""


class Runaway(InjectError):
    """A regular expression whose match did not end within LIMIT."""


def matches(pattern: str, texts: Sequence[str], limit: float = LIMIT) -> list[bool]:
    """Whether ``pattern`` matches somewhere in each of ``texts``; raises Runaway, with its key and place."""
    expression = compiled(pattern)

    def found() -> list[bool]:
        return [expression.search(text) is not None for text in texts]

    if not texts or not may_take_long(pattern, texts):
        return found()
    done = run_forked(lambda: _bounded(found), timeout=limit)
    if done.timed_out:
        raise Runaway(
            f"{described(pattern)} did not end within {limit:g} s",
            "simplify it: a repeat inside a repeat, as in (a+)+, may take exponential time",
        )
    if done.code != 0:
        raise Runaway(f"{described(pattern)} could not be matched: {done.last_line}", "simplify it")
    return list(ast.literal_eval(done.last_line))


def may_take_long(pattern: str, texts: Sequence[str]) -> bool:
    """False if no match of ``pattern`` can take more than STEPS steps on ``texts``.

    Each repeat and each alternative is a choice among at most as many ways as the text has
    characters, unless it is inside a repeat.
    """
    if _NESTED.search(pattern):
        return True
    choices = len(_CHOICES.findall(pattern))
    steps = sum(len(pattern) * math.pow(len(text) + 2, min(choices + 1, 16)) for text in texts)
    return steps > STEPS


def _bounded(found: Callable[[], list[bool]]) -> Iterator[list[bool]]:
    """Rows of the fork: one, with what ``found`` found."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    yield found()
