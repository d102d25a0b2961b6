"""The points of a sweep as compact JSON for the page: symbols, frames and common callers are written once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from inject.model.reached import Point, named
from inject.model.text import printable_lines
from inject.sweep.report.account import PointRow, SweepAccount, TrialOutcome
from inject.sweep.report.evidence import recorded_for
from inject.sweep.shot import Mode

OUTCOMES = tuple(TrialOutcome)
"""An outcome is written as its place here."""

LONGEST_DETAIL = 400
"""Characters of what a trial says, except those of a finding, which has a section of its own."""

_FRAME = re.compile(r"(\S+)\+0x([0-9a-f]{1,8})((?: \[\S+\])?)")


@dataclass
class _Interned:
    """Texts, or anything else, each with its number."""

    numbers: dict[Any, int] = field(default_factory=dict)

    def of(self, value: Any) -> int:
        return self.numbers.setdefault(value, len(self.numbers))


@dataclass
class _Node:
    """A frame in the tree of all stack traces, whose root is the outermost caller."""

    frame: int
    children: dict[int, _Node] = field(default_factory=dict)
    points: list[int] = field(default_factory=list)


def packed(account: SweepAccount) -> dict[str, Any]:
    """The data of the page; report.js reads it.

    ``symbols``; ``frames``: a symbol and an offset each, -1 for none; ``tree``: that of stack traces, as a walk;
    ``points``: columns; ``trials``: columns, those of a point after each other.
    """
    symbols, frames = _Interned(), _Interned()
    root = _Node(-1)
    for number, row in enumerate(account.rows):
        node = root
        for text in (*reversed(row.point.stack), named(row.point.function, row.point.module)):
            frame = frames.of(_frame(text, symbols))
            node = node.children.setdefault(frame, _Node(frame))
        node.points.append(number)
    walk, of_point = _walked(root, len(account.rows))
    return {
        "symbols": list(symbols.numbers),
        "frames": [number for frame in frames.numbers for number in frame],
        "tree": walk,
        "points": _points(account.rows, of_point),
        "trials": _trials(account),
        "outcomes": [outcome.value for outcome in OUTCOMES],
    }


def _frame(text: str, symbols: _Interned) -> tuple[int, int]:
    found = _FRAME.fullmatch(text)
    if found is None or found[2] != f"{int(found[2], 16):x}":
        return symbols.of(text), -1
    return symbols.of(found[1] + found[3]), int(found[2], 16)


def _walked(root: _Node, points: int) -> tuple[list[int], list[int]]:
    """The tree as a walk: a frame is a step down to a node of it, -N are N steps up; and the node of each point.

    A stack trace may be deeper than Python's own.
    """
    walk: list[int] = []
    of_point = [0] * points
    nodes, here = 0, 0
    waiting = [(1, child) for child in reversed(root.children.values())]
    while waiting:
        depth, node = waiting.pop()
        if depth <= here:
            walk.append(depth - 1 - here)
        walk.append(node.frame)
        for number in node.points:
            of_point[number] = nodes
        nodes, here = nodes + 1, depth
        waiting += [(depth + 1, child) for child in reversed(node.children.values())]
    return walk, of_point


def _points(rows: Sequence[PointRow], nodes: Sequence[int]) -> dict[str, Any]:
    whys, modules = _Interned(), _Interned()
    of = {row.point.id: row for row in rows}
    numbers = {row.point.id: number for number, row in enumerate(rows)}
    return {
        "node": list(nodes),
        "id": "".join(row.point.id for row in rows),
        "module": [modules.of(row.point.module or "vmlinux") for row in rows],
        "modules": list(modules.numbers),
        "hits": [row.point.hits for row in rows],
        "first": [row.point.first for row in rows],
        "worst": "".join(str(OUTCOMES.index(row.worst)) for row in rows),
        "why": {number: whys.of(row.why) for number, row in enumerate(rows) if row.why},
        "whys": list(whys.numbers),
        "trials": [len(row.trials) for row in rows],
        "round": {
            number: [row.round, row.under, numbers[recorded_for(of, row).id]]
            for number, row in enumerate(rows)
            if row.round
        },
    }


def _trials(account: SweepAccount) -> dict[str, Any]:
    """The trials. Some columns have only what is not plain, by the number of the trial; texts are in ``said``."""
    modes = [mode.value for mode in Mode]
    said = _Interned()
    groups = {group.signature: number for number, group in enumerate(account.groups)}
    trials = [(row.point, one) for row in account.rows for one in row.trials]

    def some(of: Callable[[Point, Any], Any]) -> dict[int, Any]:
        told = ((number, of(point, one)) for number, (point, one) in enumerate(trials))
        return {number: value for number, value in told if value is not None}

    return {
        "mode": "".join(str(modes.index(one.mode)) for _, one in trials),
        "modes": modes,
        "outcome": "".join(str(OUTCOMES.index(one.outcome)) for _, one in trials),
        "injected": [one.ended.injected for _, one in trials],
        "seconds": [round(one.seconds, 1) for _, one in trials],
        "group": some(lambda _, one: groups.get(one.ended.signature) if one.ended.signature else None),
        "reason": some(lambda _, one: one.ended.reason or None),
        "name": some(lambda point, one: None if one.ended.shot == f"{point.id}-{one.mode}" else one.ended.shot),
        "fate": [said.of(one.fate) for _, one in trials],
        "detail": some(lambda _, one: said.of(_short(one.ended.detail)) if one.ended.detail else None),
        "notes": some(lambda _, one: [said.of(_short(note)) for note in one.notes] or None),
        "said": list(said.numbers),
    }


def _short(text: str) -> str:
    return printable_lines(text if len(text) <= LONGEST_DETAIL else f"{text[:LONGEST_DETAIL]} [...]")


def as_json(data: dict[str, Any]) -> str:
    """``data`` as JSON that can stand in a script element, whatever is in it."""
    text = json.dumps(data, separators=(",", ":"))  # not a character above ASCII is left
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
