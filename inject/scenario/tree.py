"""YAML text as a small tree whose every node knows its place and its text as written.

PyYAML composes it and resolves nothing: `no` stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import yaml
from yaml.composer import Composer
from yaml.resolver import BaseResolver

from inject.errors import Place, ScenarioError
from inject.model.text import shown
from inject.scenario.problems import Problems, place_at, wrong

MAX_DEPTH = 16
"""Lists and mappings inside each other; the deepest part of the format needs 6."""

MAX_VALUES = 20_000
"""Values, keys, lists and mappings of one file."""

_UNWELCOME = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""Characters that YAML forbids, and those that end a line in YAML but not in editors."""


@dataclass(frozen=True)
class ScalarNode:
    """A single value: its text, and whether it is plain, without quotes or ``|``.

    ``folded``: YAML has made fewer lines of it than were written.
    """

    place: Place
    text: str
    plain: bool
    folded: bool = False


@dataclass(frozen=True)
class ListNode:
    """A sequence."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True)
class MapNode:
    """A mapping: its pairs as written, duplicates included."""

    place: Place
    pairs: tuple[tuple[Node, Node], ...]

    def get(self, key: str) -> Optional[Node]:
        """The first value under ``key``."""
        for name, value in self.pairs:
            if isinstance(name, ScalarNode) and name.text == key:
                return value
        return None


Node = Union[ScalarNode, ListNode, MapNode]


def documents(text: str, file: str, problems: Problems) -> Iterator[Optional[Node]]:
    """The documents of a file, in order; None for the one at which reading had to stop.

    The error that stopped it is added to ``problems``.
    """
    text = text[1:] if text.startswith("\ufeff") else text
    try:
        _refuse_characters(text, file)
        lines = _lines(text)
        for node in yaml.compose_all(text, Loader=_LOADER):
            yield _node(node, file, lines)
    except ScenarioError as error:
        problems.catch(error)
        yield None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        said = error if isinstance(error, _Refused) else _second_opinion(text) or error
        problems.catch(_problem(text, file, said))
        yield None


def _node(node: Any, file: str, lines: Sequence[str]) -> Node:
    """The tree's node for a composed one, which is nested at most MAX_DEPTH deep."""
    place = _place(node.start_mark, file)
    if isinstance(node, yaml.ScalarNode):
        return ScalarNode(place, node.value, not node.style, _folded(node, lines))
    if isinstance(node, yaml.SequenceNode):
        return ListNode(place, tuple([_node(item, file, lines) for item in node.value]))
    return MapNode(place, tuple([(_node(key, file, lines), _node(value, file, lines)) for key, value in node.value]))


def _folded(node: Any, lines: Sequence[str]) -> bool:
    """True if the value of ``node`` has fewer lines than were written, except empty ones.

    A backslash at the end of a line in double quotes says that the next one belongs to it.
    """
    start, end = node.start_mark, node.end_mark
    if start.line == end.line or node.style == "|":
        return False
    written = list(lines[start.line + 1 : end.line])
    if node.style != ">":
        quotes = bool(node.style)
        written = [lines[start.line][start.column + quotes :], *written, lines[end.line][: end.column - quotes]]
    joined = sum(1 for line in written if line.endswith("\\")) if node.style == '"' else 0
    return _count(written) - joined > _count(node.value.split("\n"))


def _count(lines: Sequence[str]) -> int:
    return sum(1 for line in lines if line.strip())


def _place(mark: Any, file: str) -> Place:
    return Place(file, mark.line + 1, mark.column + 1)


# ---------------------------------------------------------------- what YAML has and the format does not


class _Refused(yaml.MarkedYAMLError):
    """YAML that a scenario cannot have; ``note`` is the hint."""

    def __init__(self, event: Any, what: str, step: str) -> None:
        super().__init__(problem=what, problem_mark=event.start_mark, note=step)


class _FormatComposer(Composer):
    """A composer with bounds that refuses what a scenario cannot have, over either parser of PyYAML."""

    depth = 0
    values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The node that begins with the next event; raises _Refused."""
        event: Any = self.peek_event()  # type: ignore[attr-defined]
        _refuse_event(event)
        self.values += 1
        if self.values > MAX_VALUES:
            raise _Refused(event, f"more than {MAX_VALUES} values in one file", "split the file")
        self.depth += 1
        if self.depth > MAX_DEPTH + isinstance(event, yaml.ScalarEvent):
            what = f"nested deeper than {MAX_DEPTH} levels"
            raise _Refused(event, what, "a scenario needs at most 6")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _PythonLoader(_FormatComposer, yaml.BaseLoader):
    """A loader on PyYAML's own parser."""


_LOADER: Any = _PythonLoader
if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class _LibyamlLoader(_FormatComposer, CParser, BaseResolver):
        """A loader on libyaml, which parses ten times faster."""

        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            Composer.__init__(self)
            BaseResolver.__init__(self)

    _LOADER = _LibyamlLoader


def _refuse_event(event: Any) -> None:
    """Refuse aliases, anchors, tags, and escapes that stand for no character."""
    if isinstance(event, yaml.AliasEvent):
        word = f"*{event.anchor}"
        what = f"{shown(word)} without quotes is a YAML alias, which a scenario cannot have"
        raise _Refused(event, what, f'quote it: "{word[:40]}", or repeat the value')
    if event.anchor is not None:
        what = f"{shown(f'&{event.anchor}')} without quotes is a YAML anchor, which a scenario cannot have"
        raise _Refused(event, what, "remove it and repeat the value, or quote a value that begins with &")
    if event.tag is not None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        if tag.startswith("!!"):
            raise _Refused(event, f"a scenario cannot have YAML tags such as {shown(tag)}", "write the plain value")
        raise _Refused(event, f"{shown(tag)} without quotes is a YAML tag", f'quote it: "{tag.rstrip(",")[:40]}"')
    if isinstance(event, yaml.ScalarEvent) and event.style == '"':
        found = re.search("[\0\ud800-\udfff]", event.value)
        if found:
            raise _Refused(event, f"the escape {_escape(ord(found[0]))} stands for no character", "remove it")


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


# ---------------------------------------------------------------- text that is not YAML

_BLOCK_MEANT = 'quote a value that begins with > or |, as in ">=1"; the text of a block starts on the next line'

_WORDS: tuple[tuple[str, bool, str, str], ...] = (
    # fragment of the parser's message, whether the place is where the construct began, message, hint
    ("unexpected end of stream", True, "this quote is never closed", "add the closing quote"),
    ("unexpected document separator", True, "this quote is never closed", "add the closing quote"),
    ("mapping values are not allowed", False, "unexpected colon", ""),
    ("chomping or indentation indicators", True, "`>` or `|` here begins a block of text", _BLOCK_MEANT),
    ("unknown escape character", False, "an unknown escape in double quotes", "use single quotes to keep backslashes"),
    ("escape sequence of", False, "a bad escape in double quotes", "use single quotes to keep backslashes"),
    ("expected ',' or ']'", True, "this list is not closed", "add the ] or a missing comma"),
    ("expected ',' or '}'", True, "this mapping is not closed", "add the } or a missing comma"),
    (
        "expected <block end>, but found '?'",
        False,
        "a key in place of a list item",
        "line up the items, or indent it",
    ),
    ("but found '<block sequence start>'", False, "this item is not indented like its list", "line up the items"),
    ("expected <block end>", False, "this does not fit the lines above", "line it up with them, or quote the value"),
    ("could not find expected ':'", True, "a key without a colon", "write `key: value`"),
    ("content, but found '<stream end>'", False, "the file ends inside [ ] or { }", "close it"),
    ("expected the node content", False, "a bracket or comma where a value should be", "quote the value"),
    ("expected alphabetic or numeric", False, "a bad anchor or alias", "quote a value that begins with & or *"),
    ("incompatible YAML document", False, "a %YAML directive for another version", "remove the line"),
    ("expected '<document start>'", False, "text where a new document should begin", "begin it with a line `---`"),
    ("Unicode character escape", False, "an escape that names no character", "use single quotes to keep backslashes"),
    ("version number", False, "a bad %YAML directive", "remove the line"),
    ("tab character", False, "a tab cannot indent YAML", "use spaces"),
    ("found undefined tag handle", False, "an unknown YAML tag", "quote values that begin with !"),
    ("tag", False, "a bad YAML tag", "quote values that begin with !"),
    ("directive", False, "a bad % directive", "quote values that begin with %"),
)


def _second_opinion(text: str) -> Optional[Exception]:
    """The error of PyYAML's own parser for text that libyaml refuses, because their messages differ.

    libyaml since 0.2.6 also refuses deep nesting before it reports what comes before it.
    """
    try:
        for _ in yaml.compose_all(text, Loader=_PythonLoader):
            pass
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        return error
    return None


def _problem(text: str, file: str, error: Exception) -> ScenarioError:
    """The error for text that PyYAML refused with ``error``."""
    if not isinstance(error, yaml.YAMLError):
        return _out_of_range(text, file)
    marks = [getattr(error, name, None) for name in ("context_mark", "problem_mark")]
    begun, there = [_place(mark, file) if mark is not None else None for mark in marks]
    there = there or begun or Place(file)
    problem = str(getattr(error, "problem", None) or error)
    if isinstance(error, _Refused):
        return wrong(there, problem, str(error.note))
    if "cannot start any token" in problem:
        return _bad_start(text, there)
    for fragment, at_beginning, what, hint in _WORDS:
        if fragment in problem:
            place = begun if at_beginning and begun else there
            return wrong(place, what, hint or _colon_hint(text, place))
    return wrong(there, f"not YAML: {problem}", "quote the value if it holds special characters")


def _out_of_range(text: str, file: str) -> ScenarioError:
    """The error for what PyYAML's own parser refuses without a place."""
    escape = re.search(r"\\U(?!000|0010)", text)
    if escape:
        place = place_at(text, escape.end(), file)
        return wrong(place, "an escape that names no character", "use single quotes to keep backslashes")
    directive = re.search(r"^%YAML\s*[0-9.]{0,9}", text, re.MULTILINE)
    place = place_at(text, directive.end() if directive else 0, file)
    return wrong(place, "a bad %YAML directive", "remove the line")


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _line(text: str, place: Place) -> str:
    lines = _lines(text)
    return lines[place.line - 1] if place.line <= len(lines) else ""


def _bad_start(text: str, place: Place) -> ScenarioError:
    character = _line(text, place)[place.column - 1 : place.column]
    if character == "\t":
        return wrong(place, "a tab cannot indent YAML", "use spaces")
    what = "a backtick" if character == "`" else shown(character)
    return wrong(place, f"a value cannot begin with {what}", "quote the value")


def _colon_hint(text: str, place: Place) -> str:
    line = _line(text, place)
    if line[: place.column - 1].count(":") and line[:1] != " ":
        return "quote the value that holds it"
    return "line the key up with those above, or quote the value that holds it"
