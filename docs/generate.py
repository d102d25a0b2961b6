#!/usr/bin/env python3
"""Writes the parts of docs/ that are made from the code: `make docs`, or `make man` for the manual page alone.

A page says where such a part belongs by two comments: ``<!-- keys of faults -->``,
``<!-- commands -->``, ``<!-- findings -->`` or ``<!-- library -->`` above it, ``<!-- end -->`` below.
tests/unit/test_docs.py fails if a committed file is not what this would write.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs import mdoc  # noqa: E402
from docs.commands import CommandText, OptionText, Paragraph, walk  # noqa: E402
from inject import scenario as scenarios  # noqa: E402
from inject.cli import cli  # noqa: E402
from inject.model.text import size_text  # noqa: E402
from inject.scenario import format as table  # noqa: E402
from inject.scenario.fields import Choice, ListOf, Record  # noqa: E402
from inject.scenario.mappings import ARG_TEST, Errnos  # noqa: E402
from inject.scenario.scalars import Decimal, Size  # noqa: E402
from inject.scenario.values import ExitCode, Fates, ReturnValues  # noqa: E402

MANUAL = "inject.1"
PART = re.compile(r"(?ms)^<!-- (keys of ([\w ]+)|commands|findings|library) -->\n.*?^<!-- end -->$")

RECORDS: dict[str, Record] = {
    "a scenario": table.SCENARIO_RECORD,
    "requires": table.REQUIRES,
    "filesystem": table.FILESYSTEM,
    "faults": table.FAULT,
    "when": table.WHEN,
    "args": ARG_TEST,
    "expect": table.EXPECT,
    "finding": table.FINDING,
    "vm": table.VM,
    "sweep": table.SWEEP,
}


# ---------------------------------------------------------------- the format


def keys_of(name: str) -> str:
    """The keys of a record as a table."""
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for key in (key for key in RECORDS[name].keys if not key.deprecated):
        must = " (required)" if key.required else ""
        rows.append(f"| `{key.name}`{must} | {cell(value_of(key.name, key.kind))} | {cell(key.about)} |")
    return "\n".join(rows)


def value_of(name: str, kind: Any) -> str:
    """What may stand behind a key, in a few words."""
    if name == "args":
        return "parameter or member path: a value, or [comparisons](#args)"
    if isinstance(kind, Record):
        return f"[keys](#{name})"
    if isinstance(kind, ListOf):
        return f"list of [keys](#{name})" if isinstance(kind.item, Record) else f"list: {value_of(name, kind.item)}"
    if isinstance(kind, Choice):
        return ", ".join(f"`{word}`" for word in kind.words)
    if isinstance(kind, Decimal):
        return f"{kind.unit} above 0, up to {kind.high}"
    if isinstance(kind, Size):
        return f"`{kind.example}`; {size_text(kind.low)} to {size_text(kind.high)}"
    if isinstance(kind, Fates):
        return ", ".join(f"`{word}`" for word in kind.words) + ", or a list"
    if isinstance(kind, ExitCode):
        return "0 to 255, a list, `nonzero` or `any`"
    if isinstance(kind, ReturnValues):
        return f"a value, or a list of up to {kind.longest}"
    if isinstance(kind, Errnos):
        return "system call: errno"
    return getattr(kind, "expected", "") or {"Script": "shell commands", "Pattern": "a regular expression"}.get(
        type(kind).__name__, "text"
    )


def cell(text: str) -> str:
    """Text that may stand between the bars of a table."""
    return text.replace("|", "\\|")


# ---------------------------------------------------------------- the commands


def all_commands() -> str:
    """Render a section for each command."""
    parts = []
    for command in walk(cli):
        if not command.group:
            parts.append(f"## {' '.join(command.words)}\n\n{one_command(command)}")
    return "\n\n".join(parts)


def one_command(command: CommandText) -> str:
    """Render the usage, the help and the options of a command."""
    usage = " ".join([*command.words, "[OPTIONS]", *command.arguments])
    parts = [f"`{usage}`", *map(paragraph_text, command.paragraphs)]
    if command.options:
        rows = [f"| {cell(option_text(option))} | {cell(option.help)} |" for option in command.options]
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def option_text(option: OptionText) -> str:
    """Render the names of an option and its value: `-p`, `--pid` PID."""
    return ", ".join(f"`{name}`" for name in option.names) + (f" {option.value}" if option.value else "")


def paragraph_text(paragraph: Paragraph) -> str:
    """Render a paragraph: kept lines below a title as a block, everything else on one line."""
    if not paragraph.head:
        return paragraph.text
    title = "" if paragraph.head.startswith("Example") else f"{paragraph.head}\n\n"
    return title + "```text\n" + "\n".join(paragraph.lines) + "\n```"


# ---------------------------------------------------------------- the library


def findings() -> str:
    """Every shipped scenario that shows a bug of the kernel, with what it says of it."""
    parts = []
    for scenario in scenarios.load([str(ROOT / "scenarios")]):
        if scenario.finding is not None:
            place = Path(scenario.file).relative_to(ROOT)
            head = f"**{scenario.name}** ([{place.name}](../{place})), reason `{scenario.finding.reason.value}`:"
            parts.append(f"{head}\n{scenario.finding.text.strip()}")
    return "\n\n".join(parts)


def library() -> str:
    """Every shipped scenario with its description, by folder."""
    groups: dict[str, list[str]] = {}
    for scenario in scenarios.load([str(ROOT / "scenarios")]):
        place = Path(scenario.file).relative_to(ROOT)
        row = f"| [{scenario.name.partition('/')[2]}](../{place}) | {cell(scenario.description)} |"
        groups.setdefault(place.parts[1], []).append(row)
    head = "| scenario | what is made to fail, what is expected |\n|---|---|\n"
    return "\n\n".join(f"## {name}\n\n{head}" + "\n".join(rows) for name, rows in groups.items())


# ---------------------------------------------------------------- pages


def part(kind: str, record: str) -> str:
    """What belongs below the comment ``kind``."""
    if record:
        return keys_of(record)
    return {"commands": all_commands, "findings": findings, "library": library}[kind]()


def renewed(text: str) -> str:
    """A page's text with every part made anew."""
    return PART.sub(lambda match: f"<!-- {match[1]} -->\n{part(match[1], match[2] or '')}\n<!-- end -->", text)


def written(page: Path) -> str:
    """Render a file of docs/ anew."""
    before = page.read_text() if page.exists() else ""
    if page.suffix == ".md":
        return renewed(before)
    return mdoc.renewed(before, datetime.datetime.now(datetime.timezone.utc).date(), cli)


def main(names: Sequence[str]) -> None:
    """Write the files of docs/ called ``names``, or all that are made from the code, if they change."""
    here = ROOT / "docs"
    for page in [here / name for name in names] or [*sorted(here.glob("*.md")), here / MANUAL]:
        after = written(page)
        if not page.exists() or after != page.read_text():
            page.write_text(after)
            print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
