"""A stack trace that the program makes along the frame pointers is the one that the kernel's unwinder makes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inject import scenario as scenarios
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Probe
from inject.process.cgroup import Cgroup
from inject.store import cache_root

CALL = "{function: __x64_sys_getcwd, return: -ENOMEM}"
BELOW = "{function: should_failslab, return: -ENOMEM, contract: ignore, when: {nth: 1, stack: [__x64_sys_getcwd]}}"


pytestmark = [pytest.mark.usefixtures("overrider"), pytest.mark.test_kernel]


def planned(kernel: Kernel, types: Types, fault: str) -> Plan:
    """A plan with one fault."""
    (scenario,) = scenarios.parse(f"faults: [{fault}]\nrun: x\n", "t.yaml", "t")
    return Planner(kernel, types, 1).plan(scenario)


def stack_of(engine: Engine, group: Cgroup) -> tuple[str, ...]:
    """The stack of the injection into a process that asks for its directory."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        try:
            Path.cwd()
        finally:
            os._exit(0)
    group.add(child)
    engine.arm(group.id, group.level, 60.0)
    os.write(write, b"x")
    os.waitpid(child, 0)
    engine.disarm()
    os.close(read)
    os.close(write)
    (event,) = engine.poll(0)
    return event.stack


@pytest.mark.parametrize(
    ("fault", "traced"), [(CALL, False), (BELOW, False), (BELOW, True)], ids=["event", "path", "returns-probed"]
)
def test_frames_are_those_of_the_unwinder(
    kernel: Kernel, types: Types, group: Cgroup, probe: Probe, fault: str, traced: bool
) -> None:
    """With a return probe on the way it is the kernel's, which knows the address that the probe has replaced.

    The program reads the stack by loads of its own, or by a helper where the kernel lets it not.
    """
    assert kernel.config.has("CONFIG_UNWINDER_FRAME_POINTER")
    watch = [symbol.address for symbol in kernel.symbols.named("__x64_sys_getcwd")] if traced else []
    found = []
    plan = planned(kernel, types, fault)
    assert plan.rules[0].cast is not None
    for by_frames, by_loads in ((True, True), (True, False), (False, True), (False, False)):
        with Engine(kernel, cache_root() / "bytecode") as engine:
            loader = engine._probes._loader
            assert loader._frames and loader._compiles
            if not by_frames:
                loader.__dict__["_frames"] = 0
            loader.__dict__["_compiles"] = by_loads
            engine.attach(plan, probe, watch, errnos=False)
            found.append(stack_of(engine, group))
    assert len(set(found)) == 1
    names = [frame.partition("+")[0] for frame in found[0]]
    assert names[0] == ("should_failslab" if fault is BELOW else "__x64_sys_getcwd")
    assert names[-2:] == ["do_syscall_64", "entry_SYSCALL_64_after_hwframe"]
    assert "__x64_sys_getcwd" in names and len(names) == len(set(names))
