"""The points that were recorded, for people: one table for each scenario, and below it what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from inject.model.reached import Point, Skipped
from inject.model.text import listed, printable

CALLERS = 6
"""Callers of a point that its row shows; the JSON lines have all of them."""
_HEADERS = ("point", "hits", "first", "depth", "function", "called by")


def render(points: Sequence[Point], skipped: Sequence[Skipped], *, width: int, every: bool = False) -> str:
    """The table of one scenario, each line cut to ``width``; with ``every`` each function left out has a line."""
    rows = [_HEADERS, *(_row(point) for point in points)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [_line(row, widths)[:width].rstrip() for row in rows] if points else []
    return "\n".join([*lines, *_left_out(skipped, every)])


def summary(points: Sequence[Point], skipped: Sequence[Skipped]) -> str:
    """``1342 points of 210 functions, 88123 calls; 812 functions skipped``."""
    functions = len({(point.function, point.module) for point in points})
    calls = sum(point.hits for point in points)
    found = f"{_number(len(points), 'point')} of {_number(functions, 'function')}, {_number(calls, 'call')}"
    return f"{found}; {_number(len(skipped), 'function')} skipped" if skipped else found


def _row(point: Point) -> tuple[str, ...]:
    callers = [printable(frame.partition("+")[0]) for frame in point.stack]
    more = ["..."] if len(callers) > CALLERS else []
    path = " < ".join([*callers[:CALLERS], *more])
    return point.id, str(point.hits), str(point.first), str(len(point.stack)), printable(point.function), path


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    """One row; numbers stand at the right."""
    return "  ".join(
        cell.rjust(width) if 1 <= index <= 3 else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(row, widths))
    )


def _left_out(skipped: Sequence[Skipped], every: bool) -> list[str]:
    """Lines on the functions that are not recorded: each, or those of one reason together."""
    if every:
        return [f"skipped: {printable(one.function)} {one.why}" for one in skipped]
    lines = []
    for why, number in Counter(one.why for one in skipped).most_common():
        names = [printable(one.function) for one in skipped if one.why == why]
        lines.append(f"skipped: {_number(number, 'function')}, each {why}: {listed(names, 3)}")
    return lines


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
