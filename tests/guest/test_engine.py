"""The engine against the real kernel: exact counts, strict scope, nothing left behind."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest

from inject import scenario as scenarios
from inject.engine import planner as plans
from inject.engine.abi import NO_PREALLOC, TABLES, Table
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.errors import CannotRun, InjectError
from inject.filesystems import DEVICE_PATHS
from inject.kernel.access import access_to, walk
from inject.kernel.btf import PTR, STRUCT, Btf
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.nofail import NoFail
from inject.model.scenario import Probe, Scenario
from inject.process.cgroup import Cgroup
from inject.store import cache_root
from tests.support import ROOT
from tests.support.command import COMMAND, Tool, inject
from tests.support.waiting import wait_for
from tests.support.workbench import KPROBES

pytestmark = pytest.mark.test_kernel

GETPID = "__x64_sys_getpid"
BOUND = 120.0
"""Seconds after which a wait of these tests has failed."""


def ad_hoc(fault: str, run: str = "true") -> Scenario:
    """A scenario around one fault, written as YAML in flow style."""
    (made,) = scenarios.parse(f"faults: [{fault}]\nrun: {run}\n", "test.yaml", "test")
    return made


class Caller:
    """A process in ``group`` that calls getpid(2) when told to, and counts how often that failed."""

    def __init__(self, group: Optional[Cgroup], calls: int, cpu: int) -> None:
        self.calls = calls
        go_read, self._go = os.pipe()
        self._result, result_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.sched_setaffinity(0, {cpu})
            libc = ctypes.CDLL(None, use_errno=True)
            os.read(go_read, 1)
            failed = sum(libc.syscall(39) < 0 for _ in range(calls))
            os.write(result_write, str(failed).encode())
            os._exit(0)
        os.close(go_read)
        os.close(result_write)
        if group is not None:
            group.add(self.pid)

    def go(self) -> None:
        """Start calling."""
        os.write(self._go, b"x")

    def failed(self) -> int:
        """Wait for it; how many calls failed."""
        count = int(os.read(self._result, 32))
        os.waitpid(self.pid, 0)
        os.close(self._go)
        os.close(self._result)
        return count


def count_failures(engine: Engine, group: Cgroup, calls: tuple[int, ...]) -> int:
    """Let one process per CPU make its calls at the same time, armed; how many failed in all."""
    callers = [Caller(group, count, cpu % os.cpu_count()) for cpu, count in enumerate(calls)]
    engine.arm(group.id, group.level, 60.0)
    for caller in callers:
        caller.go()
    failed = sum(caller.failed() for caller in callers)
    engine.disarm()
    return failed


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("{every: 7}", 23 // 7),
        ("{nth: 11}", 1),
        ("{after: 4, times: 5}", 5),
        ("{after: 20, every: 2}", 1),
        ("{nth: 24}", 0),
        ("{times: 23}", 23),
    ],
)
def test_23_calls_on_two_cpus(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe, when: str, expected: int
) -> None:
    """The counts are those of arithmetic, and user space saw as many."""
    fault = f"{{function: {GETPID}, return: -EPERM, when: {when}}}"
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)
    failed = count_failures(engine, group, (12, 11))
    (counts,) = engine.counts()
    assert (counts.seen, counts.matched, counts.injected, failed) == (23, 23, expected, expected)
    assert len(engine.poll(0)) == expected - counts.lost
    assert engine.errnos().get(("getpid", "EPERM"), 0) == expected


def in_group(engine: Engine, group: Cgroup, work: Callable[[], object]) -> None:
    """Do ``work`` in a process of ``group`` while armed."""
    go_read, go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.read(go_read, 1)
            work()
        finally:
            os._exit(0)
    group.add(child)
    engine.arm(group.id, group.level, 60.0)
    os.write(go, b"x")
    os.waitpid(child, 0)
    engine.disarm()
    os.close(go_read)
    os.close(go)


def test_a_string_that_is_not_in_memory_is_counted(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe, tmp_path: Path
) -> None:
    """One call has it in memory and fails, one in a page that nobody has touched yet, one passes NULL."""
    (tmp_path / "names").write_bytes(b"/inject-target".ljust(mmap.PAGESIZE, b"\0"))
    fault = '{function: __x64_sys_openat, return: -EACCES, when: {args: {filename: {glob: "/inject-target"}}}}'
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.open.argtypes = [ctypes.c_void_p, ctypes.c_int]
    file = os.open(tmp_path / "names", os.O_RDONLY)
    untouched = libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_PRIVATE, file, 0)
    touched = ctypes.create_string_buffer(b"/inject-target")

    def work() -> None:
        for at in (ctypes.addressof(touched), untouched, None):
            libc.open(at, os.O_RDONLY)

    in_group(engine, group, work)
    os.close(file)
    (counts,) = engine.counts()
    assert (counts.injected, counts.unread) == (1, 1), counts


def test_errnos_that_find_no_room_are_counted(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """More different system calls than the table has entries, none of which exists."""
    fault = f"{{function: {GETPID}, return: -EPERM}}"
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)
    libc = ctypes.CDLL(None)
    in_group(engine, group, lambda: [libc.syscall(number) for number in range(10_000, 15_000)])
    counted = sum(engine.errnos().values())
    assert engine.uncounted() >= 5_000 - TABLES["results"].entries and counted + engine.uncounted() >= 5_000
    in_group(engine, group, lambda: None)
    assert engine.uncounted() == 0


LPM_TRIE = 11
"""BPF_MAP_TYPE_LPM_TRIE"""


def test_calls_that_a_busy_probe_misses_are_counted(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """bpf(2) keeps kprobe programs out while it changes a map (bpf_disable_instrumentation()), and allocates there.

    A program on a trampoline or a tracepoint, which the module's probe calls, runs all the same.
    """
    fault = "{function: should_failslab, return: -ENOMEM, contract: ignore, when: {nth: 1000000}}"
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)

    if "nodes" not in engine._maps.descriptors:
        engine._maps._create("nodes", Table(LPM_TRIE, 8, 8, 64, NO_PREALLOC))

    def work() -> None:
        for number in range(50):
            engine._maps.update("nodes", struct.pack("<II", 32, number), bytes(8))

    in_group(engine, group, work)
    (counts,) = engine.counts()
    assert counts.missed >= 50 if probe in (Probe.KPROBE, Probe.KFUNC) else counts.seen >= 50, counts
    in_group(engine, group, lambda: None)
    assert engine.counts()[0].missed < 50


STRANGER = """
import os, signal
os.sched_setaffinity(0, {0})
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
os.write(1, b"x")
while True:
    signal.pause()
"""


@pytest.mark.parametrize("scope", ["workload", "any"])
def test_an_interrupt_is_not_the_workload(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe, scope: str
) -> None:
    """A stranger's timer, whose signals allocate on top of the workload: out of scope unless that is `any`."""
    when = "when: {stack: [it_real_fn]}"
    fault = f"{{function: should_failslab, return: -ENOMEM, contract: ignore, scope: {scope}, {when}}}"
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)
    with subprocess.Popen(["python3", "-c", STRANGER], stdout=subprocess.PIPE) as stranger:
        try:
            assert stranger.stdout is not None and stranger.stdout.read(1)
            spin = os.fork()
            if spin == 0:
                os.sched_setaffinity(0, {0})
                while True:
                    pass
            try:
                group.add(spin)
                engine.arm(group.id, group.level, 60.0)
                time.sleep(2)
                engine.disarm()
            finally:
                os.kill(spin, signal.SIGKILL)
                os.waitpid(spin, 0)
        finally:
            stranger.kill()
    (counts,) = engine.counts()
    assert bool(counts.injected) == (scope == "any"), counts


def test_times_never_overshoots_under_load(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """Eight processes on all CPUs fight for 100 injections."""
    fault = f"{{function: {GETPID}, return: -EPERM, when: {{times: 100}}}}"
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)
    assert count_failures(engine, group, (500,) * 8) == 100
    (counts,) = engine.counts()
    assert (counts.matched, counts.injected) == (4000, 100)


def test_a_seed_decides_the_same_again(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """The ordinals that fire depend on the seed alone, and their number on the probability."""
    fault = f"{{function: {GETPID}, return: -EPERM, when: {{probability: 0.1}}}}"
    fired: dict[int, list[list[int]]] = {1: [], 2: []}
    for seed in (1, 1, 2):
        engine.attach(Planner(kernel, types, seed).plan(ad_hoc(fault)), probe)
        count_failures(engine, group, (1000, 1000))
        fired[seed].append(sorted(injection.ordinal for injection in engine.poll(0)))
    first, again = fired[1]
    assert first == again != fired[2][0]
    assert 120 < len(first) < 280  # mean 200, sigma 13.4: six of them


def test_a_process_outside_is_never_touched(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """One inside and one outside call at the same time."""
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(f"{{function: {GETPID}, return: -EPERM}}")), probe)
    outside = Caller(None, 20_000, 0)
    inside = Caller(group, 20_000, 1 % os.cpu_count())
    engine.arm(group.id, group.level, 60.0)
    outside.go()
    inside.go()
    results = inside.failed(), outside.failed()
    engine.disarm()
    assert results == (20_000, 0)
    (counts,) = engine.counts()
    assert counts.seen == counts.injected == 20_000


def test_events_name_the_call_and_none_is_lost_silently(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """What the buffer could not take is counted."""
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(f"{{function: {GETPID}, return: -EPERM}}")), probe)
    count_failures(engine, group, (9_000, 9_000))
    events = engine.poll(0)
    (counts,) = engine.counts()
    assert len(events) + counts.lost == counts.injected == 18_000
    assert counts.lost, "18,000 events fit the buffer: this test no longer tests the loss"
    assert events[0].stack[0].startswith(("__x64_sys_getpid", "__do_sys_getpid"))
    assert events[0].returned == "-EPERM" and events[0].value == -1


def test_the_direct_caller_is_on_the_call_path(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """At its entry a function has no frame yet: unwinding by frame pointers alone would skip who called it."""
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(f"{{function: {GETPID}, return: -EPERM}}")), probe)
    assert count_failures(engine, group, (1,)) == 1
    (event,) = engine.poll(0)
    caller = event.stack[1].partition("+")[0]
    assert caller in ("x64_sys_call", "do_syscall_64"), event.stack
    assert [frame.partition("+")[0] for frame in event.stack].count(caller) == 1
    for path, expected in (
        (f"[{caller}]", 50),
        (f"[{caller}, {caller}]", 0),
        ("['!" + caller + "']", 0),
        ("[entry_SYSCALL_64_after_hwframe]", 50),
    ):
        fault = f"{{function: {GETPID}, return: -EPERM, when: {{stack: {path}}}}}"
        engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)
        assert count_failures(engine, group, (50,)) == expected, path


def test_the_deadline_ends_it_without_us(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """Armed for no time at all, nothing fires although no test disarms."""
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(f"{{function: {GETPID}, return: -EPERM}}")), probe)
    caller = Caller(group, 100, 0)
    engine.arm(group.id, group.level, 0.0)
    caller.go()
    failed = caller.failed()
    engine.disarm()
    (counts,) = engine.counts()
    assert (failed, counts.matched, counts.injected) == (0, 100, 0)


def test_a_budget_bounds_all_rules_together(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(f"{{function: {GETPID}, return: -EPERM}}")), probe)
    caller = Caller(group, 100, 0)
    engine.arm(group.id, group.level, 60.0, budget=7)
    caller.go()
    failed = caller.failed()
    engine.disarm()
    assert failed == 7


def test_a_list_is_returned_in_turn(engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe) -> None:
    """The k-th injection takes the k-th value, whichever match it is, and the list begins again."""
    fault = f"{{function: {GETPID}, return: [-EPERM, -EIO, -ENOMEM], when: {{after: 2, every: 2}}}}"
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)
    assert count_failures(engine, group, (18,)) == 8
    events = engine.poll(0)
    assert [event.ordinal for event in events] == [4, 6, 8, 10, 12, 14, 16, 18]
    assert [event.returned for event in events] == (["-EPERM", "-EIO", "-ENOMEM"] * 3)[:8]
    assert [event.value for event in events] == ([-1, -5, -12] * 3)[:8]
    seen = engine.errnos()
    assert {name: seen.get(("getpid", name)) for name in ("EPERM", "EIO", "ENOMEM")} == {
        "EPERM": 3,
        "EIO": 3,
        "ENOMEM": 2,
    }
    assert set(engine.used) == {probe}


def test_a_list_is_kept_to_under_load(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """Racing CPUs may swap neighbours, but every value has its share to the unit."""
    fault = f"{{function: {GETPID}, return: [-EPERM, -EIO], when: {{times: 1001}}}}"
    engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)
    assert count_failures(engine, group, (500,) * 4) == 1001
    seen = engine.errnos()
    assert (seen.get(("getpid", "EPERM")), seen.get(("getpid", "EIO"))) == (501, 500)


def test_a_task_name_is_a_condition(engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe) -> None:
    mine = Path("/proc/self/comm").read_text().strip()
    for pattern, expected in ((f"{mine[:2]}*", 50), ("nobody?*", 0), (f"?{mine[1:]}", 50)):
        fault = f'{{function: {GETPID}, return: -EPERM, when: {{comm: "{pattern}"}}}}'
        engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)
        assert count_failures(engine, group, (50,)) == expected, pattern


def test_a_contract_by_call_path_spares_and_counts(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every getpid(2) is below do_syscall_64(); `contract: ignore` fails it even so."""
    known = (NoFail(GETPID, "why", "where", below="do_syscall_64"),)
    monkeypatch.setattr(plans, "nofail_of", lambda _: known)
    for rest, failed, spared in (("", 0, 50), (", contract: ignore", 50, 0)):
        fault = f"{{function: {GETPID}, return: -EPERM{rest}}}"
        engine.attach(Planner(kernel, types, 1).plan(ad_hoc(fault)), probe)
        assert count_failures(engine, group, (50,)) == failed
        (counts,) = engine.counts()
        assert (counts.seen, counts.spared, counts.injected) == (50, spared, failed)


# ---------------------------------------------------------------- system calls


CALLS = """\
import os, sys
def opened(path, flags):
    try:
        os.close(os.open(path, flags))
        return "yes"
    except PermissionError:
        return "no"
def made(path, mode):
    try:
        os.mkdir(path, mode)
        return "yes"
    except PermissionError:
        return "no"
print(opened("secret-file", os.O_RDONLY), opened("secret-file", os.O_RDWR), opened("./secret-file", os.O_RDONLY),
      opened("other-file", os.O_RDONLY), made("a", 0o700), made("b", 0o755))
"""


def test_a_system_calls_arguments_have_its_own_names(tmp_path: Path, probe: Probe) -> None:
    """Strings of user space by glob, integers of their true width; the wrapper itself has one argument, `regs`."""
    (tmp_path / "calls.py").write_text(CALLS)
    (tmp_path / "own.yaml").write_text(f"""\
faults:
  - function: __x64_sys_openat
    return: -EACCES
    injected: 1
    when: {{args: {{filename: {{glob: "secret-*"}}, flags: {{mask: 3, is: 0}}, dfd: -100}}}}
  - function: __x64_sys_mkdir
    return: -EACCES
    injected: 1
    when: {{args: {{mode: 0x1c0, pathname: {{not: NULL}}}}}}
run: |
  touch secret-file other-file
  python3 -ISB {tmp_path}/calls.py
expect: {{output: "^no yes yes yes no yes$", errno: {{openat: EACCES, mkdir: EACCES}}}}
""")
    done = inject("run", "--probe", probe.value, str(tmp_path / "own.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("{function: iput, return: -EIO}", "iput returns nothing"),
        ("{function: bch2_folio_sat, return: -EIO}", "did you mean bch2_folio_set"),
        (f"{{function: {GETPID}, return: true}}", "return a negative errno such as -ENOMEM"),
        (f"{{function: {GETPID}, return: -4096}}", "no error-injectable function may return `-4096`"),
        (f"{{function: {GETPID}, return: -BCH_ERR_nonsense}}", "BCH_ERR_nonsense is not an enumerator"),
        ("{function: bch2_dynamic_fault, return: -EIO}", "return true"),
        (f"{{function: {GETPID}, return: [-EIO, true]}}", "test.yaml:1:54: __x64_sys_getpid has error type ERRNO"),
        ("{function: __genradix_ptr_alloc, return: -ENOMEM}", "return NULL"),
        (
            "{function: __filemap_add_folio, return: -ENOMEM, when: {args: {indx: 1}}}",
            "has no parameter indx; did you mean index",
        ),
        (
            "{function: should_fail_bio, return: -EIO, when: {args: {bio.bi_itr.bi_size: 1}}}",
            "has no member bi_itr; did you mean bi_iter",
        ),
        ("{function: should_fail_bio, return: -EIO, when: {args: {bio.bi_iter: 1}}}", "not a value"),
        (
            "{function: __x64_sys_openat, return: -EIO, when: {args: {filname: 1}}}",
            "has no argument filname; did you mean filename",
        ),
        (
            "{function: __x64_sys_openat2, return: -EIO, when: {args: {how.flags: 1}}}",
            "how is an address of user space",
        ),
        ("{function: __x64_sys_openat, return: -EIO, when: {args: {flags: {glob: x}}}}", "flags is not a string"),
        (
            "{function: __filemap_add_folio, return: -ENOMEM, when: {stack: [no_such_function]}}",
            "called no_such_function",
        ),
    ],
)
def test_refused_with_the_place_and_what_would_be_right(kernel: Kernel, types: Types, fault: str, says: str) -> None:
    with pytest.raises(InjectError) as caught:
        Planner(kernel, types, 1).plan(ad_hoc(fault))
    assert says in str(caught.value)
    assert str(caught.value).startswith("test.yaml:1:")


# ---------------------------------------------------------------- BTF


def test_names_come_from_the_kernel() -> None:
    btf = Btf()
    assert str(btf.prototype("should_fail_bio")) == "int should_fail_bio(struct bio * bio)"
    assert btf.enum("bch_errcode")["BCH_ERR_ENOSPC_disk_reservation"] > 2048
    assert btf.enumerator("BCH_DISK_RESERVATION_NOFAIL") == 1
    size = access_to(btf, "should_fail_bio", "bio.bi_iter.bi_size")
    assert (size.argument, len(size.offsets), size.size, size.bits, size.signed) == (0, 1, 4, 32, False)
    device = access_to(btf, "should_fail_bio", "bio.bi_bdev.bd_dev")
    assert len(device.offsets) == 2 and device.bits == 32


def test_the_nofail_contract_is_found(kernel: Kernel, types: Types) -> None:
    """Callers that say __GFP_NOFAIL are spared: a test is added to the rule."""
    fault = "{function: should_failslab, return: -ENOMEM}"
    (rule,) = Planner(kernel, types, 1).plan(ad_hoc(fault)).rules
    assert [test.nofail for test in rule.tests] == [True]
    ignored = "{function: should_failslab, return: -ENOMEM, contract: ignore}"
    (rule,) = Planner(kernel, types, 1).plan(ad_hoc(ignored)).rules
    assert not rule.tests


@pytest.mark.slow
def test_every_tagged_function_can_be_probed(engine: Engine, kernel: Kernel, types: Types) -> None:
    """Those of the patches above all: a tag in the list that refuses probes is a trap."""
    planner = Planner(kernel, types, 1)
    names = [point.function for point in kernel.points.all if "_sys_" not in point.function]
    assert {"bch2_dynamic_fault", "__genradix_ptr_alloc", "__bch2_disk_reservation_add"} <= set(names)
    used: dict[tuple[str, Probe], Probe] = {}
    value = {"ERRNO": "-ENOMEM", "ERRNO_NULL": "-ENOMEM", "NULL": "NULL", "TRUE": "true"}
    for name in names:
        point = kernel.points.find(name)
        plan = planner.plan(ad_hoc(f"{{function: {name}, return: {value[point.error_type.value]}}}"))
        for probe in (Probe.KPROBE, Probe.AUTO):
            engine.attach(plan, probe)
            used[name, probe] = engine.used[0]
        engine.detach()
    assert used["__filemap_add_folio", Probe.AUTO] is Probe.FMOD_RET
    assert used["__genradix_ptr_alloc", Probe.AUTO] is Probe.KPROBE, "fmod_ret cannot return NULL"
    assert used["bch2_extent_fallocate", Probe.AUTO] is Probe.KPROBE, "a trampoline takes no struct by value"


# ---------------------------------------------------------------- the tool itself


def test_the_kernels_own_example(tmp_path: Path) -> None:
    """Documentation/fault-injection: btrfs fails in open_ctree, and mounts afterwards."""
    image = tmp_path / "btrfs.img"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True)
    mount = tmp_path / "mnt"
    mount.mkdir()
    command = ["mount", "-t", "btrfs", "-o", "loop", str(image), str(mount)]
    done = inject("fail", "open_ctree", "--return", "-ENOMEM", "--", *command)
    assert "Cannot allocate memory" in done.stdout
    assert "open_ctree returned -ENOMEM once" in done.stderr
    assert done.returncode == 32  # mount(8): mount failure
    subprocess.run(command, check=True)
    subprocess.run(["umount", str(mount)], check=True)


def test_fail_that_fired_nothing_is_no_success() -> None:
    done = inject("fail", "open_ctree", "--return", "-ENOMEM", "--", "true")
    assert done.returncode == 1
    assert "open_ctree: 0 injections" in done.stderr


def test_killed_while_armed_leaves_nothing(engine: Engine, tmp_path: Path, probe: Probe) -> None:
    """SIGKILL: no probe, no mount, no cgroup, no loop device, no process, no directory."""
    engine.detach()  # what the tests before it have left attached
    before = programs()  # detached ones, which the engine keeps for its next attaching
    own = tmp_path / "sleep.yaml"
    own.write_text(
        "filesystem: {type: ext4, size: 64M}\n"
        f"faults: [{{function: {GETPID}, return: -EPERM}}]\n"
        "run: |\n  bash -c 'echo $PPID' || true\n  sleep 1000\n"
    )
    tool = Tool("run", "--probe", probe.value, str(own))
    try:
        wait_for(lambda: programs() != before, "the probe is attached")
        wait_for(lambda: "sleep\0001000" in all_commands(), "the workload runs")
        assert " ext4 " in Path("/proc/mounts").read_text().replace("/dev/root", "")
        tool.send_signal(signal.SIGKILL)
    finally:
        tool.wait(BOUND)
    wait_for(lambda: not KPROBES.read_text() and programs() == before, "no probe is left")
    wait_for(lambda: not list(Path("/sys/fs/cgroup").glob("inject-*")), "no cgroup is left")
    wait_for(lambda: "/inject-" not in Path("/proc/mounts").read_text(), "no mount is left")
    wait_for(lambda: not list(Path("/tmp").glob("inject-*")), "no directory is left")
    assert "sleep\0001000" not in all_commands()
    assert not [f for f in Path("/sys/block").glob("loop*/loop/backing_file") if "/inject-" in f.read_text()]


def programs() -> str:
    """BPF programs of inject that the kernel holds."""
    done = subprocess.run(["bpftool", "prog", "show"], capture_output=True, text=True, check=True)
    return "\n".join(
        line for line in done.stdout.splitlines() if "on_" in line or "kmod_ret" in line or "getpid" in line
    )


def all_commands() -> str:
    """Every process's command line, words separated by NUL."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((process / "cmdline").read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)


SMOKE = "scenarios/smoke/mkdir.yaml"


def one_line(done: subprocess.CompletedProcess[str], says: str, status: int) -> None:
    """The tool ended with ``status`` and one sentence, not with a traceback."""
    said = [line for line in (done.stderr + done.stdout).splitlines() if says in line]
    assert said, done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode == status


def test_without_root() -> None:
    argv = ["setpriv", "--reuid=65534", "--clear-groups", *COMMAND, "run", SMOKE]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=BOUND)
    one_line(done, "injecting faults needs root; run with sudo", 3)


def test_without_bcc(tmp_path: Path) -> None:
    """A module of that name that cannot be imported stands before the real one."""
    (tmp_path / "bcc.py").write_text("raise ImportError(\"No module named 'bcc'\", name='bcc')\n")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    command = [*COMMAND, "run", SMOKE]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=BOUND)
    one_line(done, "bcc is not installed for this Python", 3)


def test_with_a_function_that_returns_nothing(tmp_path: Path) -> None:
    own = tmp_path / "void.yaml"
    own.write_text("faults: [{function: d_instantiate, return: -EIO}]\nrun: 'true'\n")
    one_line(inject("run", str(own)), "d_instantiate returns nothing", 3)


def test_with_a_full_disk() -> None:
    one_line(inject("run", SMOKE, "--json", "/dev/full"), "cannot write /dev/full: No space left on device", 4)


def test_with_a_full_temporary_directory(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=2", "none", str(tmp_path)], check=True)
    try:
        done = inject("run", SMOKE, env={**os.environ, "TMPDIR": str(tmp_path)})
        one_line(done, "No space left on device", 4)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_with_an_unreadable_file(tmp_path: Path) -> None:
    """Root reads everything but what the kernel will not give it."""
    done = inject("run", "/proc/self/mem")
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert done.stderr.startswith("/proc/self/mem:1:1: ")


def test_on_a_kernel_without_the_option(tmp_path: Path) -> None:
    """The list of error-injectable functions is hidden, as a kernel without the option would."""
    hidden = Path("/sys/kernel/debug")
    subprocess.run(["mount", "--bind", str(tmp_path), str(hidden)], check=True)
    try:
        one_line(inject("run", SMOKE), "debugfs is not mounted; mount -t debugfs", 3)
        one_line(inject("doctor"), "not mounted. Fix: mount -t debugfs none /sys/kernel/debug", 3)
    finally:
        subprocess.run(["umount", str(hidden)], check=True)


def test_a_warm_start_needs_neither_headers_nor_compiler(kernel: Kernel, engine: Engine, tmp_path: Path) -> None:
    """What was kept is loaded with the headers hidden and the compiler broken; damaged, it is compiled again."""
    import bcc

    def broken(*_: object, **__: object) -> None:
        raise Exception("no compiler here")

    build = f"/lib/modules/{kernel.release}/build"
    subprocess.run(["mount", "--bind", str(tmp_path), build], check=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bcc, "BPF", broken)
            with Engine(kernel, cache_root() / "bytecode") as warm:
                assert not warm.compiled
            for file in (cache_root() / "bytecode").glob("*.bpf"):
                damaged = tmp_path / file.name
                damaged.write_bytes(file.read_bytes()[:-1])
                damaged.chmod(0o600)
            with pytest.raises(CannotRun, match="no compiler here"):
                Engine(kernel, tmp_path)
    finally:
        subprocess.run(["umount", build], check=True)


@pytest.mark.slow
def test_every_way_to_a_device_is_in_this_kernel(types: Types) -> None:
    """From each type of DEVICE_PATHS by its members to a dev_t, 32 bits without a sign."""
    btf = types.of("")
    assert len(DEVICE_PATHS) > 5
    names = {"struct " + btf._name(btf.type(number)[0].name): number for number in _structures(btf)}
    pointers = {btf.type(number)[0].size: number for number in _of_kind(btf, PTR)}
    for spelling, path in DEVICE_PATHS.items():
        found = walk(btf, 0, pointers[names[spelling.removesuffix(" *")]], path.split("."), path)
        assert (found.bits, found.signed, found.text) == (32, False, False), spelling
        assert len(found.offsets) == path.count(".") + 1 or spelling.startswith("struct bch"), spelling


def _of_kind(btf: Btf, kind: int) -> list[int]:
    return [number for number in range(1, btf.count) if btf.type(number)[0].kind == kind]


def _structures(btf: Btf) -> list[int]:
    return [number for number in _of_kind(btf, STRUCT) if btf.type(number)[0].name]
