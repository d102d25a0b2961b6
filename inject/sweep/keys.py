"""The keys of a journal's lines that readers rely on: a disk, a hand or a newer version may have changed them. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Callable

from inject.model.text import shown
from inject.model.verdict import Reason, Status
from inject.report.jsonl import from_json
from inject.sweep.shot import Mode

Test = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 1 << 64


def _are_wholes(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e12


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(words: type[enum.Enum], *others: str) -> Test:
    values = {str(word.value) for word in words} | set(others)
    return lambda value: _is_text(value) and value in values


def _or_none(test: Test) -> Test:
    return lambda value: value is None or test(value)


_STATUS, _REASON = _one_of(Status), _one_of(Reason, "")

HEAD: Mapping[str, Test] = {
    **dict.fromkeys(("scenario", "text", "errno", "kernel", "version", "file"), _is_text),
    **{"functions": _are_texts, "checked": _is_flag},
}
"""Keys of the first line; a report needs all, and a sweep refuses to go on with other ones than its own."""

_TRIAL: Mapping[str, Test] = {
    **dict.fromkeys(("trial", "point", "detail", "signature"), _is_text),
    **{"mode": _one_of(Mode), "status": _STATUS, "reason": _REASON, "seconds": _is_amount, "log": _is_list},
    **{"injected": _is_whole, "spared": _is_whole},
}

NEEDED: Mapping[str, Mapping[str, Test]] = {
    "baseline": {"status": _STATUS, "seconds": _is_amount},
    "begun": {"trial": _is_text},
    "trial": _TRIAL,
    "kernel": {"release": _is_text, "config": _is_text},
    "reduced": {"finding": _is_text, "text": _is_text, "what": _is_text, "status": _STATUS, "same": _is_flag},
    "traced": {"finding": _is_text, "text": _is_text, "lines": _is_list},
    "finding": {"signature": _is_text},
    "left": {"why": _is_text, "points": _are_texts},
}
"""Keys that a line must have, by its type."""

ALLOWED: Mapping[str, Mapping[str, Test]] = {
    "sweep": HEAD,
    "recorded": {"notes": _is_list, "points": _is_whole},
    "baseline": {"exit": _or_none(_is_whole)},
    "trial": {"notes": _is_list, "kernel_log": _is_list, "fired": _are_wholes},
    "reduced": {"log": _is_list, "kernel_log": _is_list},
    "finding": {"directory": _or_none(_is_text), "trials": _are_texts},
    "end": {"seconds": _is_amount, "reason": _is_text},
}
"""Keys that a line may lack; other keys are ignored."""


def fault_of(line: Mapping[str, Any]) -> str:
    """What keeps a line from being read, "" if nothing does. Types that are not known here are left alone."""
    kind = line["type"]
    needed, allowed = NEEDED.get(kind, {}), ALLOWED.get(kind, {})
    for key in needed:
        if key not in line:
            return f"it has no {key}"
    for key, test in (*needed.items(), *allowed.items()):
        if key in line and not test(line[key]):
            return f"its {key} is {shown(str(line[key]), 80)}"
    if kind == "trial" and (line["status"] == Status.FAIL.value) != bool(line["reason"]):
        return "a reason belongs to each failure, and to nothing else"
    if kind == "skipped":
        try:
            from_json(line)
        except ValueError as error:
            return str(error)
    return ""
