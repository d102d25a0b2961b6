"""Nothing grows beyond what is read at once: directories, classes, functions; each class name is one class."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.tree import PACKAGE, attributes, classes, dotted, functions, lines, modules

TOP_FILES = 6
"""Modules directly in inject/."""

CLASS_LINES = 250
ATTRIBUTES = 12
FUNCTION_LINES = 60

EXCEPTIONS: Mapping[str, int] = {
    "lines of inject.cli.fail.fail": 69,
}
"""What is larger, and exactly how large. Lower a figure when the code shrinks; nothing is added here."""

ROOMS = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))


def too_large(trees: Mapping[str, ast.AST]) -> dict[str, int]:
    """What is above the limits, by module name and tree."""
    found: dict[str, int] = {}
    for module, tree in trees.items():
        for function in functions(tree):
            if lines(function) > FUNCTION_LINES:
                found[f"lines of {module}.{function.name}"] = lines(function)
        for node in classes(tree):
            if lines(node) > CLASS_LINES:
                found[f"lines of {module}.{node.name}"] = lines(node)
            if len(attributes(node)) > ATTRIBUTES:
                found[f"attributes of {module}.{node.name}"] = len(attributes(node))
    return found


def test_classes_and_functions_are_small() -> None:
    found = too_large({dotted(path): ast.parse(path.read_text()) for path in modules()})
    assert {what: size for what, size in found.items() if size > EXCEPTIONS.get(what, 0)} == {}, "split it"
    assert {what: size for what, size in EXCEPTIONS.items() if size > found.get(what, 0)} == {}, "lower the figure"


def test_what_is_large_is_seen() -> None:
    body = "\n".join(f"        self.x{number} = 1" for number in range(ATTRIBUTES + 1))
    rest = "\n".join("        pass" for _ in range(CLASS_LINES))
    source = f"class C:\n    def f(self):\n{body}\n    def g(self):\n{rest}"
    assert too_large({"m": ast.parse(source)}) == {
        "lines of m.g": CLASS_LINES + 1,
        "lines of m.C": CLASS_LINES + ATTRIBUTES + 4,
        "attributes of m.C": ATTRIBUTES + 1,
    }


def test_the_top_holds_only_what_has_no_room() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= TOP_FILES


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_each_room_says_what_it_is_for(room: Path) -> None:
    """The first line of its docstring, and which rooms it may import."""
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert docstring, "no docstring"
    first = docstring.splitlines()[0]
    assert first.endswith(".") and len(first.split()) > 4
    assert room == PACKAGE or "import" in first.lower()


def test_every_directory_of_code_is_a_room() -> None:
    """Except inject/vm/inguest, whose files are copied into the guest's image."""
    holding = {path.parent for path in modules()}
    assert {str(path.relative_to(ROOT)) for path in holding - set(ROOMS)} == {"inject/vm/inguest"}


def test_each_class_name_is_one_class() -> None:
    found = defaultdict(list)
    for path in modules():
        for node in classes(ast.parse(path.read_text())):
            found[node.name].append(dotted(path))
    assert len(found) > 100
    assert {name: where for name, where in found.items() if len(where) > 1} == {}
