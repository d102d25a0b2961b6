"""The points of a sweep as Cobertura XML, of the same listings as the lcov tracefile: for gcovr and CI systems.

gcovr reads no tracefile of lcov, and its own JSON only of its own version: 8.8 takes "0.15" and nothing else.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from inject.model.text import printable
from inject.sweep.report.account import PointRow, SweepAccount
from inject.sweep.report.lcov import LISTINGS, Listing


def cobertura(account: SweepAccount, all_of: Sequence[Listing], home: Path) -> str:
    """The document: a point is a line with one branch, which was taken if the point was failed.

    ``home`` is the directory of the listings; gcovr 8.8 finds no file by a relative one. The document says nothing
    of the time, so that the same journal has the same reports.
    """
    root = ElementTree.Element("coverage", _rates(account.rows, total=True))
    root.set("version", f"inject {printable(str(account.head.get('version', '')))}")
    root.set("timestamp", "0")
    ElementTree.SubElement(ElementTree.SubElement(root, "sources"), "source").text = printable(str(home.resolve()))
    package = ElementTree.SubElement(ElementTree.SubElement(root, "packages"), "package", _rates(account.rows))
    package.set("name", LISTINGS)
    classes = ElementTree.SubElement(package, "classes")
    for listing in all_of:
        rows = [row for _, _, some in listing.functions for row in some]
        names = {"name": Path(listing.path).stem, "filename": listing.path}
        one = ElementTree.SubElement(classes, "class", {**names, **_rates(rows)})
        ElementTree.SubElement(one, "methods")
        lines = ElementTree.SubElement(one, "lines")
        for first, _function, some in listing.functions:
            for number, row in enumerate(some, first + 1):
                _line(lines, number, row)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _rates(rows: Sequence[PointRow], *, total: bool = False) -> dict[str, str]:
    """The attributes that sum up ``rows``: each is a line and a branch."""
    hit = sum(row.injected > 0 for row in rows)
    rate = f"{hit / len(rows) if rows else 0:.4f}"
    found = {"line-rate": rate, "branch-rate": rate, "complexity": "0"}
    if total:
        for what in ("lines", "branches"):
            found.update({f"{what}-covered": str(hit), f"{what}-valid": str(len(rows))})
    return found


def _line(lines: ElementTree.Element, number: int, row: PointRow) -> None:
    taken = int(row.injected > 0)
    coverage = f"{100 * taken}%"
    line = ElementTree.SubElement(lines, "line", number=str(number), hits=str(row.injected), branch="true")
    line.set("condition-coverage", f"{coverage} ({taken}/1)")
    conditions = ElementTree.SubElement(line, "conditions")
    ElementTree.SubElement(conditions, "condition", number="0", type="jump", coverage=coverage)
