"""`inject vm run`, killed at some of its system calls in turn, leaves nothing; `make kills` takes all of them."""

from __future__ import annotations

import pytest

from inject.vm.build.artifacts import Artifacts
from tests.kills.choice import spread
from tests.kills.onhost import kill

STEPS = 16


@pytest.mark.slow
def test_killed_at_a_system_call(artifacts: Artifacts) -> None:
    said: list[str] = []
    result = kill(lambda calls: spread(calls, STEPS), 900, said.append)
    assert result.steps and not result.stayed, "\n".join(said)
