"""The points of a sweep as an lcov tracefile: a point is a branch, which was taken if the point was failed.

The journal knows no lines of the kernel's source. So each module has a listing, in which every point is a line, and
the tracefile is of these: genhtml shows them as it shows source. Where the source is at hand, another tracefile
is of its lines. geninfo(1) of lcov 1.16 describes the format.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inject.model.reached import named
from inject.model.text import printable
from inject.sweep.report.account import PointRow, SweepAccount
from inject.sweep.report.source import Call

LISTINGS = "points"
"""The directory of the listings, beside the tracefile."""


@dataclass(frozen=True)
class Listing:
    """The listing of one module. ``functions`` has for each function the number of its line and the rows below it."""

    path: str
    text: str
    functions: Sequence[tuple[int, str, Sequence[PointRow]]]


def listings(account: SweepAccount) -> list[Listing]:
    """A listing for each module, of its functions and their points."""
    modules: dict[str, dict[str, list[PointRow]]] = {}
    for row in account.rows:
        modules.setdefault(row.point.module, {}).setdefault(row.point.function, []).append(row)
    return [_listing(name, modules[module]) for module, name in sorted(_names(modules).items(), key=lambda n: n[1])]


def _names(modules: Mapping[str, object]) -> dict[str, str]:
    """A file's name for each module; no two are the same, whatever the modules are called."""
    names: dict[str, str] = {}
    for module in sorted(modules):
        name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in module)[:64] or "vmlinux"
        while name in names.values():
            name += "_"
        names[module] = name
    return names


def _listing(name: str, functions: Mapping[str, Sequence[PointRow]]) -> Listing:
    lines: list[str] = []
    found = []
    for function, rows in sorted(functions.items()):
        lines.append(f"{printable(named(function, rows[0].point.module))}:")
        found.append((len(lines), function, rows))
        lines += [_line(row) for row in rows]
    return Listing(f"{LISTINGS}/{name}.txt", "\n".join(lines) + "\n", found)


def _line(row: PointRow) -> str:
    """One point: what came of it, its name and its callers."""
    said = ", ".join(f"{one.mode} {one.said}" for one in row.trials) or row.why
    return f"    {row.point.id} {printable(said)}: {' < '.join(map(printable, row.point.stack))}"


def tracefile(account: SweepAccount, all_of: Sequence[Listing]) -> Iterator[str]:
    """The tracefile. A branch of a point without a trial is one of a line that was never executed."""
    yield f"TN:{_word(account.name)}\n"
    for listing in all_of:
        yield f"SF:{listing.path}\n"
        hits: dict[int, tuple[int, bool]] = {}
        for line, function, rows in listing.functions:
            yield f"FN:{line},{_symbol(function)}\n"
            hits.update({line + place: (row.injected, bool(row.trials)) for place, row in enumerate(rows, 1)})
        for _line, function, rows in listing.functions:
            yield f"FNDA:{sum(row.injected for row in rows)},{_symbol(function)}\n"
        yield f"FNF:{len(listing.functions)}\n"
        yield f"FNH:{sum(any(row.injected for row in rows) for _, _, rows in listing.functions)}\n"
        for line, (injected, tried) in hits.items():
            yield f"BRDA:{line},0,0,{injected if tried else '-'}\n"
        taken = sum(injected > 0 for injected, _ in hits.values())
        yield f"BRF:{len(hits)}\nBRH:{taken}\n"
        for line, (injected, _tried) in hits.items():
            yield f"DA:{line},{injected}\n"
        yield f"LF:{len(hits)}\nLH:{taken}\nend_of_record\n"


def source_tracefile(account: SweepAccount, calls: Sequence[Call], directory: Path) -> Iterator[str]:
    """A tracefile of the kernel's source, which is in ``directory``: a point is a branch of the line that calls it."""
    yield f"TN:{_word(account.name)}\n"
    for file, some in itertools.groupby(calls, key=lambda call: call.place.file):
        lines = {call.place.line: call.rows for call in some}
        yield f"SF:{directory / file}\n"
        for line, rows in lines.items():
            for number, row in enumerate(rows):
                yield f"BRDA:{line},0,{number},{row.injected if row.trials else '-'}\n"
        found = [row for rows in lines.values() for row in rows]
        yield f"BRF:{len(found)}\nBRH:{sum(row.injected > 0 for row in found)}\n"
        counts = {line: sum(row.injected for row in rows) for line, rows in lines.items()}
        for line, count in counts.items():
            yield f"DA:{line},{count}\n"
        yield f"LF:{len(counts)}\nLH:{sum(count > 0 for count in counts.values())}\nend_of_record\n"


def _word(text: str) -> str:
    """A test's name: lcov allows letters, digits and underscores."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in text)


def _symbol(text: str) -> str:
    """A function's name on a line of its own, whatever a guest called it."""
    return printable(text).replace(",", "_")
