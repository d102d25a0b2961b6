"""YAML text as a small tree whose every node knows its place and the text as written.

The tree is built from the parser's events, not with yaml.compose(): so nothing is
resolved behind our back (`no` stays the two letters), nesting costs no recursion,
and an alias bomb is counted before it is expanded.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional, Union

import yaml

from inject.errors import Place, ScenarioError
from inject.scenario.problems import Problems, place_at, shown, wrong
from inject.scenario.syntax import syntax_problem

MAX_DEPTH = 16
"""Lists and mappings inside each other; the deepest part of the format needs 6."""

MAX_NODES = 20_000
"""Values, lists and mappings of one file, aliases counted as what they stand for."""

_UNWELCOME = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What YAML forbids, and what YAML takes for the end of a line but editors do not."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it: twenty times faster."""


@dataclass(frozen=True)
class ScalarNode:
    """A single value: its text, and whether it stood there without quotes or ``|``."""

    place: Place
    text: str
    plain: bool
    size: int = 1


@dataclass(frozen=True)
class ListNode:
    """A sequence."""

    place: Place
    items: tuple[Node, ...]
    size: int = 1


@dataclass(frozen=True)
class MapNode:
    """A mapping; ``pairs`` as written, duplicates included."""

    place: Place
    pairs: tuple[tuple[Node, Node], ...]
    size: int = 1

    def get(self, key: str) -> Optional[Node]:
        """The first value under ``key``."""
        for name, value in self.pairs:
            if isinstance(name, ScalarNode) and name.text == key:
                return value
        return None


Node = Union[ScalarNode, ListNode, MapNode]


@dataclass
class _Open:
    """A list or mapping whose end has not been seen."""

    place: Place
    mapping: bool
    anchor: Optional[str]
    children: list[Node]

    def close(self) -> Node:
        """The finished node."""
        size = 1 + sum(child.size for child in self.children)
        if not self.mapping:
            return ListNode(self.place, tuple(self.children), size)
        pairs = zip(self.children[::2], self.children[1::2])
        return MapNode(self.place, tuple(pairs), size)


class _Composer:
    """Turns the events of one file into documents."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.anchors: dict[str, Optional[Node]] = {}
        self.open: list[_Open] = []
        self.size = 0

    def feed(self, event: Any) -> Optional[Node]:
        """Take one event; returns a document when it is complete. Raises ScenarioError."""
        place = Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.DocumentStartEvent):
            self.anchors.clear()
        elif isinstance(event, yaml.AliasEvent):
            return self._put(place, None, self._alias(place, str(event.anchor)))
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(place, event)
            self._refuse_escapes(place, event.value)
            plain = event.style in (None, "")
            return self._put(place, event.anchor, ScalarNode(place, event.value, plain))
        elif isinstance(event, yaml.CollectionStartEvent):
            self._refuse_tag(place, event)
            self._enter(place, isinstance(event, yaml.MappingStartEvent), event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self.open.pop()
            self.size -= sum(child.size for child in done.children)
            return self._put(done.place, done.anchor, done.close())
        return None

    def _enter(self, place: Place, mapping: bool, anchor: Optional[str]) -> None:
        if len(self.open) >= MAX_DEPTH:
            raise wrong(place, f"nested deeper than {MAX_DEPTH} levels", "no part of the format needs more than 6")
        if anchor is not None:
            self.anchors[anchor] = None
        self.open.append(_Open(place, mapping, anchor, []))

    def _put(self, place: Place, anchor: Optional[str], node: Node) -> Optional[Node]:
        self.size += node.size
        if self.size > MAX_NODES:
            what = f"more than {MAX_NODES} values in one file, aliases expanded"
            raise wrong(place, what, "split the file, or write fewer aliases")
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.open:
            return node
        self.open[-1].children.append(node)
        return None

    def _alias(self, place: Place, name: str) -> Node:
        if name not in self.anchors:
            what = f"`*{name}` is a YAML alias, and nothing above is anchored as `&{name}`"
            raise wrong(place, what, f'quote a value that begins with *: "*{name}"')
        node = self.anchors[name]
        if node is None:
            raise wrong(place, f"the alias `*{name}` stands inside the very value it repeats", "write the value out")
        return node

    @staticmethod
    def _refuse_escapes(place: Place, text: str) -> None:
        """Refuse what an escape in double quotes may say and no command, file or terminal can take."""
        found = re.search("[\0\ud800-\udfff]", text)
        if found:
            raise wrong(place, f"the escape {_escape(ord(found[0]))} stands for no character", "remove it")

    @staticmethod
    def _refuse_tag(place: Place, event: Any) -> None:
        if event.tag is None:
            return
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        if tag.startswith("!!"):
            raise wrong(place, f"the YAML tag {shown(tag)} is not part of the format", "write the plain value")
        raise wrong(place, f"{shown(tag)} without quotes is a YAML tag", f'quote it: "{tag.rstrip(",")[:40]}"')


def documents(text: str, file: str, problems: Problems) -> Iterator[Optional[Node]]:
    """The documents of a file, in order; None for the one at which reading had to stop.

    What stopped it is in ``problems`` then, at the place where it stands.
    """
    text = text[1:] if text.startswith("\ufeff") else text
    try:
        _refuse_characters(text, file)
        composer = _Composer(file)
        document = None
        for event in _events(text, file):
            document = composer.feed(event) or document
            if isinstance(event, yaml.DocumentEndEvent):  # before it, what follows may still prove it no document
                yield document
                document = None
    except ScenarioError as error:
        problems.catch(error)
        yield None


def _events(text: str, file: str) -> Iterator[Any]:
    """The parser's events; raises ScenarioError where the text is not YAML.

    libyaml since 0.2.6 gives up on text that is nested too deep before it has said what comes
    before; PyYAML's own parser, which reads no further than it has to, then goes on.
    """
    given = 0
    try:
        try:
            for event in yaml.parse(text, Loader=_LOADER):
                yield event
                given += 1
        except yaml.MarkedYAMLError as error:
            if "nesting depth" not in str(error.problem):
                raise
            yield from itertools.islice(yaml.parse(text, Loader=yaml.SafeLoader), given, None)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise syntax_problem(text, file, error) from None


def _refuse_characters(text: str, file: str) -> None:
    found = _UNWELCOME.search(text)
    if not found:
        return
    place = place_at(text, found.start(), file)
    code = ord(found[0])
    if code == 0:
        raise nul_byte(place)
    what = f"the control character U+{code:04X} cannot stand in a scenario"
    raise wrong(place, what, f'remove it, or write it as an escape in double quotes: "{_escape(code)}"')


def nul_byte(place: Place) -> ScenarioError:
    """The problem with a NUL at ``place``."""
    return wrong(place, "a NUL byte: this is not a text file", "give the YAML file of a scenario")


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
