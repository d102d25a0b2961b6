"""Known findings: signatures that somebody has judged, with a sentence why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.errors import ScenarioError
from inject.model.expression import Expression
from inject.model.text import printable
from inject.process.matching import matches
from inject.scenario.fields import Fields, Key, Pattern, Record, Text, read_any
from inject.scenario.files import read_text
from inject.scenario.problems import Problems, ScenarioErrors
from inject.scenario.scalars import is_missing, kind_of
from inject.scenario.tree import ListNode, Node, documents


@dataclass(frozen=True)
class Known:
    """One entry: an exact signature, or an expression that matches signatures, and why they are known."""

    why: str
    signature: str = ""
    match: Optional[Expression] = None

    def holds(self, signature: str) -> bool:
        """True if it is about ``signature``; raises Runaway."""
        return signature == self.signature if self.match is None else matches(self.match, [signature])[0]


def _check(fields: Fields, problems: Problems) -> None:
    """Refuse an entry with none or both of ``signature`` and ``match``."""
    both = [fields.keys[key] for key in ("signature", "match") if key in fields]
    if len(both) == 2:
        problems.add(
            max(both, key=lambda place: (place.line, place.column)),
            "`signature` and `match` exclude each other",
            "keep one of them",
        )
    elif not both and not fields.unknown:
        problems.add(fields.place, "the entry names no signature", "add `signature: ...` as a sweep prints it")


_ENTRY = Record(
    (
        Key("signature", Text("a signature"), "The signature, as a sweep prints it."),
        Key("match", Pattern(), "A regular expression that matches somewhere in the signature."),
        Key("why", Text("a sentence"), "Why it is known.", required="why: ..."),
    ),
    build=lambda fields: Known(fields.get("why"), fields.get("signature", ""), fields.get("match")),
    check=_check,
    noun="the entry",
)


def read_known(path: Path) -> tuple[Known, ...]:
    """The entries of a file, in order; raises ScenarioErrors with all that is wrong, as file:line:col."""
    problems = Problems()
    found: list[Known] = []
    try:
        text = read_text(path)
    except ScenarioError as error:
        raise ScenarioErrors([error]) from None
    for node in documents(text, printable(str(path)), problems):
        if node is not None:
            found += _entries(node, problems)
    if problems:
        raise ScenarioErrors(problems.errors())
    return tuple(found)


def _entries(node: Node, problems: Problems) -> list[Known]:
    if is_missing(node):
        return []
    if not isinstance(node, ListNode):
        what = f"known findings must be a list, got {kind_of(node)}"
        problems.add(node.place, what, "begin each entry with `- signature: ...`")
        return []
    read = [read_any(_ENTRY, item, "entry", problems) for item in node.items]
    return [entry for entry in read if entry is not None]


def why_known(signature: str, known: Sequence[Known]) -> str:
    """The sentence of the first entry about ``signature``; "" if none is. Raises Runaway."""
    return next((entry.why for entry in known if entry.holds(signature)), "")


def entry_for(signature: str) -> str:
    """The entry to paste for ``signature``; its ``why`` must be written before the file is read."""
    quoted = signature.replace("'", "''")
    return f"- signature: '{quoted}'\n  why:\n"
