"""inject, killed at some of its system calls in turn, leaves nothing; `make kills` takes all of them."""

from __future__ import annotations

import pytest

from tests.kills.choice import spread
from tests.kills.inguest import KINDS, kill
from tests.support.workbench import guest_only

pytestmark = [guest_only, pytest.mark.slow, pytest.mark.test_kernel]

STEPS = 12
LIMIT = 1500.0
"""Seconds after which no more are killed; a busy machine takes 15 for one."""


@pytest.mark.limit(LIMIT + 600)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_a_system_call(kind: str) -> None:
    said: list[str] = []
    result = kill(kind, lambda calls: spread(calls, STEPS), LIMIT, said.append)
    assert result.steps and not result.stayed, "\n".join(said)
