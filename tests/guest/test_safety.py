"""A tool that is stuck, killed or greedy does no more harm than it was allowed to."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from inject import scenario as scenarios
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Probe
from inject.process.cgroup import Cgroup
from inject.trial.pump import LEASE
from tests.support.command import Tool
from tests.support.waiting import wait_for

pytestmark = pytest.mark.test_kernel

BOUND = 180.0
"""Seconds after which a wait of these tests has failed."""

VICTIM = """
import ctypes, os, sys, time
open("/proc/self/comm", "w").write("victim")
libc = ctypes.CDLL(None, use_errno=True)
out = os.open(sys.argv[1], os.O_WRONLY)
while True:
    os.pwrite(out, b"failed" if libc.syscall(39) < 0 else b"worked", 0)
    time.sleep(0.02)
"""
"""Calls getpid(2) all the time and leaves in a file how the last call went."""

SCENARIO = """\
faults:
  - function: __x64_sys_getpid
    return: -EPERM
    scope: any
    when: {comm: victim}
run: sleep 1000
timeout: 900
"""


@pytest.fixture
def planner(kernel: Kernel, types: Types) -> Planner:
    return Planner(kernel, types, 1)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """A process that is in no workload; calling the fixture says how its calls go now."""
    seen = tmp_path / "seen"
    seen.write_text("......")
    process = subprocess.Popen([sys.executable, "-c", VICTIM, str(seen)])

    def now() -> str:
        seen.write_text("......")  # what stands here afterwards is of a later call
        wait_for(lambda: seen.read_text() != "......", "the victim calls")
        return seen.read_text()

    try:
        yield now
    finally:
        process.kill()
        process.wait()


def start(tmp_path: Path, probe: Probe, text: str = SCENARIO, *options: str) -> Tool:
    """`inject run` as its user starts it, reporting to report.jsonl."""
    (tmp_path / "own.yaml").write_text(text)
    report = str(tmp_path / "report.jsonl")
    return Tool("run", "--probe", probe.value, "--json", report, *options, str(tmp_path / "own.yaml"))


def verdicts(tmp_path: Path) -> list[dict[str, Any]]:
    lines = (tmp_path / "report.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["type"] == "verdict"]


@pytest.mark.slow
def test_stopped_while_armed(tmp_path: Path, victim: Callable[[], str]) -> None:
    """SIGSTOP: the kernel goes on failing calls until the deadline and not after, and the tool claims nothing.

    Before that the deadline is put off again and again: it is still armed after more than one of them.
    """
    go = tmp_path / "go"
    tool = start(tmp_path, Probe.AUTO, SCENARIO.replace("sleep 1000", f"until test -e {go}; do sleep 0.2; done"))
    try:
        wait_for(lambda: victim() == "failed", "armed")
        armed = time.monotonic()
        while time.monotonic() < armed + LEASE * 1.2:
            assert victim() == "failed"
            time.sleep(0.5)
        tool.send_signal(signal.SIGSTOP)
        assert victim() == "failed"
        wait_for(lambda: victim() == "worked", "the kernel's own deadline")
        tool.send_signal(signal.SIGCONT)
        time.sleep(2)
        assert victim() == "worked", "armed again behind everybody's back"
        go.touch()
        assert tool.wait(BOUND) == 4
    finally:
        tool.send_signal(signal.SIGCONT)
        tool.kill()
        tool.wait(BOUND)
    (verdict,) = verdicts(tmp_path)
    assert verdict["status"] == "error"
    assert "stopped for more than 10 s while armed" in verdict["detail"]


@pytest.mark.slow
def test_output_that_nobody_reads(victim: Callable[[], str]) -> None:
    """A pager, Ctrl-S, a CI log that stalls: inject waits in write(2), and the kernel ends the injection by itself."""
    reader, writer = os.pipe()
    words = ("__x64_sys_getpid", "--return", "-EPERM", "--comm", "victim", "--scope", "any", "--timeout", "5")
    with Tool("fail", *words, "--", "yes", stdout=writer) as tool:
        os.close(writer)
        try:
            wait_for(lambda: victim() == "failed", "armed", process=tool)
            wait_for(lambda: victim() == "worked", "the kernel's own deadline", process=tool)
            assert tool.poll() is None, "inject did not wait for the reader"
            time.sleep(LEASE)
            assert victim() == "worked", "armed again"
        finally:
            os.close(reader)


def test_killed_while_armed(tmp_path: Path, victim: Callable[[], str], probe: Probe) -> None:
    """SIGKILL: the first call after the tool's end works."""
    tool = start(tmp_path, probe)
    wait_for(lambda: victim() == "failed", "armed")
    tool.kill()
    tool.wait(BOUND)
    assert victim() == "worked"


ORPHAN = "import os, time\nif os.fork() == 0:\n time.sleep(0.5)\nos._exit(0)\n"
FAILED_WAIT = "import os\nif os.fork() == 0:\n os._exit(0)\nos.wait4(-1, 0)\n"

BUDGETED = """\
name: {name}
faults: [{{function: __x64_sys_getpid, return: -EPERM, when: {{times: {times}}}}}]
run: python3 -c 'import ctypes; l = ctypes.CDLL(None); [l.syscall(39) for _ in range(50)]'
"""


def test_a_budget_is_the_whole_runs(tmp_path: Path) -> None:
    """7 + 5 of 15 are spent, 3 are left of the 10 that the third wants, and the fourth gets none."""
    text = "---\n".join(BUDGETED.format(name=f"n{times}", times=times) for times in (7, 5, 10, 4))
    tool = start(tmp_path, Probe.AUTO, text, "--budget", "15")
    assert tool.wait(BOUND) == 4
    found = verdicts(tmp_path)
    assert [verdict["status"] for verdict in found] == ["pass", "pass", "error", "error"]
    assert [sum(count["injected"] for count in verdict["counts"]) for verdict in found] == [7, 5, 3, 0]
    assert "3 injections were left for this scenario, 7 more were due" in found[2]["detail"]
    assert "budget of 15 injections was used up before this scenario" in found[3]["detail"]


# ---------------------------------------------------------------- never the tool, never PID 1


def test_the_tool_is_never_failed(engine: Engine, planner: Planner, group: Cgroup, probe: Probe) -> None:
    """With every task of the machine in scope: this process is the tool, and so are its threads."""
    libc = ctypes.CDLL(None, use_errno=True)
    results: list[int] = []
    engine.attach(_plan(planner, "{function: __x64_sys_getpid, return: -EPERM, scope: any}"), probe)
    engine.arm(group.id, group.level, 60.0)
    thread = threading.Thread(target=lambda: results.append(libc.syscall(39)))
    thread.start()
    thread.join()
    results.append(libc.syscall(39))
    child = subprocess.run(
        [sys.executable, "-c", "import ctypes; print(ctypes.CDLL(None).syscall(39))"],
        capture_output=True,
        text=True,
        check=True,
    )
    engine.disarm()
    engine.detach()
    assert results == [os.getpid()] * 2
    assert child.stdout.strip() == "-1", "the fault did not fire at all"


APART = """
import ctypes, subprocess, sys
from pathlib import Path
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.scenario.load import parse
from inject.store import cache_root
kernel = Kernel()
(scenario,) = parse("faults: [{function: __x64_sys_getpid, return: -EPERM, scope: any}]\\nrun: 'true'\\n", "x", "x")
with Janitor() as janitor, Engine(kernel, cache_root() / "bytecode", janitor.pid) as engine:
    group = Cgroup.create(janitor)
    engine.attach(Planner(kernel, Types(kernel), 1).plan(scenario))
    engine.arm(group.id, group.level, 60.0)
    own = ctypes.CDLL(None).syscall(39)
    argv = [sys.executable, "-c", "import ctypes; print(ctypes.CDLL(None).syscall(39))"]
    other = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    engine.disarm()
    group.close(janitor)
print(own, other.strip())
"""
"""Process 1 of a PID namespace: prints what getpid(2) gave it while it failed for every task, and what another got."""


def test_the_tool_is_never_failed_in_a_pid_namespace() -> None:
    """There its own number is not the one that the kernel compares."""
    argv = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", APART]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "-1"], done.stderr


def test_the_agent_of_the_guest_is_never_failed(
    engine: Engine, planner: Planner, group: Cgroup, kernel: Kernel, probe: Probe
) -> None:
    """The host's requests still reach it while every read from a virtio port fails for others."""
    agent = kernel.agent()
    assert "agent.py" in Path(f"/proc/{agent}/cmdline").read_text()
    engine.attach(_plan(planner, "{function: __x64_sys_poll, return: -EIO, scope: any}"), probe)
    engine.arm(group.id, group.level, 60.0)
    before = _sleeps(agent)
    wait_for(lambda: _sleeps(agent) > before, "a request of the host")
    engine.disarm()
    failed = {injection.pid for injection in engine.poll(0)}
    engine.detach()
    assert agent not in failed


def test_init_is_never_failed(engine: Engine, planner: Planner, group: Cgroup, probe: Probe) -> None:
    """PID 1 reaps an orphan while wait4(2) fails for all others: an init that cannot wait is a dead machine."""
    engine.attach(_plan(planner, "{function: __x64_sys_wait4, return: -EINVAL, scope: any}"), probe)
    before = _of_init()
    engine.arm(group.id, group.level, 60.0)
    subprocess.run([sys.executable, "-c", ORPHAN], check=True)
    other = subprocess.run([sys.executable, "-c", FAILED_WAIT], capture_output=True, text=True, check=False)
    wait_for(lambda: _of_init() > before, "init wakes up for its orphan")
    engine.disarm()
    (counts,) = engine.counts()
    waited = [injection.pid for injection in engine.poll(0)]
    engine.detach()
    assert "Invalid argument" in other.stderr, "the fault did not fire at all"
    assert counts.injected and 1 not in waited


def _of_init() -> int:
    """How often PID 1 went to sleep of its own will."""
    return _sleeps(1)


def _sleeps(pid: int) -> int:
    """How often process ``pid`` went to sleep of its own will."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])


def _plan(planner: Planner, fault: str) -> Plan:
    (made,) = scenarios.parse(f"faults: [{fault}]\nrun: 'true'\n", "test.yaml", "test")
    return planner.plan(made)
