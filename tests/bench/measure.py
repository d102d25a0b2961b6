"""In the guest: instructions per call of everything that is compared, as JSON lines on standard output.

`python3 -m tests.bench.measure`, as root, under -icount shift=0 on one processor.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from inject import scenario as scenarios
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Probe
from inject.module.load import load as load_module
from inject.module.source import find as find_module
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.store import cache_root
from tests.bench import others, rate, start
from tests.bench.loop import Caller, counts_instructions
from tests.bench.parts import PARTS

UMASK, GETPPID, GETCWD = 95, 110, 79
"""System calls by number (arch/x86/entry/syscalls/syscall_64.tbl)."""
SYSCALL = "__x64_sys_umask"
"""Tagged, short, and in BTF under its own name, which identical-code folding denies to getpid's."""
SLAB = "should_failslab"
"""What bcc's inject tool fails as `kmalloc`; getcwd(2) comes there once."""
INJECTIONS = 100_000
"""At full rate, one second's worth."""
LONG = 3600.0
"""Seconds of the guest's clock that faults stay armed."""

CASES = {
    "out of scope": "",
    "argument misses": "when: {args: {mask: 0x1ff}}",
    "call path misses": "when: {stack: [vfs_write]}",
    "trigger not due": "when: {nth: 1000000000}",
    "fires": "",
}
"""What a fault on umask(2) says; the caller is in its scope in all cases but the first."""

SLAB_CASES = {
    "out of scope": "",
    "argument misses": "when: {args: {gfpflags: 0x12345}}",
    "call path misses": "when: {stack: [path_mount]}",
    "fires": "when: {stack: [__x64_sys_getcwd]}",
}


WAYS = {True: (Probe.KPROBE, Probe.FMOD_RET, Probe.KFUNC, Probe.MODULE), False: (Probe.KFUNC, Probe.MODULE)}
"""How a call is failed by a kernel that overrides by itself, and by one that needs inject's module."""


@dataclass(frozen=True)
class Call:
    """What is called, and what it costs without anybody looking."""

    name: str
    number: int
    arguments: tuple[int, ...]
    function: str
    bare: float


def tell(kind: str, **facts: Any) -> None:
    """One line of the report."""
    print(json.dumps({"type": kind, **facts}), flush=True)


class Measure:
    """The engine, a caller, and a group that the caller can be put in, with the kernel called ``name``."""

    def __init__(
        self, name: str, caller: Caller, engine: Engine, planner: Planner, group: Cgroup, outside: Cgroup
    ) -> None:
        self.name = name
        self.caller = caller
        self.engine = engine
        self.planner = planner
        self.group = group
        self.outside = outside

    def call(self, name: str, number: int, arguments: Sequence[int], function: str) -> Call:
        """Measured bare."""
        bare = self.caller.cost(number, *arguments)
        tell("bare", kernel=self.name, call=name, instructions=bare)
        return Call(name, number, tuple(arguments), function, bare)

    def row(self, call: Call, program: str, case: str, way: str) -> None:
        """What ``call`` costs more than bare now."""
        cost = self.caller.cost(call.number, *call.arguments)
        added = cost - call.bare
        tell("cost", kernel=self.name, call=call.name, program=program, case=case, way=way, added=added)

    @contextlib.contextmanager
    def armed(self, fault: str, probe: Probe, inside: bool, errnos: bool = False) -> Iterator[None]:
        """With ``fault`` armed, and the caller inside of its scope or not."""
        (scenario,) = scenarios.parse(f"faults: [{fault}]\nrun: 'true'\n", "bench.yaml", "bench")
        self.engine.attach(self.planner.plan(scenario), probe, errnos=errnos, early=True)
        (self.group if inside else self.outside).add(self.caller.pid)
        self.engine.arm(self.group.id, self.group.level, LONG)
        try:
            yield
        finally:
            self.engine.disarm()
            self.outside.add(self.caller.pid)
            self.engine.poll(0)
            self.engine.detach()

    def ours(self, call: Call, value: str, cases: dict[str, str], ways: Sequence[Probe]) -> None:
        """All cases by all ways."""
        for probe in ways:
            for case, when in cases.items():
                fault = f"{{function: {call.function}, return: {value}, contract: ignore, {when}}}"
                with self.armed(fault, probe, inside=case != "out of scope"):
                    self.row(call, "inject", case, probe.value)
                    if case == "fires":
                        (counts,) = self.engine.counts()
                        assert counts.injected and counts.matched == counts.injected, counts


def empty_on_umask(measure: Measure, call: Call) -> None:
    """The least that any program at a kprobe costs, in every kernel."""
    with others.empty_kprobe(call.function):
        measure.row(call, "empty bcc program", "nothing at all", "kprobe")


def others_on_umask(measure: Measure, call: Call) -> None:
    """What else can fail a system call, each where it costs least."""
    with others.empty_fmod_ret(call.function):
        measure.row(call, "empty bcc program", "nothing at all", "fmod_ret")
    with others.fail_function(call.function):
        measure.row(call, "kernel fail_function", "out of scope (task filter)", "kprobe")
    with others.bpftrace(call.function):
        measure.row(call, "bpftrace override()", "out of scope (pid filter)", "kprobe")


def others_on_slab(measure: Measure, call: Call) -> None:
    """bcc's inject tool, which knows three functions, on one that it knows."""
    for case, spec, functions in (
        ("call path misses", "(true) => path_mount()", [SLAB, "path_mount"]),
        ("argument misses", "(gfpflags == 0x12345)", [SLAB]),
        ("fires", "(true) => __x64_sys_getcwd()", [SLAB, "__x64_sys_getcwd"]),
    ):
        with others.bcc_inject("kmalloc", spec, functions):
            measure.row(call, "bcc inject", case, "kprobe")


def accounting(measure: Measure, call: Call) -> None:
    """What `expect: errno` costs: every system call's return is looked at, on a call that no fault is on."""
    fault = f"{{function: {SYSCALL}, return: -EPERM}}"
    for case, inside in (("call out of scope", False), ("call in scope succeeds", True)):
        with measure.armed(fault, Probe.KPROBE, inside, errnos=True):
            measure.row(call, "inject, errnos counted", case, "sys_exit")


def full_rate(measure: Measure, call: Call) -> None:
    """One second of injections, and what became of their events."""
    with measure.armed(f"{{function: {call.function}, return: -EPERM}}", Probe.AUTO, inside=True):
        rate.report(tell, measure.engine, measure.caller, call.number, INJECTIONS)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure; 1 where the clock does not count instructions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", default="test", help="Its name in the report.")
    parser.add_argument("--only", choices=PARTS, action="append", help="Only this part; may be repeated.")
    chosen = parser.parse_args(arguments)
    parts = chosen.only or PARTS
    if not counts_instructions():
        print("the clock does not count instructions: run under `inject vm exec --icount 0`", file=sys.stderr)
        return 1
    kernel = Kernel()
    if "load" in parts:
        start.load(tell, chosen.kernel, cache_root() / "bytecode")
    if set(parts) & {"umask", "slab", "errnos", "others", "rate"}:
        path = find_module(kernel)
        assert path is not None, "the guest carries no module for its kernel"
        load_module(kernel, path, keep=True)
        calls(chosen.kernel, kernel, parts)
    if "start" in parts:
        start.report(tell)
    return 0


def calls(name: str, kernel: Kernel, parts: Sequence[str]) -> None:
    """Those of ``parts`` that need a caller."""
    with Caller() as caller, Janitor() as janitor, Engine(kernel, cache_root() / "bytecode") as engine:
        group, outside = Cgroup.create(janitor), Cgroup.create(janitor)
        measure = Measure(name, caller, engine, Planner(kernel, Types(kernel), 1), group, outside)
        outside.add(caller.pid)
        ways = WAYS[kernel.config.has("CONFIG_BPF_KPROBE_OVERRIDE")]
        umask = measure.call("umask", UMASK, (0o22,), SYSCALL)
        if "umask" in parts:
            measure.ours(umask, "-EPERM", CASES, ways)
            empty_on_umask(measure, umask)
        getcwd = measure.call("getcwd", GETCWD, caller.buffer(), SLAB) if {"slab", "others"} & set(parts) else None
        if getcwd and "slab" in parts:
            measure.ours(getcwd, "-ENOMEM", SLAB_CASES, ways)
        if "errnos" in parts:
            accounting(measure, measure.call("getppid", GETPPID, (), ""))
        if getcwd and "others" in parts:
            others_on_umask(measure, umask)
            others_on_slab(measure, getcwd)
        if "rate" in parts:
            full_rate(measure, umask)


if __name__ == "__main__":
    sys.exit(main())
