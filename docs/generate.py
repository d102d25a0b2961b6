#!/usr/bin/env python3
"""Writes the parts of docs/ that are made from the code: `make docs`.

A page says where such a part belongs by two comments: ``<!-- keys of faults -->``,
``<!-- commands -->``, ``<!-- findings -->`` or ``<!-- library -->`` above it, ``<!-- end -->`` below.
tests/unit/test_docs.py fails when a committed page is not what this would write.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from inject import scenario as scenarios  # noqa: E402
from inject.cli import cli  # noqa: E402
from inject.cli.lazy import contexts  # noqa: E402
from inject.scenario import format as table  # noqa: E402
from inject.scenario.fields import Choice, ListOf, Record  # noqa: E402
from inject.scenario.mappings import ARG_TEST, Errnos  # noqa: E402
from inject.scenario.scalars import Decimal, Size, in_units  # noqa: E402
from inject.scenario.values import ExitCode, Fates, ReturnValues  # noqa: E402

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
        return f"`{kind.example}`; {in_units(kind.low)} to {in_units(kind.high)}"
    if isinstance(kind, Fates):
        return ", ".join(f"`{word}`" for word in kind.words) + ", or a list"
    if isinstance(kind, ExitCode):
        return "0 to 255, a list, or `nonzero`"
    if isinstance(kind, ReturnValues):
        return f"a value, or a list of up to {kind.longest}"
    if isinstance(kind, Errnos):
        return "system call: errno"
    return getattr(kind, "wants", "") or {"Script": "shell commands", "Pattern": "a regular expression"}.get(
        type(kind).__name__, "text"
    )


def cell(text: str) -> str:
    """Text that may stand between the bars of a table."""
    return text.replace("|", "\\|")


# ---------------------------------------------------------------- the commands


def all_commands() -> str:
    """A section for each command."""
    parts = []
    for context in contexts(cli):
        if not isinstance(context.command, click.Group):
            parts.append(f"## {context.command_path}\n\n{one_command(context)}")
    return "\n\n".join(parts)


def one_command(context: click.Context) -> str:
    """Its usage, its help and its options."""
    command = context.command
    arguments = (_argument(parameter) for parameter in command.params if _is_argument(parameter))
    usage = " ".join([context.command_path, "[OPTIONS]", *arguments])
    parts = [f"`{usage}`", _help(command)]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if options:
        rows = [f"| {cell(_option(option))} | {cell(option.help or '')} |" for option in options]
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _argument(parameter: click.Parameter) -> str:
    return parameter.metavar or f"[{(parameter.name or '').upper()}]"


def _option(option: click.Option) -> str:
    """`-p`, `--pid` PID."""
    value = "" if option.is_flag else f" {option.metavar or _metavar(option)}"
    return ", ".join(f"`{name}`" for name in option.opts) + value


def _metavar(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return ", ".join(f"`{word}`" for word in option.type.choices)
    return {"float": "SECONDS", "float range": "SECONDS", "integer": "N", "integer range": "N"}.get(
        option.type.name, option.type.name.upper()
    )


def _help(command: click.Command) -> str:
    r"""The help as Markdown: what stands behind ``\b`` keeps its lines, as click prints it."""
    parts: list[str] = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if not paragraph.startswith("\b"):
            parts.append(" ".join(paragraph.split()))
            continue
        lines = paragraph.splitlines()[1:]
        if lines[0].startswith("Example"):
            parts.append("```text\n" + "\n".join(line.removeprefix("  ") for line in lines[1:]) + "\n```")
        else:
            parts.append(" ".join(" ".join(lines).split()))
    return "\n\n".join(parts)


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


def main() -> None:
    """Rewrite the pages that changed."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        before = page.read_text()
        after = renewed(before)
        if after != before:
            page.write_text(after)
            print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
