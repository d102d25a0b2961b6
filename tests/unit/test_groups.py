"""Tests of a group run in one process: by pytest-xdist's own groups they would not with every pytest."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT
from tests.support.groups import SHARING, group

SHARED = re.compile(r'@pytest\.fixture\(scope="module"\)\ndef (\w+)')
"""The fixtures that the tests of a file share."""

TESTS = """\
import os, pathlib, pytest, time

@pytest.mark.parametrize("value", ["a", "b@c", "d::e", "f"])
def test_one(value):
    time.sleep(0.05)
    with open(pathlib.Path(__file__).with_suffix(".pids"), "a") as file:
        file.write(f"{os.getpid()}\\n")
"""


def test_a_file_of_a_group_runs_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\n")
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_xdist_make_scheduler\n")
    files = [tmp_path / "tests/guest" / f"test_{number}.py" for number in range(4)]
    files[0].parent.mkdir(parents=True)
    for file in files:
        file.write_text(TESTS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "--dist=loadgroup",
        "tests/guest",
    ]
    done = subprocess.run(
        [*argv, "tests/guest"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n16 passed" in done.stdout
    pids = [file.with_suffix(".pids").read_text().split() for file in files]
    assert [len(set(one)) for one in pids] == [1, 1, 1, 1]
    assert len({pid for one in pids for pid in one}) == 2


def test_a_test_that_shares_nothing_is_its_own_group() -> None:
    assert group("tests/vm/test_library.py::test_x[tests/guest/a]") == "tests/vm/test_library.py::test_x[tests/guest/a]"
    assert group("tests/vm/test_trust.py::test_x[a::b]") == "tests/vm/test_trust.py"


def test_each_file_that_shares_a_fixture_is_named() -> None:
    """Without a group every process would boot the guest, or run the scenarios, that the tests share."""
    shared = set(SHARED.findall((ROOT / "tests/vm/conftest.py").read_text()))
    found = set()
    for path in (ROOT / "tests/vm").glob("test_*.py"):
        text = path.read_text()
        names = shared.union(SHARED.findall(text))
        tests = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        if any(argument.arg in names for test in tests for argument in test.args.args):
            found.add(f"tests/vm/{path.name}")
    assert found == SHARING
