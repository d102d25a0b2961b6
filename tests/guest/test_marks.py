"""Marked tasks: a call outside of the function that its path needs is let through without a stack trace.

Two engines look at the same calls, one with marks and one without: they must count the same.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from inject import scenario as scenarios
from inject.engine import abi
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Probe
from inject.model.verdict import Counts
from inject.process.cgroup import Cgroup
from inject.store import cache_root

pytestmark = pytest.mark.test_kernel

TASKS = 60
"""Side by side; each starts another one."""
BOUND = 500
"""Seconds after which a task has failed: an emulated guest beside others takes its time."""
STACKS = (
    ("__x64_sys_getcwd",),
    ("getname_flags", "do_sys_openat2"),
    ("do_sys_openat2", "getname_flags"),
    ("vfs_mkdir",),
    ("kernel_clone",),
    ("!getname_flags", "do_sys_openat2"),
    ("do_exit",),
    ("!getname_flags",),
    ("!getname_flags", "!kernel_clone"),
    ("__x64_sys_exec*",),
)


def planned(kernel: Kernel, types: Types, stacks: Sequence[Sequence[str]], more: str = "contract: ignore") -> Plan:
    """One fault on slab allocations that never fires for each of ``stacks``."""
    lines = "".join(
        f"  - {{function: should_failslab, return: -ENOMEM, {more}, when: {{nth: 1000000000"
        + (f", stack: [{', '.join(map(repr, stack))}]" if stack else "")
        + "}}\n"
        for stack in stacks
    )
    (scenario,) = scenarios.parse(f"faults:\n{lines}run: x\n", "t.yaml", "t")
    return Planner(kernel, types, 1).plan(scenario)


def work(directory: str, number: int) -> None:
    """Allocate in each of STACKS, some of it in functions that never return."""
    signal.alarm(BOUND)
    for turn in range(3):
        Path.cwd()
        Path(directory, "missing").exists()
        Path(directory, f"{number}-{turn}").mkdir()
        Path("/proc/self/status").read_text()
        os.close(os.open(directory, os.O_RDONLY))
    os.posix_spawn("/bin/true", ["true"], {})
    os.wait()


def counted(engines: Sequence[Engine], group: Cgroup, tasks: int) -> list[list[Counts]]:
    """The counts of each of ``engines`` after ``tasks`` processes of ``group`` have worked side by side."""
    go_read, go = os.pipe()
    children = []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(tasks):
            child = os.fork()
            if child == 0:
                os.close(go)
                os.read(go_read, 1)
                work(directory, number)
                os._exit(0)
            children.append(child)
            group.add(child)
        for engine in engines:
            engine.arm(group.id, group.level, float(BOUND))
        os.close(go_read)
        os.close(go)
        ended = [os.waitpid(child, 0)[1] for child in children]
    for engine in engines:
        engine.disarm()
    assert not any(ended)
    return [list(engine.counts()) for engine in engines]


@pytest.mark.parametrize("traced", [False, True], ids=["", "returns-probed"])
def test_a_marked_path_takes_the_same_calls(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe, traced: bool
) -> None:
    """By marks or by stack traces only; a return probe in the same functions changes their return address."""
    plan = planned(kernel, types, STACKS)
    probed = ["__x64_sys_getcwd", "do_sys_openat2", "vfs_mkdir", "kernel_clone", "getname_flags"]
    watch = sorted(symbol.address for name in probed for symbol in kernel.symbols.named(name)) if traced else []
    with Engine(kernel, cache_root() / "bytecode") as plain:
        engine.attach(plan, probe, watch, errnos=False, early=True)
        plain.attach(plan, probe, errnos=False)
        (marked, unmarked) = counted((engine, plain), group, TASKS)
        marks = [one.uses & (abi.USES_INSIDE | abi.USES_FORBIDDEN) for one in engine._probes._constants]
        engine.detach()
    assert all(marks[:-1]) and marks[-1] == 0 and abi.USES_FORBIDDEN in marks  # no room for an eighth group
    for stack, one, other in zip(STACKS, marked, unmarked):
        assert (one.seen, one.matched, one.spared) == (other.seen, other.matched, other.spared), stack
    assert [counts.matched > 0 for counts in marked[:6]] == [True, True, False, True, True, True]
    assert all(counts.matched for counts in marked[7:])  # an exit may allocate nothing


def test_a_task_that_ran_before_is_not_taken_for_outside(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """Without `early` nothing is marked, so a task that is in the function already is found by its stack."""
    engine.attach(planned(kernel, types, [("__x64_sys_getcwd",)]), probe, errnos=False)
    assert not any(one.uses & abi.USES_INSIDE for one in engine._probes._constants)
    ((counts,),) = counted((engine,), group, 1)
    assert counts.matched > 0
    engine.detach()


def test_a_rule_for_any_task_is_not_marked(engine: Engine, kernel: Kernel, types: Types, probe: Probe) -> None:
    """Its tasks run already, and it takes calls from interrupts."""
    plan = planned(kernel, types, [("__x64_sys_getcwd",)], "contract: ignore, scope: any")
    engine.attach(plan, probe, errnos=False, early=True)
    assert not any(one.uses & (abi.USES_INSIDE | abi.USES_FORBIDDEN) for one in engine._probes._constants)
    engine.detach()
