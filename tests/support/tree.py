"""The package's sources as trees, for the tests of its shape."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Union

from tests.support import ROOT

PACKAGE = ROOT / "inject"

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]

MUTATORS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"}
    | {"remove", "reverse", "setdefault", "sort", "update"}
)
"""Methods that change a list, a dictionary, a set or a deque."""

DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
CONTAINERS = frozenset({"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"})


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """``inject.engine.planner`` for inject/engine/planner.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    """Every class, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def lines(node: Union[ast.ClassDef, Function]) -> int:
    """Lines from ``class`` or ``def`` to the last one; decorators are not counted."""
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def attributes(node: ast.ClassDef) -> set[str]:
    """Names that methods assign on ``self``."""
    return {
        target.attr
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store) and _name(target.value) == "self"
    }


def state(source: str) -> set[str]:
    """What outlives a call: names of the module, and attributes of its classes, that functions bind anew or change."""
    tree = ast.parse(source)
    module = {name for name, value in _bound(tree) if isinstance(value, (ast.Call, *DISPLAYS))}
    own = {node.name for node in classes(tree)} | {"cls"}
    found: set[str] = set()
    for function in functions(tree):
        rebound = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
        kept = module - (_locals(function) - rebound)
        found |= rebound
        for node in ast.walk(function):
            found |= {name for target in _changed(node) if (name := _name(target)) in kept}
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) and _name(node.value) in own:
                found.add(f"{_name(node.value)}.{node.attr}")
    for node in classes(tree):
        shared = {name for name, value in _bound(node) if _is_container(value)} - attributes(node)
        for inner in ast.walk(node):
            for target in _changed(inner):
                if isinstance(target, ast.Attribute) and target.attr in shared:
                    found.add(f"{node.name}.{target.attr}")
    return found


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _is_container(value: ast.AST) -> bool:
    return isinstance(value, DISPLAYS) or (isinstance(value, ast.Call) and _name(value.func) in CONTAINERS)


def _bound(body: Union[ast.Module, ast.ClassDef]) -> Iterator[tuple[str, ast.AST]]:
    """Names and values of the assignments in a module or class itself."""
    for node in body.body:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            yield node.target.id, node.value


def _locals(function: Function) -> set[str]:
    names = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    return names | {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    """The object that ``node`` changes in place."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        yield node.func.value
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        yield node.value
