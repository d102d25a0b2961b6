"""The tree is a map: imports run one way, each library has one owner, and nothing of a machine is written down."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.tree import PACKAGE, dotted, modules, state

LAYERS = (
    {"errors"},
    {"store"},
    {"model"},
    {"filesystems"},
    {"scenario", "kernel", "process", "coverage"},
    {"module"},
    {"engine", "fixture"},
    {"doctor"},
    {"propagation", "oracles", "draft", "report"},
    {"trial"},
    {"record"},
    {"campaign"},
    {"fleet"},
    {"sweep"},
    {"vm"},
    {"cli"},
    {"__main__"},
)
"""What a module may import stands in an earlier set or in its own folder."""

OWNERS = {
    "bcc": {"inject/engine/bcc.py"},
    "yaml": {"inject/scenario"},
    "click": {"inject/cli"},
    "tabulate": {"inject/report/table.py"},
    "junitparser": {"inject/report/junit.py"},
    "jinja2": {"inject/sweep/report/html.py"},
}
PRINTS = {"inject/cli", "inject/vm/inguest"}
"""Who may write to the user's terminal: the commands, and the guest's agent on its console."""


def name_of(path: Path) -> str:
    """The room of a module: ``plan`` for inject/engine/planner.py, ``vm`` for inject/vm/qemu.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(source: str) -> Iterator[str]:
    """Dotted names of all modules imported anywhere in ``source``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(name: str) -> int:
    """Where ``name`` stands; an unknown one has to be given a place."""
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    raise AssertionError(f"inject/{name} has no layer: give it one")


def upward(name: str, source: str) -> list[str]:
    """What module ``name`` imports although it stands no lower."""
    found = []
    for name_imported in imports(source):
        parts = name_imported.split(".")
        if parts[0] != "inject" or len(parts) < 2 or parts[1] in (name, "__version__"):
            continue
        if not (PACKAGE / parts[1]).is_dir() and not (PACKAGE / f"{parts[1]}.py").is_file():
            continue
        if layer(parts[1]) >= layer(name):
            found.append(name_imported)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return
    assert upward(name_of(path), path.read_text()) == []


def test_an_upward_import_is_seen() -> None:
    found = ["inject.trial.trial", "inject.trial.trial.Trial"]
    assert upward("engine", "from inject.trial.trial import Trial") == found
    assert upward("engine", "def f():\n    from inject import cli") == ["inject.cli"]
    assert upward("trial", "from inject.engine.planner import Plan") == []


def test_modules_of_a_folder_do_not_import_in_circles() -> None:
    """Inside a folder there are no layers, but no circles either."""
    sources = {dotted(path): path.read_text() for path in modules()}
    graph = {}
    for name, source in sources.items():
        found = {other for other in imports(source) if other in sources} - {name}
        # `from inject.oracles import fsck` needs the module only.
        graph[name] = {other for other in found if not any(more.startswith(f"{other}.") for more in found)}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name in done or name not in graph:
            return
        for other in sorted(graph[name]):
            visit(other, (*trail, name))
        done.add(name)

    for name in sorted(graph):
        visit(name, ())
    assert len(done) == len(graph) > 100


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_each_library_has_its_owner(library: str) -> None:
    """And each owner uses it."""
    used = set()
    for path in modules():
        where = str(path.relative_to(ROOT))
        if library in {name.split(".")[0] for name in imports(path.read_text())}:
            owners = {owner for owner in OWNERS[library] if where == owner or where.startswith(owner + "/")}
            assert owners, where
            used |= owners
    assert used == OWNERS[library]


def test_only_commands_print() -> None:
    found = set()
    for path in modules():
        where = str(path.relative_to(ROOT))
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        if "print" in names:
            found |= (owners := {owner for owner in PRINTS if where.startswith(owner + "/")})
            assert owners, where
    assert found <= PRINTS


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_has_state(path: Path) -> None:
    """Nothing that a function binds or changes outlives its call, except in the objects that it is given."""
    assert state(path.read_text()) == set()


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("X = 1\ndef f():\n    global X\n    X = 2", {"X"}),
        ("X = []\ndef f():\n    X.append(1)", {"X"}),
        ("X = make()\ndef f():\n    def g():\n        X['a'] = 1", {"X"}),
        ("X: dict[str, int] = {}\ndef f():\n    del X['a']", {"X"}),
        ("X = {}\ndef f():\n    X['a'] += 1", {"X"}),
        ("class C:\n    x = []\n    def f(self):\n        self.x.append(1)", {"C.x"}),
        ("class C:\n    x = set()\n    @classmethod\n    def f(cls):\n        cls.x.add(1)", {"C.x"}),
        ("class C:\n    x = 1\ndef f():\n    C.x = 2", {"C.x"}),
        ("X = []\ndef f():\n    X = []\n    X.append(1)", set()),
        ("X = []\ndef f(X):\n    X.append(1)", set()),
        ("X = []\nX.append(1)\ndef f():\n    return X[0]", set()),
        ("class C:\n    x = []\n    def f(self):\n        self.x = []\n        self.x.append(1)", set()),
    ],
)
def test_state_is_seen(source: str, seen: set[str]) -> None:
    assert state(source) == seen


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_annotations_are_not_evaluated(path: Path) -> None:
    """Python 3.9 has no ``X | Y`` and the guest's agent no ``typing``."""
    text = path.read_text()
    annotated = any(
        isinstance(node, ast.AnnAssign) or (isinstance(node, ast.FunctionDef) and (node.returns or node.args.args))
        for node in ast.walk(ast.parse(text))
    )
    assert not annotated or "from __future__ import annotations" in text


# Written apart, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a registry's host": re.compile(r"(?:deb|security|ftp)\.debian\." + "org|" + r"(?:files\.)?pythonhosted\." + "org"),
    "a package index": re.compile("pypi" + r"\.org|npmjs\." + "(?:org|com)"),
    "a folder of one machine": re.compile(
        r"(?<![\w.$}>])/(?:" + "work" + r"/(?:main|shared|\.library)|home/\w+/|check/)"
    ),
}


def tracked() -> list[Path]:
    """The files that git knows; outside a repository those of the tree."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout:
        return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [
        path for path in ROOT.rglob("*") if path.is_file() and ".git" not in path.parts and ".venv" not in path.parts
    ]


def test_nothing_of_a_machine_is_written_down() -> None:
    files = tracked()
    assert len(files) > 300
    for path in files:
        if path.name == "LICENSE":
            continue
        text = path.read_bytes().decode(errors="replace")
        for what, pattern in FORBIDDEN.items():
            found = pattern.search(text)
            assert not found, f"{path.relative_to(ROOT)} names {what}: {found and found.group()}"


@pytest.mark.parametrize(
    "text", ["http://deb.debian." + "org/debian", "https://pypi." + "org/simple", "see /wo" + "rk/main/x"]
)
def test_a_forbidden_name_is_seen(text: str) -> None:
    assert any(pattern.search(text) for pattern in FORBIDDEN.values())
