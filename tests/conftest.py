"""What all tests share: in CI a skipped test is an error, Ctrl-C is heard, and root's rights can be given up."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.groups import group


def pytest_configure() -> None:
    """A shell without job control ignores SIGINT in what it starts in the background, nohup(1) ignores SIGHUP.

    Children inherit that, and inject leaves a signal ignored that was. A handler is not inherited.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist=loadgroup`` tests that share something go to one process (tests/support/groups.py)."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Grouped(LoadScopeScheduling):
        _split_scope = staticmethod(group)

    return Grouped(config, log)


@pytest.fixture
def powerless() -> Iterator[Path]:
    """A directory, and no rights while the test runs, because root may read everything."""
    uid = os.geteuid()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        if uid == 0:
            os.seteuid(65534)
        try:
            yield Path(directory)
        finally:
            os.seteuid(uid)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """With INJECT_NO_SKIP set a skip counts as a failure that names its reason."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("INJECT_NO_SKIP") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
