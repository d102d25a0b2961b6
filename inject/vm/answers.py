"""Messages from the guest's agent, checked: the guest may be damaged, or hostile.

Nothing but BadMessage is raised for any line, and no text in them can act on a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inject.model.text import printable_lines
from inject.vm.channel import decode, unpack

LONGEST = 256 << 10
"""Bytes of the longest line that is accepted from the agent; a chunk of output needs a sixth of it."""


class BadMessage(ValueError):
    """A line that inject's own agent never writes."""


def parse(line: bytes) -> Mapping[str, Any]:
    """The message in ``line``; its kind is a string and its id an integer."""
    try:
        message = decode(line)
    except ValueError:
        raise BadMessage("a line that is not a JSON object") from None
    text(message, "is")
    message.setdefault("id", 0)
    whole(message, "id")
    return message


def text(message: Mapping[str, Any], key: str) -> str:
    """The string at ``key``, with an escape for each character that a terminal might act on."""
    value = message.get(key)
    if not isinstance(value, str):
        raise _without(message, key, "a string")
    return printable_lines(value)


def whole(message: Mapping[str, Any], key: str, low: int = 0, high: int = (1 << 63) - 1) -> int:
    """The integer at ``key``, from ``low`` to ``high``."""
    value = message.get(key)
    if type(value) is not int or not low <= value <= high:
        raise _without(message, key, f"an integer from {low} to {high}")
    return value


def truth(message: Mapping[str, Any], key: str) -> bool:
    """The true or false at ``key``."""
    value = message.get(key)
    if not isinstance(value, bool):
        raise _without(message, key, "true or false")
    return value


def seconds(message: Mapping[str, Any], key: str) -> float:
    """The time at ``key``; 0 if there is none."""
    value = message.get(key, 0)
    if type(value) not in (int, float) or not 0 <= value < 1e9:
        raise _without(message, key, "a time in seconds")
    return float(value)


def data(message: Mapping[str, Any], most: int) -> bytes:
    """The at most ``most`` bytes of the message."""
    packed = message.get("data")
    try:
        if not isinstance(packed, str):
            raise ValueError
        found = unpack(packed)
    except ValueError:
        raise _without(message, "data", "base64") from None
    if len(found) > most:
        raise _without(message, "data", f"at most {most} bytes")
    return found


def _without(message: Mapping[str, Any], key: str, what: str) -> BadMessage:
    kind = message.get("is")
    shown = printable_lines(kind)[:20] if isinstance(kind, str) else "message"
    return BadMessage(f"`{key}` of a `{shown}` is not {what}")
