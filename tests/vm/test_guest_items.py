"""tests/guest from the host: a guest that dies is one test's failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from inject.vm.carry import checkout
from tests.support import ROOT

LIMIT = 600
"""Seconds after which the call counts as hung."""

TESTS = """\
import time
from pathlib import Path

def test_before():
    print("seen in the guest")

def test_panics():
    Path("/proc/sysrq-trigger").write_text("c")
    time.sleep(600)

def test_after():
    assert Path("/proc/uptime").exists()

def test_wrong():
    assert 1 == 2
"""


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_a_guest_that_dies_fails_the_test_that_ran(tmp_path: Path) -> None:
    """By name, with the console; the tests before and after it pass, each with a result of its own."""
    for name in checkout.files(ROOT):
        if not (name.parent == Path("tests/guest") and name.name.startswith("test_")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "kernel-config").symlink_to(ROOT / "kernel-config")  # the kernel's key is made from it
    (tmp_path / "tests/guest/test_dying.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=out.xml", "tests/guest"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 1, done.stdout + done.stderr
    cases = {case.get("name"): case for case in ElementTree.parse(tmp_path / "out.xml").getroot().iter("testcase")}
    assert not list(cases["test_before"]), done.stdout
    assert {name: len(case.findall("failure")) for name, case in cases.items()} == {
        "test_before": 0,
        "test_panics": 1,
        "test_after": 0,
        "test_wrong": 1,
    }
    assert {case.get("classname") for case in cases.values()} == {"tests.guest.test_dying"}
    said = str(cases["test_panics"].find("failure").text)  # type: ignore[union-attr]
    assert "lost while tests/guest/test_dying.py::test_panics ran: the guest panicked: sysrq triggered crash" in said
    assert "Kernel panic - not syncing" in said
    assert "assert 1 == 2" in str(cases["test_wrong"].find("failure").text)  # type: ignore[union-attr]
