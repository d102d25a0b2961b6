"""Error lines of C source: lines that run only when the kernel makes an error.

Such a line holds a whole statement that names a negative error code, ``-BCH_ERR_*`` or ``-E*``: a
``return``, an assignment, or the argument of a call. What runs without an error being made, or
names one to look for it, is none:

- a declaration with a first value: ``int ret = -ENOMEM;``
- one of two outcomes: ``return x ? -EINVAL : 0;``, ``return ret ?: -EIO;``
- a condition and its statement on one line, a comparison, a ``case``
- a part of a statement of several lines, as in bcachefs' ``btree_err_on(condition, -BCH_ERR_...,``
- a macro's definition: gcov counts its lines where it is used
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_CODE = r"-\s*(?:BCH_ERR_\w+|E[A-Z][A-Z0-9]+)\b"
_NAMED = re.compile(rf"(?:^|[=(,?:&|!{{]|\breturn)\s*({_CODE})")
_OUTSIDE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'", re.DOTALL)
"""Comments, strings and characters."""

_OTHERWISE = re.compile(r"^[-?:&|+]|\?|&&|\|\||[=!<>]=\s*-|\b(?:if|while|for|switch|case)\b|#\s*define")
"""What makes the error one of several outcomes."""
_DECLARED = re.compile(r"^(?:static |const |unsigned )*(?:int|long|bool|s\d+|ssize_t|struct \w+ \*?)\s*\*?\w+\s*=")


@dataclass(frozen=True)
class ErrorLine:
    """A line, counted from 1. ``private``: its code is one of the filesystem's own, as BCH_ERR_* are."""

    number: int
    private: bool


def error_lines(source: str) -> list[ErrorLine]:
    """The error lines of C source, in their order."""
    found = []
    before = ""
    for number, line in _code_lines(source):
        named = _NAMED.search(line)
        if named and _begins_statement(before) and line.endswith(";") and not _conditional(line):
            found.append(ErrorLine(number, "BCH_ERR_" in named[1]))
        before = line
    return found


def _code_lines(source: str) -> Iterator[tuple[int, str]]:
    """Lines with code, stripped, without comments, strings and preprocessor directives."""
    directive = False
    for number, raw in enumerate(_OUTSIDE.sub(_blank, source).split("\n"), 1):
        line = raw.strip()
        if directive or line.startswith("#"):
            directive = line.endswith("\\")
        elif line:
            yield number, line


def _blank(found: re.Match[str]) -> str:
    """What stands for a comment or string: as many lines."""
    return ("" if found[0].startswith("/") else '""') + "\n" * found[0].count("\n")


def _begins_statement(before: str) -> bool:
    """True if a statement can begin after the line ``before``."""
    return not before or before[-1] in ";{}:)" or before == "do" or before.endswith("else")


def _conditional(line: str) -> bool:
    return bool(_OTHERWISE.search(line) or _DECLARED.match(line))
