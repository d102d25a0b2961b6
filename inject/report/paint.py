"""Colour for a terminal, and the one place that decides whether to use it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Optional, TextIO

from inject.model.verdict import Status, Verdict

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "magenta": "35"}

_STATUS = {Status.PASS: "green", Status.FAIL: "red", Status.SKIP: "yellow", Status.ERROR: "magenta"}


def wanted(stream: TextIO, environ: Optional[Mapping[str, str]] = None) -> bool:
    """True if ``stream`` is a terminal that shows colour, and NO_COLOR is not set (no-color.org)."""
    env = os.environ if environ is None else environ
    return stream.isatty() and not env.get("NO_COLOR") and env.get("TERM", "") != "dumb"


def paint(text: str, style: str, colour: bool) -> str:
    """``text`` in ``style`` (a name of _CODES) if ``colour``, else as it is."""
    return f"\033[{_CODES[style]}m{text}\033[0m" if colour and text else text


def status_word(verdict: Verdict) -> str:
    """The status as a table shows it; ``finding`` if a known failure occurred as expected."""
    return "finding" if verdict.finding and verdict.status is Status.PASS else verdict.status.value


def paint_status(verdict: Verdict, text: str, colour: bool) -> str:
    """``text`` in the colour of the verdict's status."""
    style = "yellow" if status_word(verdict) == "finding" else _STATUS[verdict.status]
    return paint(text, style, colour)
