"""The tests of tests/guest as tests of the host's pytest: collected on the host, run in a guest.

A guest is booted for the first of them, and one pytest in it (guest_server.py) runs all that follow.
When the guest or that pytest is lost, the test that ran fails and says so, and the next one
gets a new guest. A test that is marked ``test_kernel`` gets a guest of the test kernel, any other
one of Debian's; INJECT_KERNEL names one kernel for all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from inject import store
from inject.errors import GuestLost, InjectError
from inject.fleet.host import Command, Patience
from inject.vm import kernels, qemu
from inject.vm.boot import boot
from inject.vm.build.artifacts import Artifacts, build, missing
from inject.vm.carry import checkout, programs
from inject.vm.guest import Guest, GuestOptions
from tests.support import ROOT
from tests.support.guest_server import COMMAND

KERNEL = os.environ.get("INJECT_KERNEL", "")
"""Flavour of the kernel that all tests of tests/guest get; "": what each of them needs."""

LIMIT = 900.0
"""Seconds after which a test counts as hung; ``@pytest.mark.limit(seconds)`` sets another one."""

START = 300.0
"""Seconds for pytest in the guest to collect its tests."""

SHOWN = 8_000
"""Characters of what pytest in a lost guest printed last."""

TRIES = 2
"""Guests in a row that may fail to boot before no more are tried."""

PASSED_ON = ("INJECT_SAMPLE", "INJECT_CALLS", "INJECT_SEARCH", "INJECT_CYCLES")


def artifacts(flavour: str) -> Artifacts:
    """The kernel and image that `inject vm build` made; without them the test is skipped, or fails in CI."""
    for program in (qemu.BINARY, qemu.IMAGE_TOOL):
        if shutil.which(program) is None:
            _absent(f"{program} is not installed")
    lacking = missing(flavour)
    if lacking and lacking != ["module"]:
        _absent(f"no {flavour} kernel and image yet: run `inject vm build --kernel {flavour}`")
    return build(flavour)  # at once, or inject's module in seconds, whose source has just been changed


def _absent(reason: str) -> None:
    if os.environ.get("INJECT_NO_SKIP"):
        pytest.fail(f"{reason}, and INJECT_NO_SKIP is set", pytrace=False)
    pytest.skip(reason)


class Stopped(Exception):
    """pytest in the guest ended or hung while the guest lives."""


class Server:
    """pytest in one guest, and what it says."""

    def __init__(self, made: Artifacts, flavour: str, home: str = checkout.HOME) -> None:
        self.flavour = flavour
        self._artifacts = made
        self._home = home
        self._kept = programs.directory(store.cache_root(), made)
        self._open = contextlib.ExitStack()
        self._rest = b""
        self._said: list[dict[str, Any]] = []
        self._printed = bytearray()
        self._guest: Optional[Guest] = None
        self._command: Optional[Command] = None

    def start(self) -> None:
        """Boot the guest and wait until its pytest has collected; raises GuestLost, Stopped or InjectError."""
        try:
            self._start()
            self._next("pytest did not start", Patience(START))
        except BaseException:
            self._open.close()
            raise

    def _start(self) -> None:
        consoles = os.environ.get("INJECT_CONSOLES")
        options = GuestOptions(flavour=self.flavour, consoles=Path(consoles) if consoles else None)
        self._guest = self._open.enter_context(boot(self._artifacts, options, cache=store.cache_root()))
        programs.push(self._guest, self._kept)
        home = self._home
        words = ["-q", "-p", "no:cacheprovider", f"--rootdir={home}", "-c", f"{home}/setup.cfg", f"{home}/tests/guest"]
        env = {"PYTHONPATH": home, "INJECT_NO_SKIP": "1"}
        env.update({name: os.environ[name] for name in PASSED_ON if name in os.environ})
        self._command = self._guest.requests.start(
            ["sh", "-c", COMMAND, "sh", *words],
            env=env,
            cwd=home,
            stdin=True,
            on_stdout=self._hear,
            on_stderr=self._printed.extend,
        )

    def close(self, *, interrupted: bool) -> None:
        """End the guest, and before that its pytest unless ``interrupted``."""
        with self._open:
            assert self._guest is not None and self._command is not None
            if not interrupted:
                self._guest.requests.end_input(self._command)
                self._guest.requests.wait(self._command, START)

    def _hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._said += [json.loads(line) for line in lines]

    def run(self, nodeid: str, following: Optional[str], limit: float) -> Iterator[dict[str, Any]]:
        """The test's reports as they come; raises Stopped or GuestLost if they do not."""
        assert self._guest is not None and self._command is not None
        order = json.dumps({"run": nodeid, "next": following})
        self._guest.requests.feed(self._command, order.encode() + b"\n")
        patience = Patience(limit)
        while "report" in (message := self._next("the test did not end", patience)):
            yield message["report"]

    def _next(self, otherwise: str, patience: Patience) -> dict[str, Any]:
        assert self._guest is not None and self._command is not None
        while not self._said:
            printed = f"; it printed:\n{self._printed.decode(errors='replace')[-SHOWN:]}"
            if self._command.status is not None:
                raise Stopped(f"pytest in the guest ended with {self._command.status}{printed}")
            if patience.over():
                raise Stopped(f"{otherwise} within {patience.limit:g} s{printed}")
            self._guest.step()
        return self._said.pop(0)


class GuestItems:
    """What runs the tests of tests/guest for one process of the host's pytest."""

    def __init__(self) -> None:
        self._server: Optional[Server] = None
        self._failed = 0

    def protocol(self, item: pytest.Item, following: Optional[pytest.Item]) -> None:
        """Run ``item`` in the guest and log its reports; the guest ends with the last of the tests that it can run."""
        flavour = kernel_of(item)
        last = following is None or not own(following) or kernel_of(following) != flavour
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        call = pytest.CallInfo.from_call(
            lambda: self._ready(flavour), "setup", reraise=(KeyboardInterrupt, pytest.exit.Exception)
        )
        if call.excinfo is not None:
            item.ihook.pytest_runtest_logreport(report=item.ihook.pytest_runtest_makereport(item=item, call=call))
        else:
            for report in self._reports(item, None if last else following):
                item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _ready(self, flavour: str) -> None:
        """Have a server with that kernel; raises what pytest makes a skip or an error of."""
        if self._server is not None and self._server.flavour == flavour:
            return
        self.close(interrupted=True)
        made = artifacts(flavour)
        if self._failed >= TRIES:
            pytest.fail(f"{TRIES} guests in a row did not boot", pytrace=False)
        self._failed += 1
        try:
            server = Server(made, flavour)
            server.start()
            self._server = server
        except (GuestLost, Stopped, InjectError) as error:
            pytest.fail(f"no guest for this test: {error}", pytrace=False)
        self._failed = 0

    def _reports(self, item: pytest.Item, following: Optional[pytest.Item]) -> Iterator[pytest.TestReport]:
        assert self._server is not None
        marker = item.get_closest_marker("limit")
        limit = marker.args[0] if marker else LIMIT
        when = "setup"
        try:
            for data in self._server.run(item.nodeid, following.nodeid if following else None, limit):
                report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
                when = report.when
                yield report
            if following is None:
                self.close()
            said = "" if when == "teardown" else f"{item.nodeid} is not among the tests that the guest collected"
        except (GuestLost, Stopped, InjectError) as error:
            console = getattr(error, "console", "")
            said = f"lost while {item.nodeid} ran: {error}\n{console}"
            self.close(interrupted=True)
        except BaseException:
            self.close(interrupted=True)
            raise
        if said:
            yield pytest.TestReport(item.nodeid, item.location, {}, "failed", said, "call")

    def close(self, *, interrupted: bool = False) -> None:
        """End the guest, if there is one; ``interrupted``: without asking its pytest to end."""
        server, self._server = self._server, None
        if server is not None:
            server.close(interrupted=interrupted)


def kernel_of(item: pytest.Item) -> str:
    """Flavour of the kernel that a test of tests/guest gets."""
    return KERNEL or (kernels.BUILT if item.get_closest_marker("test_kernel") else kernels.DEFAULT)


def own(item: pytest.Item) -> bool:
    """True for a test of tests/guest."""
    return (ROOT / "tests/guest") in item.path.parents
