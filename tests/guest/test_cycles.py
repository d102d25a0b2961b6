"""Attach, arm and detach again and again under load, by the ways of inject's module, and unload it at the end."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from inject.engine.engine import Engine
from inject.kernel.kernel import Kernel
from inject.kernel.log import LogReader
from inject.kernel.types import Types
from inject.model.scenario import Probe
from inject.module.load import load
from inject.module.source import find
from inject.oracles.dmesg import find_splats
from inject.process.cgroup import Cgroup
from inject.store import cache_root
from tests.guest.test_override import plan
from tests.support.waiting import wait_for
from tests.support.workbench import guest_only, unloaded

pytestmark = [guest_only, pytest.mark.slow]

CYCLES = int(os.environ.get("INJECT_CYCLES", "40"))
"""Of attaching, arming and detaching, for each way; `make cycles` does 1,000."""
LIMIT = 600 + 4 * CYCLES
"""Seconds for each way; a cycle takes one on a free CPU."""
ARMED = 0.002
"""Seconds in each cycle in which calls can fail."""
LOAD = "while :; do ln -s x $0 2>/dev/null; rm $0 2>/dev/null; stat $0 >/dev/null 2>&1; done"
FAULTS = (
    "{function: shmem_symlink, return: -EIO, when: {every: 2}}, {function: vfs_statx, return: -EIO, when: {every: 3}}"
)
SHOWN = (
    "sys/kernel/debug/kprobes/list",
    "sys/kernel/debug/error_injection/list",
    "sys/kernel/tracing/enabled_functions",
    "sys/kernel/tracing/available_filter_functions",
    "sys/kernel/tracing/kprobe_events",
    "proc/modules",
)
"""Files that must be the same before and after, as far as the kernel has them."""
TAINTED = Path("/proc/sys/kernel/tainted")


def shown() -> dict[str, str]:
    """What these files say; users of modules come and go."""
    found = {name: Path("/", name).read_text() if Path("/", name).exists() else "" for name in SHOWN}
    found["proc/modules"] = " ".join(sorted(line.split()[0] for line in found["proc/modules"].splitlines()))
    return found


@pytest.mark.limit(LIMIT)
@pytest.mark.parametrize("probe", [Probe.KFUNC, Probe.MODULE], ids=lambda probe: probe.value)
def test_cycles_under_load(kernel: Kernel, types: Types, group: Cgroup, probe: Probe) -> None:
    """While a loop on each CPU calls the functions: no splat, some calls fail, and all is as it was."""
    path = find(kernel)
    assert path is not None
    before, injected = shown(), 0
    cpus = sorted(os.sched_getaffinity(0))
    with LogReader() as log:
        load(kernel, path)
        loops = [subprocess.Popen(["taskset", "-c", str(cpu), "sh", "-c", LOAD, f"/tmp/load{cpu}"]) for cpu in cpus]
        try:
            for loop in loops:
                group.add(loop.pid)
            with Engine(kernel, cache_root() / "bytecode") as engine:
                made = plan(kernel, types, FAULTS)
                for _ in range(CYCLES):
                    engine.attach(made, probe)
                    engine.arm(group.id, group.level, 60.0)
                    time.sleep(ARMED)
                    counts = engine.counts()
                    engine.disarm()
                    injected += sum(one.injected for one in counts)
                    engine.detach()
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
        assert wait_for(unloaded, "the module is unloaded")
        assert find_splats(log.read()) == []
    assert shown() == before
    assert injected or CYCLES < 1000, "the loops ran while it was armed"
    release, taint = kernel.release, TAINTED.read_text().strip()
    print(
        f"{release}: {CYCLES} cycles by {probe.value} beside {len(cpus)} loops, {injected} calls failed: no splat,"
        f" {len(SHOWN)} files as before, module unloaded, taint {taint}"
    )
