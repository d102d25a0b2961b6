"""What a call costs is a promise: counted in instructions, it is the same on every machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from inject.vm.boot import Boot
from inject.vm.build.artifacts import Artifacts
from inject.vm.carry import programs
from tests.bench.table import cost_goals

MEASURE = "cd /run/inject && PYTHONPATH=/run/inject exec python3 -m tests.bench.measure --only umask"


@pytest.mark.slow
def test_the_cost_of_a_call_keeps_its_goals(
    artifacts: Artifacts, cache_root: Path, new_guest: Callable[..., Boot]
) -> None:
    out, err = bytearray(), bytearray()
    with new_guest(icount=0, cpus=1) as guest:
        programs.push(guest, programs.directory(cache_root, artifacts))
        status = guest.requests.exec(["sh", "-c", MEASURE], on_stdout=out.extend, on_stderr=err.extend, timeout=600)
    assert status == 0, err.decode()
    lines = [json.loads(line) for line in out.decode().splitlines()]
    assert [goal for goal in cost_goals(lines) if not goal.met] == []
