"""How long it takes until a fault is armed, beside bcc's compiler: in the guest's nanoseconds, which are instructions.

Every start is made in a fork of its own that has imported everything and opened nothing.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bcc import BPF

from inject import scenario as scenarios
from inject.engine.abi import USES_EVERYTHING
from inject.engine.bcc import Bcc
from inject.engine.encode import uses
from inject.engine.engine import Engine
from inject.engine.loader import PROGRAMS, SOURCE, Constants, Loader, bytecode_of
from inject.engine.maps import Maps
from inject.engine.planner import Planner
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Probe
from tests.bench.others import BCC_INJECT

TIMES = 3
"""Starts of which the shortest counts: what waits for a disk or another process is longer."""
LONG = 60.0
FAULT = "{function: __x64_sys_umask, return: -EPERM, when: {args: {mask: 0x1ff}, nth: 3}}"


def shortest(start: Callable[[], None], times: int = TIMES) -> int:
    """Nanoseconds of the shortest of ``times`` calls of ``start``."""
    return min(_in_fork(start) for _ in range(times))


def _in_fork(start: Callable[[], None]) -> int:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        begun = time.monotonic_ns()
        with Path(os.devnull).open("w") as silent:
            os.dup2(silent.fileno(), 2)
            start()
        os.write(write, str(time.monotonic_ns() - begun).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        taken = int(answer.read())
    os.waitpid(pid, 0)
    return taken


def armed(cache: Path, probe: Probe) -> None:
    """What `inject run` does between its imports and the armed fault."""
    kernel = Kernel()
    kernel.cache = cache / "kernel-facts"
    (scenario,) = scenarios.parse(f"faults: [{FAULT}]\nrun: 'true'\n", "bench.yaml", "bench")
    engine = Engine(kernel, cache)
    engine.attach(Planner(kernel, Types(kernel), 1).plan(scenario), probe, errnos=False)
    engine.arm(1, 0, LONG)


def bcc_tool() -> Callable[[], None]:
    """bcc's inject tool from its finished C text to its attached probes."""
    path = str(shutil.which(BCC_INJECT))
    loader = importlib.machinery.SourceFileLoader("bcc_inject", path)
    spec = importlib.util.spec_from_loader("bcc_inject", loader)
    assert spec is not None
    module: Any = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    before, sys.argv = sys.argv, [path, "kmalloc", "(gfpflags == 0x12345)"]
    try:
        tool = module.Tool()
    finally:
        sys.argv = before
    tool._create_probes()
    tool._generate_program()
    return lambda: tool._attach_probes()


def command() -> int:
    """Nanoseconds from the start of a whole `inject fail` to its workload's first instructions."""
    words = ["inject", "fail", "__x64_sys_umask", "--return", "-EPERM", "--nth", "3", "--", "cat", "/proc/uptime"]
    found = []
    for _ in range(TIMES):
        begun = time.monotonic_ns()
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=900, check=False)
        found.append(int(float(done.stdout.split()[0]) * 1e9) - begun)
    return min(found)


def load(tell: Callable[..., None], name: str, cache: Path) -> None:
    """How long the kernel, called ``name``, takes to verify and load each program."""
    kernel = Kernel()
    (scenario,) = scenarios.parse(f"faults: [{FAULT}]\nrun: 'true'\n", "bench.yaml", "bench")
    (rule,) = Planner(kernel, Types(kernel), 1).plan(scenario).rules
    bcc = Bcc()
    code, _ = bytecode_of(bcc, kernel, cache)
    with contextlib.closing(Maps(bcc)) as maps:
        loader = Loader(bcc, maps, code)
        for what, used in (("a rule with one argument", uses(rule)), ("any rule", USES_EVERYTHING)):
            constants = Constants(0, used, traced=True, context=rule.context)
            taken = {program: _load(loader, program, constants) for program in PROGRAMS}
            tell("load", kernel=name, rule=what, programs=taken)


def _load(loader: Loader, program: str, constants: Constants) -> int:
    name = "kmod_ret____x64_sys_umask" if program == "on_trampoline" else ""
    begun = time.monotonic_ns()
    descriptor = loader.load(program, constants, name)
    taken = time.monotonic_ns() - begun
    os.close(descriptor)
    return taken


def report(tell: Callable[..., None]) -> None:
    """All of it."""
    with tempfile.TemporaryDirectory() as directory:
        cold, warm = Path(directory, "cold"), Path(directory, "warm")

        def from_nothing() -> None:
            shutil.rmtree(cold, ignore_errors=True)
            armed(cold, Probe.AUTO)

        tell("start", what="cold, compiled", ns=shortest(from_nothing, 2))
        armed_once = shortest(lambda: armed(warm, Probe.KPROBE), 1)
        assert armed_once
        for probe in (Probe.KPROBE, Probe.FMOD_RET):
            tell("start", what=f"warm, {probe.value}", ns=shortest(lambda kind=probe: armed(warm, kind)))

        def first_in_boot() -> None:
            shutil.rmtree(warm / "kernel-facts")
            armed(warm, Probe.AUTO)

        tell("start", what="warm, the first time after a boot", ns=shortest(first_in_boot))
        tell("start", what="warm, from the start of `inject fail` to that of its workload", ns=command())
        source = SOURCE.read_bytes()
        tell("start", what="bcc compiles our program", ns=shortest(lambda: BPF(text=source) and None, 2))
        tell("start", what="bcc inject compiles and attaches", ns=shortest(bcc_tool(), 2))
