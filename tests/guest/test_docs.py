"""What README and docs/ show of the guest, typed as they show it: one page after the other, in one guest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import ROOT, manual
from tests.support.workbench import guest_only

pytestmark = [guest_only, pytest.mark.test_kernel]

LIMIT = 300
"""Seconds after which a command of a page counts as hung."""

PAGES = [page for page in manual.pages() if any(c.runner == manual.GUEST for c in manual.commands(page))]


def parameter(page: Path) -> object:
    """README is run each time, the other pages are slow."""
    name = str(page.relative_to(ROOT))
    return pytest.param(page, id=name, marks=[] if name == "README.md" else [pytest.mark.slow])


@pytest.mark.parametrize("page", [parameter(page) for page in PAGES])
def test_commands_of_the_guest(page: Path, tmp_path: Path) -> None:
    manual.furnish(tmp_path, page)
    environment = {**os.environ, "COLUMNS": "100"}
    for command in manual.commands(page):
        if command.runner == manual.GUEST:
            wrong = manual.run(command, manual.in_guest(command.text), tmp_path, environment, LIMIT)
            assert not wrong, wrong
