"""Error lines that runs reached, for people: a table by source file, and the line that sums it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from inject.coverage.tracefile import FileCounts, Trace, merge, reached, tally

MOST_UNREACHED = 10_000
"""Error lines that are listed."""


def render(traces: Mapping[str, Trace]) -> str:
    """The table by file and the line that sums it up; ``traces`` by the name of the run that each is of."""
    total = merge(traces.values())
    rows = [_head(traces)]
    for path, counts in sorted(total.items()):
        if counts.errors:
            rows.append(_row(path, counts, [trace.get(path, FileCounts()) for trace in traces.values()]))
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(word.rjust(width) for word, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", summary(traces)]) + "\n"


def summary(traces: Mapping[str, Trace]) -> str:
    """``error lines reached: 120 of 450``; of several runs each, what all of them reached, and what any of them did."""
    total = merge(traces.values())
    found = tally(total.values())
    if len(traces) < 2:
        return f"error lines reached: {found}"
    each = ", ".join(f"{name} {tally(trace.values()).reached}" for name, trace in traces.items())
    both = _common([reached(trace) for trace in traces.values()])
    return f"error lines reached: {each}, {_all(traces)} {both}, any {found}"


def unreached(trace: Mapping[str, FileCounts]) -> list[str]:
    """``FILE:LINE: FUNCTION`` of each error line that did not run; FUNCTION is the last one that begins before it."""
    found = []
    for path, counts in sorted(trace.items()):
        starts = sorted((first, name) for name, (first, _) in counts.functions.items())
        for line in sorted(counts.errors):
            if not counts.lines.get(line):
                name = next((name for first, name in reversed(starts) if first <= line), "")
                found.append(f"{path}:{line}: {name}".rstrip(": "))
    return found


def _all(traces: Mapping[str, Trace]) -> str:
    return "both" if len(traces) == 2 else "all"


def _head(traces: Mapping[str, Trace]) -> list[str]:
    if len(traces) < 2:
        return ["file", "error lines", "reached"]
    return ["file", "error lines", *traces, _all(traces), "any"]


def _row(path: str, total: FileCounts, each: Sequence[FileCounts]) -> list[str]:
    found = tally([total])
    if len(each) < 2:
        return [path, str(found.lines), str(found.reached)]
    counts = [tally([one]).reached for one in each]
    both = _common([reached({path: one}) for one in each])
    return [path, *map(str, (found.lines, *counts, both, found.reached))]


def _common(runs: Sequence[Mapping[tuple[str, int], bool]]) -> int:
    """Number of error lines that every run reached."""
    return sum(all(run.get(line) for run in runs) for line in runs[0])
