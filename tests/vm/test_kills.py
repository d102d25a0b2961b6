"""`inject vm run`, killed at some of its system calls in turn, leaves nothing, and a sweep loses no trial.

`make kills` takes all calls, `make sweep-kills` more kills.
"""

from __future__ import annotations

import pytest

from inject.vm.build.artifacts import Artifacts
from tests.kills.choice import spread
from tests.kills.onhost import kill
from tests.kills.sweeps import kill_sweeps

STEPS = 16
SWEEP_KILLS = 3


@pytest.mark.slow
def test_killed_at_a_system_call(artifacts: Artifacts) -> None:
    said: list[str] = []
    result = kill(lambda calls: spread(calls, STEPS), 900, said.append)
    assert result.steps and not result.stayed, "\n".join(said)


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_sweeps_killed_at_random_moments() -> None:
    """`make sweep-kills` kills more often; the moments are random, the seed is not."""
    said: list[str] = []
    found = kill_sweeps(SWEEP_KILLS, 900, 20261127, said.append)
    assert not found.wrong, "\n".join([*said, *found.wrong])
    assert found.sweeps and found.inject + found.qemu
