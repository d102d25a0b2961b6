"""The kinds of value that most keys take: each reads a node and describes itself as JSON Schema."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Protocol

from inject.errors import Place, ScenarioError
from inject.model.expression import Expression, compiled
from inject.model.text import either, nearest, shown
from inject.scenario.problems import Problems, must_be, wrong
from inject.scenario.scalars import is_missing, kind_of
from inject.scenario.tree import ListNode, MapNode, Node, ScalarNode

QUOTE = "quote it if it is meant as text"

SCALAR_TYPES = ["string", "number", "boolean"]
"""What a YAML reader may make of text without quotes; inject takes the text as written."""


class Kind(Protocol):
    """What a key's value may be."""

    def read(self, node: Node, label: str) -> Any:
        """The value; raises ScenarioError. ``label`` is the key that it stands under."""

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema; it never rejects what ``read`` takes."""


def read_any(kind: Any, node: Node, label: str, problems: Problems) -> Any:
    """The value of ``kind`` in ``node``; None if it is wrong, and then ``problems`` has the error."""
    before = len(problems)
    try:
        value = kind.read_parts(node, label, problems) if hasattr(kind, "read_parts") else kind.read(node, label)
    except ScenarioError as error:
        problems.catch(error)
        return None
    return value if len(problems) == before else None


def scalar_text(node: Node, label: str, expected: str, hint: str = "") -> str:
    """The text of a value as written; raises ScenarioError for nothing, YAML's null, lists and mappings."""
    if not isinstance(node, ScalarNode):
        raise must_be(node.place, label, expected, kind_of(node), hint)
    if is_missing(node) or not node.text.strip():
        raise wrong(node.place, f"`{label}` has no value", f"write {expected}")
    return node.text


@dataclass(frozen=True)
class Text:
    """Text, taken as written; ``pattern`` narrows it, ``hint`` says to what."""

    expected: str = "text"
    pattern: str = ""
    hint: str = ""
    longest: int = 0

    def read(self, node: Node, label: str) -> str:
        """The text; raises ScenarioError."""
        text = scalar_text(node, label, self.expected, QUOTE)
        if isinstance(node, ScalarNode) and node.plain and text in ("null", "Null", "NULL"):
            raise wrong(node.place, f"`{text}` without quotes means no value in YAML", f'quote it: "{text}"')
        if self.longest and len(text) > self.longest:
            bounded = f"{self.expected} of at most {self.longest} characters"
            raise must_be(node.place, label, bounded, str(len(text)), "shorten it")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise must_be(node.place, label, self.expected, shown(text), self.hint)
        return text

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        schema: dict[str, Any] = {"type": SCALAR_TYPES, "minLength": 1}
        if self.pattern:
            schema["pattern"] = f"^(?:{self.pattern})$"
        if self.longest:
            schema["maxLength"] = self.longest
        return schema


@dataclass(frozen=True)
class Script:
    """Text for ``bash -euo pipefail``."""

    def read(self, node: Node, label: str) -> str:
        """The script; raises ScenarioError."""
        text = scalar_text(node, label, "shell commands", QUOTE)
        if isinstance(node, ScalarNode) and node.folded:
            step = f"write `{label}: |`, with the commands below it"
            raise wrong(node.place, f"YAML joins the lines of `{label}` into one", step)
        return text

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": SCALAR_TYPES, "minLength": 1}


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, node: Node, label: str) -> str:
        """The word; raises ScenarioError."""
        text = scalar_text(node, label, either(self.words))
        if text not in self.words:
            near = nearest(text, self.words) if len(self.words) > 3 else None
            if near:
                raise wrong(node.place, f"`{label}` cannot be {shown(text)}", f"did you mean `{near}`?")
            raise must_be(node.place, label, either(self.words), shown(text))
        return text

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Pattern:
    """A regular expression of Python's ``re``, in which ``^`` and ``$`` mean lines."""

    longest = 1000
    """Characters: some character classes take milliseconds each to compile."""

    def read(self, node: Node, label: str) -> Expression:
        """The expression, known to compile; raises ScenarioError."""
        text = scalar_text(node, label, "a regular expression", QUOTE)
        if len(text) > self.longest:
            bounded = f"a regular expression of at most {self.longest} characters"
            raise must_be(node.place, label, bounded, str(len(text)), "shorten it")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compiled(text)
        except re.error as error:
            at = "" if error.pos is None else f" at character {error.pos + 1}"
            what = f"`{label}` is not a regular expression: {error.msg}{at}"
            raise wrong(node.place, what, "put \\ before characters that are meant literally") from None
        except (OverflowError, RecursionError):
            raise wrong(node.place, f"the regular expression of `{label}` is too large", "simplify it") from None
        return Expression(text, label, node.place)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"type": SCALAR_TYPES, "minLength": 1, "maxLength": self.longest}


@dataclass(frozen=True)
class ListOf:
    """A list of ``item``; ``filled``: at least one; ``unique``: each once."""

    item: Any
    filled: bool = False
    unique: bool = True

    def read_parts(self, node: Node, label: str, problems: Problems) -> tuple[Any, ...]:
        """The items; raises ScenarioError for what is not a list."""
        if not isinstance(node, ListNode):
            raise self._not_a_list(node, label)
        if self.filled and not node.items:
            raise wrong(node.place, f"`{label}` is empty", "write at least one item")
        values: list[Any] = []
        for item in node.items:
            before = len(problems)
            value = read_any(self.item, item, label, problems)
            if len(problems) != before:
                continue
            if self.unique and value in values:
                problems.add(item.place, f"`{label}` has {kind_of(item)} twice", "remove one")
            values.append(value)
        return tuple(values)

    @staticmethod
    def _not_a_list(node: Node, label: str) -> ScenarioError:
        if isinstance(node, ScalarNode) and not is_missing(node) and "\n" not in node.text:
            step = f"write [{shown(node.text)[1:-1]}]" if node.plain else "put [ ] around it"
        else:
            step = "begin each item with `- `" if isinstance(node, MapNode) else "write [] or remove the key"
        return must_be(node.place, label, "a list", kind_of(node), step)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        schema: dict[str, Any] = {"type": "array", "items": self.item.schema()}
        if self.filled:
            schema["minItems"] = 1
        if self.unique and isinstance(self.item, Choice):  # other words may become the same boolean or number
            schema["uniqueItems"] = True
        return schema


def pairs_of(node: Node, noun: str, problems: Problems, step: str) -> list[tuple[ScalarNode, Node]]:
    """The keys and values of a mapping, each key once; raises ScenarioError for other nodes."""
    if not isinstance(node, MapNode):
        raise wrong(node.place, f"{noun} must be a mapping, got {kind_of(node)}", step)
    first: dict[str, Place] = {}
    pairs = []
    for key, value in node.pairs:
        if not isinstance(key, ScalarNode):
            problems.add(key.place, f"{kind_of(key)} cannot be a key", "write `key: value`, or quote the value above")
        elif key.text in first:
            above = first[key.text].line
            problems.add(key.place, f"duplicate key {shown(key.text)}, first on line {above}", "remove one")
        elif key.plain and key.text == "<<":
            problems.add(key.place, "a scenario cannot have merge keys (`<<`)", "repeat the keys")
        else:
            first[key.text] = key.place
            pairs.append((key, value))
    return pairs


@dataclass(frozen=True)
class Key:
    """One key of a record: the kind of its value, and the line that editors show for it."""

    name: str
    kind: Any
    about: str
    required: str = ""
    """What to add if the key is missing; "" if it may be."""
    deprecated: bool = False
    """Still read, but never suggested, written or documented."""


class Fields:
    """The contents of one record: the values that could be read, the nodes of all, the unknown keys."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.values: dict[str, Any] = {}
        self.nodes: dict[str, Node] = {}
        self.keys: dict[str, Place] = {}
        self.unknown: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        """The value under ``name``; ``default`` if it is absent or wrong."""
        return self.values.get(name, default)

    def __contains__(self, name: str) -> bool:
        return name in self.keys


class Checker(Protocol):
    """A check of keys that depend on each other."""

    def __call__(self, fields: Fields, problems: Problems) -> None:
        """Add what is wrong between the fields to ``problems``."""


class Builder(Protocol):
    """The maker of the model's object from a record without problems."""

    def __call__(self, fields: Fields) -> Any:
        """The object."""


@dataclass(frozen=True)
class Record:
    """A mapping with the given keys."""

    keys: tuple[Key, ...]
    build: Builder
    check: Optional[Checker] = None
    noun: str = ""
    """What messages call it; "" for the key that it stands under."""
    also: Optional[Mapping[str, Any]] = None
    """JSON Schema of what ``check`` checks, as far as JSON Schema can express it."""
    elsewhere: Optional[Mapping[str, str]] = None
    """Keys of other records that are easily put here, and where they belong."""

    def read_parts(self, node: Node, label: str, problems: Problems) -> Any:
        """The object, or None when something was added to ``problems``."""
        before = len(problems)
        known = {key.name: key for key in self.keys}
        noun = self.noun or f"`{label}`"
        fields = Fields(node.place)
        for key, value in pairs_of(node, noun, problems, "write `key: value` pairs, indented below it"):
            if key.text not in known:
                fields.unknown.append(key.text)
                problems.add(key.place, f"unknown key {shown(key.text)} in {noun}", self._step(key.text))
                continue
            fields.keys[key.text] = key.place
            fields.nodes[key.text] = value
            count = len(problems)
            found = read_any(known[key.text].kind, value, key.text, problems)
            if len(problems) == count:
                fields.values[key.text] = found
        meant = {nearest(key, known) for key in fields.unknown}
        for required in (key for key in self.keys if key.required and key.name not in fields and key.name not in meant):
            problems.add(node.place, f"{noun} has no `{required.name}`", f"add `{required.required}`")
        if self.check:
            self.check(fields, problems)
        return self.build(fields) if len(problems) == before else None

    def _step(self, name: str) -> str:
        names = [key.name for key in self.keys if not key.deprecated]
        near = nearest(name.replace("-", "_"), names)
        word, colon, _ = name.partition(":")
        if colon and word in names:
            return f"write a space after the colon: `{word}: ...`"
        if self.elsewhere and name in self.elsewhere:
            return f"it belongs under `{self.elsewhere[name]}`"
        return f"did you mean `{near}`?" if near else f"the keys are {', '.join(names)}"

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {
                key.name: {
                    "title": key.name,
                    "description": key.about,
                    **({"deprecated": True} if key.deprecated else {}),
                    **key.kind.schema(),
                }
                for key in self.keys
            },
            "additionalProperties": False,
        }
        required = [key.name for key in self.keys if key.required]
        if required:
            schema["required"] = required
        return {**schema, **(self.also or {})}
