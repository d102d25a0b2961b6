"""The path of an injected error to its system call, and its text in a report."""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from inject.model.errnos import as_written

NOT_SEEN = "?"
"""Shown for a return value that was not recorded."""
VOID = "void"


class Fate(enum.Enum):
    """Fate of an injected error on its way to user space."""

    PROPAGATED = "propagated"
    """The system call failed with the same errno."""
    TRANSLATED = "translated"
    """It failed with another errno."""
    SWALLOWED = "swallowed"
    """It succeeded, wholly or in part."""
    BLOCKED = "blocked"
    """It had not returned when the fault was disarmed."""
    UNSEEN = "unseen"
    """The call chain has no system call, and no recorded function returned success."""


@dataclass(frozen=True)
class Frame:
    """A function above the failed one and what it returned: a number, an error's name, ``void``, ``?`` if not seen."""

    function: str
    returned: str


@dataclass(frozen=True)
class ErrorPath:
    """Path of the error of one injection, or of ``count`` injections with the same path."""

    fault: int
    function: str
    returned: str
    fate: Fate
    errno: str = ""
    """What the system call failed with."""
    where: str = ""
    """The function that swallowed the error, or the last one that was seen to return it."""
    call: str = ""
    """The system call, ``write``; "" if there is none."""
    result: Optional[int] = None
    frames: tuple[Frame, ...] = ()
    """The callers, innermost first."""
    count: int = 1


def as_named(path: ErrorPath, names: Collection[str]) -> ErrorPath:
    """``path`` with errnos by the names that ``names`` has for their numbers."""
    frames = tuple(replace(frame, returned=as_written(frame.returned, names)) for frame in path.frames)
    return replace(path, errno=as_written(path.errno, names), frames=frames)


def describe(path: ErrorPath) -> str:
    """Describe the fate in one line: ``propagated: write(2) failed with ENOSPC``."""
    call = f"{path.call}(2)"
    if path.fate is Fate.PROPAGATED:
        return f"propagated: {call} failed with {path.errno}"
    if path.fate is Fate.TRANSLATED:
        return f"translated: {call} failed with {path.errno}"
    if path.fate is Fate.BLOCKED:
        return f"blocked: still in {call} when the fault was disarmed"
    if path.fate is Fate.UNSEEN:
        top = path.frames[-1].function if path.frames else path.function
        return f"unseen: last carried by {path.where}; no system call is above {top}"
    returned = next((frame.returned for frame in path.frames if frame.function == path.where), "")
    by = f" in {path.where}, which returned {returned}" if returned not in ("", VOID) else f" in {path.where} (void)"
    part = ", a part of the work" if re.fullmatch(r"[1-9]\d*", returned) and path.result not in (None, 0) else ""
    end = f"; {call} returned {path.result}" if path.call else ""
    return f"swallowed{by if path.where else ''}{part}{end}"


def grouped(paths: Sequence[ErrorPath], most: int) -> tuple[ErrorPath, ...]:
    """The ``most`` most frequent of the different paths, each once and with its count."""
    counts: dict[ErrorPath, int] = {}
    for path in paths:
        key = replace(path, count=1)
        counts[key] = counts.get(key, 0) + path.count
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return tuple(replace(path, count=count) for path, count in ordered[:most])


def as_lines(path: ErrorPath) -> list[str]:
    """Show the path: its fate, then the failed function first and the system call last."""
    rows = [(path.function, f"{path.returned} (injected)"), *((f.function, f.returned) for f in path.frames)]
    if path.call:
        result = NOT_SEEN if path.result is None else str(path.result)
        rows.append((f"{path.call}(2)", f"-{path.errno}" if path.errno else result))
    width = max(len(name) for name, _ in rows)
    times = f" ({path.count} times)" if path.count > 1 else ""
    return [describe(path) + times, *(f"  {name:<{width}}  {value}" for name, value in rows)]
