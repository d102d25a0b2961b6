"""Exact under load: very many calls by eight tasks on all CPUs, counted by the callers and by perf as well."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import struct
import time
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Callable

import pytest

from inject import scenario as scenarios
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import Injection
from inject.model.scenario import Probe
from inject.model.verdict import Counts
from inject.process.cgroup import Cgroup
from tests.support.rule_model import Selector

pytestmark = pytest.mark.test_kernel

CALLS = int(os.environ.get("INJECT_CALLS", "200000"))
"""Of all tasks and functions together, for each kind of probe; `make load` makes a million."""
TASKS = 8
CHUNK = 500
BOUND = 600.0
"""Seconds after which a wait has failed."""

NAMES = ("getppid", "getuid", "geteuid", "getgid", "getegid")
"""System calls that Python makes one after the other in a loop in C, and that give -1 when they fail."""
CALL: Mapping[str, Callable[[], int]] = {name: getattr(os, name) for name in NAMES}
EACH = CALLS // len(NAMES) // TASKS // CHUNK * CHUNK
"""Calls of one function by one task."""
OF_ONE = EACH * TASKS
"""Calls of one function by all tasks."""
WHEN = {
    "getppid": f"{{times: {OF_ONE // 200}}}",
    "getuid": f"{{nth: {OF_ONE * 7 // 18}}}",
    "geteuid": "{every: 7}",
    "getgid": f"{{after: {OF_ONE - OF_ONE // 40}, times: {OF_ONE // 50}}}",
    "getegid": "{probability: 0.01}",
}
EXPECTED = {"getppid": OF_ONE // 200, "getuid": 1, "geteuid": OF_ONE // 7, "getgid": OF_ONE // 50}
"""Injections, by arithmetic."""
MODELLED = 5000
"""Ordinals whose luck is drawn in Python, too, which takes a second in an emulated guest."""


# ---------------------------------------------------------------- counters of the kernel's own

PERF_EVENT_OPEN = 298
"""arch/x86/entry/syscalls/syscall_64.tbl"""
TRACEPOINT = 2
"""PERF_TYPE_TRACEPOINT (include/uapi/linux/perf_event.h)"""
SET_FILTER = 0x40082406
"""PERF_EVENT_IOC_SET_FILTER"""


class Failures:
    """How often system call ``name`` failed, for any task: perf counts its tracepoint, one counter for each CPU."""

    def __init__(self, name: str) -> None:
        number = int(Path(f"/sys/kernel/tracing/events/syscalls/sys_exit_{name}/id").read_text())
        attributes = ctypes.create_string_buffer(struct.pack("<IIQQQQQIIQ", TRACEPOINT, 64, number, *[0] * 7), 64)
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptors = []
        for cpu in range(os.cpu_count() or 1):
            descriptor = libc.syscall(PERF_EVENT_OPEN, attributes, -1, cpu, -1, 0)
            assert descriptor >= 0, os.strerror(ctypes.get_errno())
            self._descriptors.append(descriptor)
            fcntl.ioctl(descriptor, SET_FILTER, ctypes.create_string_buffer(b"ret < 0"))

    def count(self) -> int:
        """Since it was made."""
        return sum(struct.unpack("<Q", os.read(descriptor, 8))[0] for descriptor in self._descriptors)

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)


# ---------------------------------------------------------------- the tasks


def calling(group: Cgroup, cpu: int, names: list[str], each: int) -> tuple[int, int, int]:
    """A process in ``group`` that waits for a byte, makes its calls and says how many failed: pid and two pipes."""
    go_read, go = os.pipe()
    answer, answer_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {cpu})
        os.read(go_read, 1)
        failed: Counter[str] = Counter()
        for _ in range(each // CHUNK):
            for name in names:
                failed[name] += Counter(islice(iter(CALL[name], None), CHUNK))[-1]
        os.write(answer_write, json.dumps(failed).encode())
        os._exit(0)
    os.close(go_read)
    os.close(answer_write)
    group.add(pid)
    return pid, go, answer


def storm(
    engine: Engine, group: Cgroup, names: list[str], each: int, budget: int = 0
) -> tuple[Counter[str], list[Injection]]:
    """Armed, let all tasks call at once: failures as the tasks saw them, and the injections that were told."""
    tasks = [calling(group, number % (os.cpu_count() or 1), names, each) for number in range(TASKS)]
    engine.arm(group.id, group.level, BOUND, budget)
    for _, go, _ in tasks:
        os.write(go, b"x")
    told: list[Injection] = []
    seen: Counter[str] = Counter()
    deadline = time.monotonic() + BOUND
    for pid, go, answer in tasks:
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            assert time.monotonic() < deadline
            told += engine.poll(20)
        seen.update(json.loads(os.read(answer, 4096)))
        os.close(go)
        os.close(answer)
    engine.disarm()
    return seen, told + engine.poll(0)


def attach(
    engine: Engine, kernel: Kernel, types: Types, when: Mapping[str, str], probe: Probe, seed: int = 1
) -> list[Selector]:
    """One fault for each function; their triggers for the model."""
    lines = "".join(f"  - {{function: __x64_sys_{n}, return: -EPERM, when: {w}}}\n" for n, w in when.items())
    (scenario,) = scenarios.parse(f"faults:\n{lines}run: x\n", "t.yaml", "t")
    plan = Planner(kernel, types, seed).plan(scenario)
    engine.attach(plan, probe)
    assert set(engine.used) == {probe}
    return [Selector.of(rule) for rule in plan.rules]


def lucky(trigger: Selector) -> list[int]:
    """Ordinals, as the model draws them, of the first MODELLED calls."""
    return [ordinal for ordinal in range(1, MODELLED + 1) if trigger.wants(ordinal)]


@pytest.mark.slow
def test_every_call_is_counted_to_the_unit(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """times, nth, every, after and probability at once; then all of them under one budget."""
    triggers = attach(engine, kernel, types, WHEN, probe)
    names = list(NAMES)
    with contextlib.ExitStack() as stack:
        perf = {name: Failures(name) for name in names}
        for counter in perf.values():
            stack.callback(counter.close)
        seen, told = storm(engine, group, names, EACH)
        by_name = dict(zip(names, engine.counts()))
        for name, counts in by_name.items():
            assert (counts.seen, counts.matched) == (OF_ONE, OF_ONE), name
            assert counts.injected == seen[name] == perf[name].count(), name
            assert sum(event.function.endswith(f"_{name}") for event in told) + counts.lost == counts.injected
            if name != "getegid":
                assert counts.injected == EXPECTED[name], name
        if not by_name["getegid"].lost:
            drawn = sorted(event.ordinal for event in told if event.fault == names.index("getegid"))
            assert [ordinal for ordinal in drawn if ordinal <= MODELLED] == lucky(triggers[names.index("getegid")])

        before = {name: counter.count() for name, counter in perf.items()}
        seen, _ = storm(engine, group, names, 1000, budget=777)
        spent: tuple[Counts, ...] = engine.counts()
        assert sum(counts.injected for counts in spent) == sum(seen.values()) == 777
        assert {name: counter.count() - before[name] for name, counter in perf.items()} == {
            name: seen[name] for name in names
        }
        assert engine.refused(777) > 0
    engine.detach()


@pytest.mark.slow
def test_one_in_a_hundred_of_a_hundred_thousand(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """As many as chance says, and with the same seed the same ones again, in any order of the tasks."""
    fired: list[list[int]] = []
    for _ in range(2):
        (trigger,) = attach(engine, kernel, types, {"getuid": "{probability: 0.01}"}, probe, 7)
        seen, told = storm(engine, group, ["getuid"], 100_000 // TASKS)
        (counts,) = engine.counts()
        assert (counts.matched, counts.injected, counts.lost) == (100_000, seen["getuid"], 0)
        assert 843 <= counts.injected <= 1157  # mean 1000, sigma 31.5: five of them
        fired.append(sorted(event.ordinal for event in told))
        assert [ordinal for ordinal in fired[-1] if ordinal <= MODELLED] == lucky(trigger)
    assert fired[0] == fired[1]
    engine.detach()
