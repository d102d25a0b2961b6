"""The pytest that runs what another one orders: reports as they come, and an end for everything."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional
from unittest import mock

import pytest

from tests.support import ROOT, guest_items
from tests.support.guest_items import Server, Stopped

LIMIT = 120.0
"""Seconds after which a test counts as hung here."""

PLACE = "tests/guest/test_one.py"
TESTS = """\
import os, pytest

@pytest.fixture(scope="session")
def whole():
    yield
    print("the session ends")

@pytest.fixture(scope="module")
def shared(whole):
    yield
    print("the module ends")

def test_passes(shared):
    print("seen")

@pytest.mark.parametrize("value", [1, 2])
def test_fails(shared, value):
    assert value == 3

def test_skips(shared):
    pytest.skip("no reason")

def test_dies(shared):
    os._exit(7)

def test_hangs(shared):
    import time
    time.sleep(600)
"""


class Local:
    """This machine in place of a guest: what Server uses of one, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.requests = self
        self.status: Optional[int] = None
        self._folder = folder

    def start(self, argv: Sequence[str], *, on_stdout: Any, env: Mapping[str, str], **_: Any) -> Local:
        environment = {**os.environ, **env, "PYTHONPATH": str(ROOT)}
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._hear = on_stdout
        self._process = subprocess.Popen(
            argv,
            cwd=self._folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def feed(self, _command: Local, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def end_input(self, _command: Local) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self, _command: Local, seconds: float) -> int:
        return self._process.wait(seconds)

    def step(self) -> None:
        assert self._process.stdout is not None
        if select.select([self._process.stdout], [], [], 0.1)[0]:
            data = os.read(self._process.stdout.fileno(), 65536)
            self._hear(data)
            self.status = None if data else self._process.wait(LIMIT)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A pytest that waits for orders, with the tests above."""
    tests = tmp_path / "tests" / "guest"
    tests.mkdir(parents=True)
    (tests / "test_one.py").write_text(TESTS)
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\n")
    local = Local(tmp_path)

    @contextlib.contextmanager
    def boot(*_: Any, **__: Any) -> Iterator[Local]:
        try:
            yield local
        finally:
            local.end()

    monkeypatch.setattr(guest_items, "boot", boot)
    monkeypatch.setattr(guest_items, "programs", mock.MagicMock())
    made = Server(mock.MagicMock(), "test", home=str(tmp_path))
    made.start()
    yield made
    made.close(interrupted=True)


def told(server: Server, name: str, following: Optional[str] = "test_hangs") -> list[tuple[str, str, str]]:
    """Phase, outcome and captured output of each report."""
    nodeid, after = f"{PLACE}::{name}", f"{PLACE}::{following}" if following else None
    reports = list(server.run(nodeid, after, LIMIT))
    assert {report["nodeid"] for report in reports} <= {nodeid}
    return [(report["when"], report["outcome"], "".join(text for _, text in report["sections"])) for report in reports]


def test_each_test_has_its_reports(server: Server) -> None:
    """In the order of the orders; fixtures end when the following test does not use them."""
    assert told(server, "test_fails[2]") == [
        ("setup", "passed", ""),
        ("call", "failed", ""),
        ("teardown", "passed", ""),
    ]
    assert told(server, "test_passes") == [
        ("setup", "passed", ""),
        ("call", "passed", "seen\n"),
        ("teardown", "passed", "seen\n"),
    ]
    assert [outcome for _, outcome, _ in told(server, "test_skips")] == ["passed", "skipped", "passed"]
    assert told(server, "test_absent") == []
    last = told(server, "test_passes", following=None)
    assert "the module ends" in last[-1][2] and "the session ends" in last[-1][2]


def test_a_report_is_whole_on_this_side(server: Server, pytestconfig: pytest.Config) -> None:
    _, call, _ = server.run(f"{PLACE}::test_fails[1]", None, LIMIT)
    report = pytestconfig.hook.pytest_report_from_serializable(config=pytestconfig, data=call)
    assert "assert 1 == 3" in report.longreprtext and report.failed


def test_a_pytest_that_dies_is_said(server: Server) -> None:
    reports = server.run(f"{PLACE}::test_dies", None, LIMIT)
    assert next(reports)["when"] == "setup"
    with pytest.raises(Stopped, match="ended with 7"):
        next(reports)


def test_a_test_that_hangs_is_said(server: Server) -> None:
    reports = server.run(f"{PLACE}::test_hangs", None, 1.0)
    assert next(reports)["when"] == "setup"
    with pytest.raises(Stopped, match="did not end within 1 s"):
        next(reports)


class Item:
    """What GuestItems uses of a test."""

    def __init__(self, name: str, *marks: str) -> None:
        self.nodeid, self.location, self.ihook = name, ("", 0, ""), mock.MagicMock()
        self.path = ROOT / "tests/guest/test_one.py"
        self._marks = marks

    def get_closest_marker(self, name: str) -> Optional[str]:
        return name if name in self._marks else None


@pytest.mark.parametrize(
    ("forced", "said"),
    [
        ("", ["boot stock", "a before b", "b before None", "end stock"]
         + ["boot test", "c before d", "d before None", "end test"]),
        ("debug", ["boot debug", "a before b", "b before c", "c before d", "d before None", "end debug"]),
    ],
)  # fmt: skip
def test_each_test_gets_the_kernel_that_it_needs(forced: str, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest ends with the last of its tests, and the next kernel boots for the next one."""
    happened: list[str] = []

    class Fake:
        def __init__(self, made: str, flavour: str) -> None:
            self.flavour = flavour
            assert made == f"made of {flavour}"

        def start(self) -> None:
            happened.append(f"boot {self.flavour}")

        def run(self, nodeid: str, following: Optional[str], limit: float) -> Iterator[dict[str, Any]]:
            happened.append(f"{nodeid} before {following}")
            return iter(())

        def close(self, *, interrupted: bool) -> None:
            happened.append(f"end {self.flavour}")

    monkeypatch.setattr(guest_items, "KERNEL", forced)
    monkeypatch.setattr(guest_items, "artifacts", lambda flavour: f"made of {flavour}")
    monkeypatch.setattr(guest_items, "Server", Fake)
    runner = guest_items.GuestItems()
    items = [Item("a"), Item("b"), Item("c", "test_kernel"), Item("d", "test_kernel"), None]
    for one, following in zip(items, items[1:]):
        runner.protocol(one, following)  # type: ignore[arg-type]
    assert happened == said
