"""Numbers: decimal or 0x, and nothing that YAML readers read differently."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from inject.errors import Place, ScenarioError
from inject.model.text import UNITS, shown, size_text
from inject.scenario.problems import must_be
from inject.scenario.tree import ListNode, Node, ScalarNode

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,24}|0x[0-9A-Fa-f]{1,24})")
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,24})(\.[0-9]{1,25})?")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,24})([KMGT]?)")

_TRAPS: tuple[tuple[str, str], ...] = (
    (r"[+]\d+", "write it without the plus"),
    (r"-?0o[0-7]+", "write it in decimal or 0x"),
    (r"-?0b[01]+", "write it in decimal or 0x"),
    (r"-?0X[0-9A-Fa-f]+", "write 0x in lower case"),
    (r"-?0[0-9]+", "write it in decimal without the zero, or in 0x: to some YAML readers it is octal"),
    (r"-?[0-9][0-9_,']*[_,'][0-9_,']*", "write the digits without separators"),
    (r"[0-9]+(:[0-9]+)+", "write one number: to YAML 1.1 it is in base 60"),
    (r"[-+]?[0-9.]+[eE][-+]?[0-9]+", "write the digits out, without an exponent"),
    (r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)", "write a finite number"),
    (r"-?\.[0-9]+", "write a zero before the point"),
)
"""Spellings that YAML readers read differently, with what to write instead."""


def is_missing(node: Node) -> bool:
    """Whether nothing was written: an empty value or YAML's null."""
    return isinstance(node, ScalarNode) and node.plain and node.text in ("", "~")


def kind_of(node: Node) -> str:
    """A node in the words of a message."""
    if isinstance(node, ScalarNode):
        return "nothing" if is_missing(node) else shown(node.text)
    return "a list" if isinstance(node, ListNode) else "a mapping"


def number_text(node: Node, label: str, expected: str) -> str:
    """The text of a number; raises ScenarioError for other nodes and for quotes."""
    if not isinstance(node, ScalarNode) or is_missing(node):
        raise must_be(node.place, label, expected, kind_of(node), "write the number after the colon")
    if not node.plain:
        raise must_be(node.place, label, expected, "text in quotes", "remove the quotes")
    return node.text


def refuse(place: Place, label: str, expected: str, text: str) -> ScenarioError:
    """The error for ``text`` in place of ``expected``, with the spelling to use if the text has one of _TRAPS."""
    for pattern, step in _TRAPS:
        if re.fullmatch(pattern, text):
            return must_be(place, label, expected, shown(text), step)
    return must_be(place, label, expected, shown(text))


def whole_number(text: str) -> int:
    """The value of decimal or 0x digits; raises ValueError for anything else."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text, 16 if "x" in text else 10)


@dataclass(frozen=True)
class Whole:
    """An integer from ``low`` to ``high``."""

    low: int
    high: int = 2**63 - 1

    @property
    def expected(self) -> str:
        """The range in words."""
        if self.high >= 2**63 - 1:
            return f"an integer >= {self.low}"
        return f"an integer from {self.low} to {self.high}"

    def read(self, node: Node, label: str) -> int:
        """The number; raises ScenarioError."""
        text = number_text(node, label, self.expected)
        try:
            value = whole_number(text)
        except ValueError:
            raise refuse(node.place, label, self.expected, text) from None
        if not self.low <= value <= self.high:
            raise must_be(node.place, label, self.expected, shown(text))
        return value

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Decimal:
    """A number above 0 and up to ``high``, digits with an optional fraction; ``unit`` is its noun in messages.

    ``low``: the least one, unless it is 0.
    """

    high: int
    unit: str
    slips: tuple[tuple[str, str], ...] = ()
    """Patterns that users write instead, with what to write."""
    low: float = 0

    def read(self, node: Node, label: str) -> float:
        """The number; raises ScenarioError."""
        expected = f"{self.unit} > 0 and <= {self.high}"
        text = number_text(node, label, expected)
        for pattern, step in self.slips:
            if re.fullmatch(pattern, text):
                raise must_be(node.place, label, expected, shown(text), step)
        if not _DECIMAL.fullmatch(text):
            raise refuse(node.place, label, expected, text)
        if not 0 < float(text) <= self.high:
            raise must_be(node.place, label, expected, shown(text))
        if float(text) < self.low:
            raise must_be(node.place, label, f"at least {self.low:.19f}", shown(text), "write a greater one")
        return float(text)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        least = {"minimum": self.low} if self.low else {"exclusiveMinimum": 0}
        return {"type": "number", **least, "maximum": self.high}


@dataclass(frozen=True)
class Size:
    """Bytes, with an optional binary suffix, from ``low`` to ``high``."""

    low: int
    high: int
    example: str

    def read(self, node: Node, label: str) -> int:
        """The bytes; raises ScenarioError. A size with a suffix may be quoted."""
        step, expected = f"write it like {self.example}", f"a size such as {self.example}"
        if not isinstance(node, ScalarNode) or is_missing(node):
            raise must_be(node.place, label, expected, kind_of(node), step)
        found = _SIZE.fullmatch(node.text)
        if not found:
            near = re.fullmatch(r"([1-9][0-9]{0,15})\s*([kmgtKMGT])i?[bB]?", node.text)
            step = f"write {near[1]}{near[2].upper()}" if near else "write whole bytes, or an integer with K, M, G or T"
            raise must_be(node.place, label, expected, shown(node.text), step)
        if not found[2]:
            number_text(node, label, "a size")
        value = int(found[1]) * UNITS[found[2]]
        if not self.low <= value <= self.high:
            limits = f"a size from {size_text(self.low)} to {size_text(self.high)}"
            raise must_be(node.place, label, limits, shown(node.text), step)
        return value

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        whole = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return {"anyOf": [whole, {"type": "string", "pattern": "^[1-9][0-9]*[KMGT]$"}]}
