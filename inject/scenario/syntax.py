"""Text that is not YAML, said in the words of someone who has to mend it."""

from __future__ import annotations

import re
from typing import Any, Optional

import yaml

from inject.errors import Place, ScenarioError
from inject.scenario.problems import place_at, shown, wrong

_BLOCK_MEANT = 'quote a value that begins with > or |, as in ">=1"; a block\'s text starts on the next line'

_WORDS: tuple[tuple[str, bool, str, str], ...] = (
    # in the parser's message, place is where the construct began, what is wrong, next step
    ("unexpected end of stream", True, "the quote that opens here is never closed", "add the closing quote"),
    ("unexpected document separator", True, "the quote that opens here is never closed", "add the closing quote"),
    ("mapping values are not allowed", False, "a colon where none can stand", ""),
    ("chomping or indentation indicators", True, "not a block of text", _BLOCK_MEANT),
    ("unknown escape character", False, "an unknown escape in double quotes", "use single quotes to keep backslashes"),
    ("escape sequence of", False, "a bad escape in double quotes", "use single quotes to keep backslashes"),
    ("expected ',' or ']'", True, "the list that opens here is not closed", "add the ] or a missing comma"),
    ("expected ',' or '}'", True, "the mapping that opens here is not closed", "add the } or a missing comma"),
    ("expected <block end>, but found '?'", False, "a key where a list goes on", "line up the items or indent the key"),
    ("but found '<block sequence start>'", False, "a list item indented unlike its list", "line the items up"),
    ("expected <block end>", False, "this does not fit the lines above", "line it up with them, or quote the value"),
    ("could not find expected ':'", True, "a key without a colon", "write `key: value`"),
    ("content, but found '<stream end>'", False, "the file ends inside [ ] or { }", "close it"),
    ("expected the node content", False, "a bracket or comma where a value should be", "quote the value"),
    ("expected alphabetic or numeric", False, "not an anchor or alias", "quote a value that begins with & or *"),
    ("incompatible YAML document", False, "a %YAML directive for another version", "remove the line"),
    ("expected '<document start>'", False, "text where a new document should begin", "begin it with a line `---`"),
    ("duplicate anchor", False, "the same anchor twice", "rename one"),
    ("Unicode character escape", False, "an escape that names no character", "use single quotes to keep backslashes"),
    ("version number", False, "a bad %YAML directive", "remove the line"),
    ("tab character", False, "a tab cannot indent YAML", "use spaces"),
    ("found undefined tag handle", False, "an unknown YAML tag", "quote values that begin with !"),
    ("tag", False, "a bad YAML tag", "quote values that begin with !"),
    ("directive", False, "a bad % directive", "quote values that begin with %"),
)


def syntax_problem(text: str, file: str, error: Exception) -> ScenarioError:
    """What to say about text that the YAML parser refused with ``error``.

    libyaml and PyYAML's own parser word the same mistake differently, so it is
    always the latter's verdict that is told.
    """
    error = _second_opinion(text) or error
    if not isinstance(error, yaml.YAMLError):
        return _out_of_range(text, file)
    begun = _place(getattr(error, "context_mark", None), file)
    there = _place(getattr(error, "problem_mark", None), file) or begun or Place(file)
    problem = str(getattr(error, "problem", None) or error)
    if "cannot start any token" in problem:
        return _bad_start(text, there)
    for fragment, at_beginning, what, hint in _WORDS:
        if fragment in problem:
            place = begun if at_beginning and begun else there
            return wrong(place, what, hint or _colon_hint(text, place))
    return wrong(there, f"not YAML: {problem}", "quote the value if it holds special characters")


def _second_opinion(text: str) -> Optional[Exception]:
    try:
        for _ in yaml.parse(text, Loader=yaml.SafeLoader):
            pass
    except yaml.YAMLError as error:
        return error
    except (ValueError, OverflowError):  # PyYAML's own parser, on escapes and versions out of range
        return None
    return None


def _out_of_range(text: str, file: str) -> ScenarioError:
    """What PyYAML's own parser stumbles over without saying where."""
    escape = re.search(r"\\U(?!000|0010)", text)
    if escape:
        place = place_at(text, escape.end(), file)
        return wrong(place, "an escape that names no character", "use single quotes to keep backslashes")
    directive = re.search(r"^%YAML\s*[0-9.]{0,9}", text, re.MULTILINE)
    place = place_at(text, directive.end() if directive else 0, file)
    return wrong(place, "a bad %YAML directive", "remove the line")


def _place(mark: Any, file: str) -> Optional[Place]:
    return Place(file, mark.line + 1, mark.column + 1) if mark is not None else None


def _line(text: str, place: Place) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
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
