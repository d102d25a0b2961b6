"""What README and docs/ show of the guest, typed as they show it: one page after the other, in one guest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bench import guest_only

from tests.support import manual

pytestmark = guest_only

LIMIT = 300
"""Seconds after which a command of a page counts as hung."""

PAGES = [page for page in manual.pages() if any(c.runner == manual.GUEST for c in manual.commands(page))]


def parameter(page: Path) -> object:
    """Each is long; what everybody reads first is run each time."""
    return pytest.param(page, marks=[] if page.name == "README.md" else [pytest.mark.slow])


@pytest.mark.parametrize("page", map(parameter, PAGES), ids=[str(page.relative_to(manual.ROOT)) for page in PAGES])
def test_commands_of_the_guest(page: Path, tmp_path: Path) -> None:
    manual.furnish(tmp_path, page)
    environment = {**os.environ, "COLUMNS": "100"}
    for command in manual.commands(page):
        if command.runner == manual.GUEST:
            wrong = manual.run(command, manual.in_guest(command.text), tmp_path, environment, LIMIT)
            assert not wrong, wrong
