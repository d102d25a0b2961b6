"""What a call costs is a promise: counted in instructions, it is the same on every machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inject.vm.boot import Boot
from inject.vm.carry import programs
from inject.vm.guest import GuestOptions
from tests.bench.table import STOCK, cost_goals
from tests.support import guest_items

MEASURE = "cd /run/inject && PYTHONPATH=/run/inject exec python3 -m tests.bench.measure --only umask"


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [pytest.param("test", marks=pytest.mark.test_kernel), STOCK])
def test_the_cost_of_a_call_keeps_its_goals(kernel: str, cache_root: Path) -> None:
    out, err = bytearray(), bytearray()
    artifacts = guest_items.artifacts(kernel)
    with Boot(artifacts, GuestOptions(flavour=kernel, icount=0, cpus=1)) as guest:
        programs.push(guest, programs.directory(cache_root, artifacts))
        command = ["sh", "-c", f"{MEASURE} --kernel {kernel}"]
        status = guest.requests.exec(command, on_stdout=out.extend, on_stderr=err.extend, timeout=900)
    assert status == 0, err.decode()
    lines = [json.loads(line) for line in out.decode().splitlines()]
    assert [goal for goal in cost_goals(lines, kernel) if not goal.met] == []
