"""pytest in the guest that runs the tests that the host names, one after the other.

``-p tests.support.guest_server`` takes orders at descriptor 4 and reports at descriptor 3, each a
line of JSON. ``{"ready": COUNT}`` says that it takes orders. An order is ``{"run": ID, "next": ID}``,
the latter null for the last test; the answer is a ``{"report": ...}`` for each phase of that test,
then ``{"done": ID}``. The end of the orders is the end of the session.
tests/support/guest_items.py is the other side.
"""

from __future__ import annotations

import json
import os
from typing import Any, Optional

import pytest

ORDERS, REPORTS = 4, 3

COMMAND = f'exec {REPORTS}>&1 1>&2 {ORDERS}<&0 0</dev/null; exec python3 -m pytest -p tests.support.guest_server "$@"'
"""Shell text: orders come in on standard input, reports go to standard output, all other output to standard error."""


class Server:
    """The loop over orders, in place of the loop over all tests."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        os.set_inheritable(ORDERS, False)
        os.set_inheritable(REPORTS, False)
        self._orders = os.fdopen(ORDERS)
        self._reports = os.fdopen(REPORTS, "w")

    def _say(self, **what: Any) -> None:
        self._reports.write(json.dumps(what) + "\n")
        self._reports.flush()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Optional[bool]:
        """Run what is ordered; a test that is not collected here answers with no report."""
        if session.testsfailed:
            return None  # pytest's own loop tells what it could not collect, and ends
        self._say(ready=len(session.items))
        items = {item.nodeid: item for item in session.items}
        for line in self._orders:
            order = json.loads(line)
            item = items.get(order["run"])
            if item is not None:
                following = items.get(order["next"]) if order["next"] else None
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            self._say(done=order["run"])
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Each phase of a test is told at once."""
        self._say(report=self._config.hook.pytest_report_to_serializable(config=self._config, report=report))


def pytest_configure(config: pytest.Config) -> None:
    """Take the descriptors while they are there."""
    config.pluginmanager.register(Server(config), "guest-server")
