"""What all tests share: in CI a skipped test is an error, and Ctrl-C is heard."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest


def pytest_configure() -> None:
    """A shell without job control starts what runs in the background with SIGINT ignored, and children inherit that."""
    _never_by_the_clock()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _never_by_the_clock() -> None:
    """A loaded machine is no finding: no example of hypothesis has a deadline."""
    try:
        import hypothesis
    except ImportError:
        return
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("inject", deadline=None, database=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("inject")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """With INJECT_NO_SKIP set a skip counts as a failure that names its reason."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("INJECT_NO_SKIP") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
