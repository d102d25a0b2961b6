"""Numbers as written: decimal or 0x, nothing that two YAML readers could take for two values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from inject.errors import Place, ScenarioError
from inject.model.text import UNITS, shown, size_text
from inject.scenario.problems import wrong
from inject.scenario.tree import ListNode, Node, ScalarNode

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,24}|0x[0-9A-Fa-f]{1,24})")
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,24})(\.[0-9]{1,25})?")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,24})([KMGT]?)")

_TRAPS: tuple[tuple[str, str], ...] = (
    (r"[+]\d+", "write it without the plus"),
    (r"-?0o[0-7]+", "octal is not read; write it in decimal or 0x"),
    (r"-?0b[01]+", "binary is not read; write it in decimal or 0x"),
    (r"-?0X[0-9A-Fa-f]+", "write 0x in lower case"),
    (r"-?0[0-9]+", "some readers take a leading zero for octal; write it in decimal without the zero, or in 0x"),
    (r"-?[0-9][0-9_,']*[_,'][0-9_,']*", "write the digits without separators"),
    (r"[0-9]+(:[0-9]+)+", "YAML 1.1 takes it for base 60; write one number"),
    (r"[-+]?[0-9.]+[eE][-+]?[0-9]+", "write the digits out, without an exponent"),
    (r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)", "write a finite number"),
    (r"-?\.[0-9]+", "write a zero before the point"),
)
"""Spellings that YAML readers disagree upon, with what to write instead."""


def is_missing(node: Node) -> bool:
    """Whether nothing was written: an empty value or YAML's null."""
    return isinstance(node, ScalarNode) and node.plain and node.text in ("", "~")


def kind_of(node: Node) -> str:
    """What a node is, for a message that wanted something else."""
    if isinstance(node, ScalarNode):
        return "nothing" if is_missing(node) else shown(node.text)
    return "a list" if isinstance(node, ListNode) else "a mapping"


def number_text(node: Node, label: str, wants: str) -> str:
    """The text of a value that should be a number; raises ScenarioError for other nodes and for quotes."""
    if not isinstance(node, ScalarNode) or is_missing(node):
        raise wrong(node.place, f"`{label}` wants {wants}, not {kind_of(node)}", "write the number after the colon")
    if not node.plain:
        raise wrong(node.place, f"`{label}` wants {wants}, and quotes make it text", "remove the quotes")
    return node.text


def refuse(place: Place, label: str, wants: str, text: str) -> ScenarioError:
    """The problem with ``text`` where ``wants`` was wanted; names the trap it fell into, if any."""
    for pattern, step in _TRAPS:
        if re.fullmatch(pattern, text):
            return wrong(place, f"{shown(text)} is no plain number for `{label}`", step)
    return wrong(place, f"`{label}` wants {wants}, not {shown(text)}")


def whole_number(text: str) -> int:
    """The value of decimal or 0x digits; raises ValueError for anything else."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text, 16 if "x" in text else 10)


@dataclass(frozen=True)
class Whole:
    """A whole number from ``low`` to ``high``."""

    low: int
    high: int = 2**63 - 1

    @property
    def wants(self) -> str:
        """The range in words."""
        if self.high >= 2**63 - 1:
            return f"a whole number of at least {self.low}"
        return f"a whole number from {self.low} to {self.high}"

    def read(self, node: Node, label: str) -> int:
        """The number; raises ScenarioError."""
        text = number_text(node, label, self.wants)
        try:
            value = whole_number(text)
        except ValueError:
            raise refuse(node.place, label, self.wants, text) from None
        if not self.low <= value <= self.high:
            raise wrong(node.place, f"`{label}` wants {self.wants}, not {shown(text)}")
        return value

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Decimal:
    """A number above 0 and up to ``high``, digits with an optional fraction; ``unit`` completes the sentence."""

    high: int
    unit: str
    slips: tuple[tuple[str, str], ...] = ()
    """Patterns that users write instead, with the step to take."""

    def read(self, node: Node, label: str) -> float:
        """The number; raises ScenarioError."""
        wants = f"{self.unit} above 0 and up to {self.high}"
        text = number_text(node, label, wants)
        for pattern, step in self.slips:
            if re.fullmatch(pattern, text):
                raise wrong(node.place, f"`{label}` wants {wants}, not {shown(text)}", step)
        if not _DECIMAL.fullmatch(text):
            raise refuse(node.place, label, wants, text)
        if not 0 < float(text) <= self.high:
            raise wrong(node.place, f"`{label}` wants {wants}, not {shown(text)}")
        return float(text)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": "number", "exclusiveMinimum": 0, "maximum": self.high}


@dataclass(frozen=True)
class Size:
    """Bytes, with an optional binary suffix, from ``low`` to ``high``."""

    low: int
    high: int
    example: str

    def read(self, node: Node, label: str) -> int:
        """The bytes; raises ScenarioError. A size with a suffix may be quoted."""
        step = f"write it like {self.example}"
        if not isinstance(node, ScalarNode) or is_missing(node):
            raise wrong(node.place, f"`{label}` wants a size, not {kind_of(node)}", step)
        found = _SIZE.fullmatch(node.text)
        if not found:
            near = re.fullmatch(r"([1-9][0-9]{0,15})\s*([kmgtKMGT])i?[bB]?", node.text)
            step = (
                f"write {near[1]}{near[2].upper()}"
                if near
                else f"write whole bytes, or K, M, G, T as in {self.example}"
            )
            raise wrong(node.place, f"{shown(node.text)} is no size for `{label}`", step)
        if not found[2]:
            number_text(node, label, "a size")
        value = int(found[1]) * UNITS[found[2]]
        if not self.low <= value <= self.high:
            limits = f"from {size_text(self.low)} to {size_text(self.high)}"
            raise wrong(node.place, f"`{label}` wants a size {limits}, not {shown(node.text)}", step)
        return value

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        whole = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return {"anyOf": [whole, {"type": "string", "pattern": "^[1-9][0-9]*[KMGT]$"}]}
