"""The results as Markdown: docs/kernels.md below its words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inject.model.scenario import Scenario
from inject.model.text import listed
from tests.matrix.cell import Kind
from tests.matrix.table import Table

BEGIN = "<!-- matrix -->"
END = "<!-- end of the matrix -->"

MOST = 300
"""Characters of a detail."""


def write(path: Path, table: Table) -> None:
    """Put the result between its two comments."""
    text = path.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    path.write_text(f"{text[:start]}\n{markdown(table)}\n{text[end:]}")


def markdown(table: Table) -> str:
    """The counts, the findings, the functions, the failures, and every scenario."""
    parts = [_counts(table), *_findings(table), *_moved(table), *_failures(table), *_scenarios(table)]
    return "\n\n".join(parts)


def _counts(table: Table) -> str:
    rows = ["| kernel | release | " + " | ".join(kind.value for kind in Kind) + " |", "|---|---|" + "--:|" * len(Kind)]
    for kernel in table.kernels:
        kinds = [table.cells[one.name, kernel].kind for one in table.scenarios]
        numbers = " | ".join(str(kinds.count(kind)) for kind in Kind)
        rows.append(f"| `{kernel}` | {table.releases.get(kernel, '')} | {numbers} |")
    return "\n".join(rows)


def _findings(table: Table) -> Iterator[str]:
    """Since and until which kernel each finding holds."""
    rows = table.findings()
    if rows:
        yield "## Findings"
        lines = ["| finding | holds on | does not occur on | cannot be looked for on |", "|---|---|---|---|"]
        for scenario, held, gone in rows:
            rest = [
                f"{kernel} ({_words(table, scenario, kernel)})"
                for kernel in table.kernels
                if kernel not in held and kernel not in gone
            ]
            lines.append(f"| {scenario.name} | {', '.join(held)} | {', '.join(gone)} | {', '.join(rest)} |")
        yield "\n".join(lines)


def _moved(table: Table) -> Iterator[str]:
    """Functions that exist on one kernel and not on another."""
    rows = table.moved()
    if rows:
        yield "## Functions that moved"
        lines = ["| function | " + " | ".join(table.kernels) + " |", "|---|" + "---|" * len(table.kernels)]
        for function, where in rows.items():
            words = ["" if kernel not in where else "yes" if where[kernel] else "no" for kernel in table.kernels]
            lines.append(f"| `{function}` | " + " | ".join(words) + " |")
        yield "\n".join(lines)


def _failures(table: Table) -> Iterator[str]:
    """Each explanation with its scenarios, and each failure that has none."""
    explained: dict[str, list[str]] = {}
    open_ = []
    for scenario in table.scenarios:
        for kernel in table.kernels:
            cell, known = table.cells[scenario.name, kernel], table.known(scenario, kernel)
            if known is not None:
                what = "A bug of the kernel" if known.bug else "Another behaviour of the kernel"
                explained.setdefault(f"{what}: {known.why}", []).append(f"{scenario.name} on {kernel} ({cell.reason})")
            elif cell.kind in (Kind.FAIL, Kind.ERROR):
                open_.append(f"- {scenario.name} on {kernel}: {_words(table, scenario, kernel)}: {_short(cell.detail)}")
    if explained:
        yield "## Failures that are explained"
        yield "\n".join(f"- {listed(where)}. {why}" for why, where in explained.items())
    if open_:
        yield "## Failures without an explanation"
        yield "\n".join(open_)


def _scenarios(table: Table) -> Iterator[str]:
    yield "## Every scenario"
    lines = ["| scenario | " + " | ".join(table.kernels) + " |", "|---|" + "---|" * len(table.kernels)]
    for scenario in table.scenarios:
        words = (_words(table, scenario, kernel) for kernel in table.kernels)
        lines.append(f"| {scenario.name} | " + " | ".join(words) + " |")
    yield "\n".join(lines)


def _words(table: Table, scenario: Scenario, kernel: str) -> str:
    """What a cell shows."""
    cell = table.cells[scenario.name, kernel]
    if cell.kind is Kind.SKIP:
        lacks = table.lacks(scenario, kernel)
        return f"no {lacks if lacks in table.filesystems(kernel) else f'`{lacks}`'}" if lacks else _short(cell.detail)
    if cell.kind is Kind.FAIL:
        word = f"`fail` ({cell.reason})"
        return f"{word}, explained" if table.known(scenario, kernel) else f"**{word}**"
    return {Kind.ERROR: "**`error`**", Kind.FINDING: "finding", Kind.GONE: "finding gone"}.get(
        cell.kind, cell.kind.value
    )


def _short(detail: str) -> str:
    text = detail.replace("|", "\\|").replace("<", "\\<")
    return text if len(text) <= MOST else text[: MOST - 3] + "..."
