"""Groups of tests that one process of several (pytest-xdist) runs.

pytest-xdist 3.8 carries the name of a group in `Item._nodeid`, an attribute that pytest 9.2 no longer
reads: its own groups are lost there, without a word. The scheduler of tests/conftest.py needs none.
"""

from __future__ import annotations

_NAMES = ("endings", "exec", "remains", "stock", "template", "trust", "verdicts")
SHARING = frozenset(f"tests/vm/test_{name}.py" for name in _NAMES)
"""Files of tests/vm whose tests share a guest or the verdicts of one run."""


def group(nodeid: str) -> str:
    """The file, for tests that share something of it; the id of any other test."""
    file = nodeid.partition("::")[0]
    return file if file in SHARING or file.startswith("tests/guest/") else nodeid
