"""Errors followed on their way up in the real kernel, checked against its source by hand."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import functools
import json
import mmap
import os
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable, Optional

import pytest

from inject import scenario as scenarios
from inject.engine import kprobe_multi as bpf
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.errors import InjectError
from inject.fixture.directory import remove_directory, trial_directory
from inject.fixture.filesystem import Fixture
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.errorpath import ErrorPath, Fate, describe
from inject.model.event import Injection
from inject.model.scenario import Filesystem, Probe
from inject.model.syscalls import call_name
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.propagation import watchlist
from inject.propagation.fate import Reader
from tests.support import ROOT
from tests.support.command import inject
from tests.support.workbench import WAYS

pytestmark = pytest.mark.test_kernel

GETPID, MKDIR = 39, 83
"""Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl)."""


(GETPID_FAILS,) = scenarios.parse("faults: [{function: __x64_sys_getpid, return: -EPERM}]\nrun: x\n", "t.yaml", "t")


class Bench:
    """A bcachefs, an engine, and children that fail in it."""

    def __init__(self, kernel: Kernel, engine: Engine, group: Cgroup, mountpoint: Path) -> None:
        self.kernel = kernel
        self.types = Types(kernel)
        self.reader = Reader(kernel, self.types)
        self.engine = engine
        self.group = group
        self.mountpoint = mountpoint
        found = kernel.ftrace.traceable_at(watchlist.pattern(["bcachefs"]))
        self.watch = watchlist.watched(found, kernel.ftrace.realigned(found))

    def follow(
        self,
        fault: str,
        call: Callable[[], Optional[int]],
        probe: Probe = Probe.AUTO,
        *,
        calls: int = 1,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> tuple[list[ErrorPath], list[Injection], list[int]]:
        """Let a child make ``call`` so often with ``fault`` armed: ways of errors, injections, what the calls gave."""
        (scenario,) = scenarios.parse(f"faults: [{fault}]\nrun: 'true'\n", "test.yaml", "test")
        plan = Planner(self.kernel, self.types, 1).plan(scenario)
        failed = {rule.point.address for rule in plan.rules}
        self.engine.attach(plan, probe, [address for address in self.watch if address not in failed])
        results = self.child(call, calls, meanwhile)
        fired = self.engine.poll(0) + self.engine.poll(0)
        trails = self.engine.trails(rest=True)
        assert self.engine.untraced() == 0
        self.engine.detach()
        ways = [
            self.reader.error_path(
                plan.rules[trail.fault].point,
                trail.fault,
                self.engine.written(trail.fault, trail.injected),
                trail.injected,
                self.engine.path(trail),
                "" if trail.call is None else call_name(trail.call),
                trail.result,
            )
            for trail in trails
        ]
        return ways, fired, results

    def child(self, call: Callable[[], Optional[int]], calls: int, meanwhile: Callable[[], None]) -> list[int]:
        """The errno, or 0, of every call of a child in the workload's group."""
        go_read, go = os.pipe()
        answer, answer_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(go_read, 1)
            found = []
            for _ in range(calls):
                try:
                    call()
                    found.append(0)
                except OSError as error:
                    found.append(error.errno or -1)
            os.write(answer_write, " ".join(map(str, found)).encode())
            os._exit(0)
        self.group.add(pid)
        self.engine.arm(self.group.id, self.group.level, 120.0)
        os.write(go, b"x")
        meanwhile()
        os.waitpid(pid, 0)
        self.engine.disarm()
        results = [int(word) for word in os.read(answer, 1 << 16).split()]
        for descriptor in (go_read, go, answer, answer_write):
            os.close(descriptor)
        return results


@pytest.fixture(scope="module")
def bench(kernel: Kernel, engine: Engine, janitor: Janitor) -> Iterator[Bench]:
    group = Cgroup.create(janitor)
    directory = trial_directory(janitor)
    fixture = Fixture(
        Filesystem("bcachefs", size=256 << 20), directory=directory, janitor=janitor, cgroup=group.child("tools")
    )
    fixture.open()
    yield Bench(kernel, engine, group.child("workload"), fixture.mountpoint)
    fixture.close()
    remove_directory(directory, janitor)
    group.close(janitor)


# ---------------------------------------------------------------- as users see it, before the bench takes a device


def test_an_error_that_goes_elsewhere_fails_the_scenario(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "faults: [{function: __x64_sys_mkdir, return: -EDQUOT}]\nrun: mkdir x || true\nexpect: {error: swallowed}\n"
    )
    report = tmp_path / "out.jsonl"
    done = inject("run", str(own), "--json", str(report))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 1 errors of __x64_sys_mkdir were not swallowed" in done.stdout
    events = [json.loads(line) for line in report.read_text().splitlines()]
    kinds = [event["type"] for event in events]
    assert kinds.index("error") == kinds.index("injection") + 1
    injection, error = (next(event for event in events if event["type"] == kind) for kind in ("injection", "error"))
    for key in ("scenario", "trial", "fault", "ordinal", "tid"):
        assert injection[key] == error[key]
    assert (error["fate"], error["call"], error["errno"], error["result"]) == ("propagated", "mkdir", "EDQUOT", -122)
    verdict = next(event for event in events if event["type"] == "verdict")
    assert verdict["reason"] == "errno" and verdict["errors"][0]["fate"] == "propagated"


@pytest.mark.slow
def test_an_ad_hoc_fault_followed() -> None:
    done = inject("fail", "__x64_sys_mkdir", "--return", "-EDQUOT", "--trace", "--", "mkdir", "/tmp/never")
    assert "inject: propagated: mkdir(2) failed with EDQUOT" in done.stderr


@pytest.mark.slow
def test_a_metadata_write_that_fails_has_no_system_call_above(tmp_path: Path) -> None:
    """journal_write_endio() in fs/bcachefs/journal_io.c asks dynamic_fault() when the write completes.

    It returns nothing, and is called by bio_endio(), which does not either: the error goes on in
    memory (bch2_fatal_error()), and what fsync(2) says comes from there.
    """
    report = tmp_path / "out.jsonl"
    scenario = str(ROOT / "scenarios/dynamic-fault/journal-write.yaml")
    done = inject("run", scenario, "--trace", "--json", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    errors = [event for event in map(json.loads, report.read_text().splitlines()) if event["type"] == "error"]
    assert errors and {error["fate"] for error in errors} == {"unseen"}
    for error in errors:
        assert error["path"][:2] == [
            {"function": "journal_write_endio", "returned": "void"},
            {"function": "bio_endio", "returned": "void"},
        ]
    assert "unseen: last carried by bch2_dynamic_fault" in done.stdout


# ---------------------------------------------------------------- path by path


def shown(path: ErrorPath) -> list[tuple[str, str]]:
    """Function and value of every caller."""
    return [(frame.function, frame.returned) for frame in path.frames]


def system_call(number: int, *arguments: object) -> Callable[[], None]:
    """A raw system call that raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call() -> None:
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "failed")

    return call


PROBES = pytest.mark.parametrize("probe", WAYS, ids=lambda probe: probe.value)


@PROBES
def test_a_system_call_failed_itself(bench: Bench, probe: Probe) -> None:
    """Nothing lies between the function and user space."""
    call = system_call(MKDIR, b"/tmp/never", 0o700)
    fault = "{function: __x64_sys_mkdir, return: -EDQUOT}"
    (path,), (injection,), results = bench.follow(fault, call, probe)
    assert results == [errno.EDQUOT]
    assert (path.fate, path.call, path.errno, path.frames) == (Fate.PROPAGATED, "mkdir", "EDQUOT", ())
    assert injection.stack[0].startswith(("__x64_sys_mkdir", "__do_sys_mkdir"))


@PROBES
def test_a_buffered_write_without_space(bench: Bench, probe: Probe) -> None:
    """__bch2_buffered_write() hands the reservation's error up; bch2_write_iter() makes it an errno.

    fs/bcachefs/fs-io-buffered.c; both are inlined into bch2_write_iter(). Then new_sync_write()
    (inlined) and vfs_write() in fs/read_write.c return what they are given.
    """
    file = os.open(bench.mountpoint / f"full-{probe.value}", os.O_CREAT | os.O_WRONLY)
    fault = (
        "{function: bch2_folio_reservation_get_partial, return: -BCH_ERR_ENOSPC_disk_reservation,"
        " when: {stack: [bch2_write_iter, ksys_write]}}"
    )
    ways, fired, results = bench.follow(fault, lambda: os.write(file, b"x" * 8192), probe)
    os.close(file)
    assert results == [errno.ENOSPC]
    path = ways[0]
    assert (path.fate, path.call, path.errno) == (Fate.PROPAGATED, "write", "ENOSPC")
    assert path.returned == "-BCH_ERR_ENOSPC_disk_reservation"
    assert shown(path) == [("bch2_write_iter", "-ENOSPC"), ("vfs_write", "-ENOSPC"), ("ksys_write", "-ENOSPC")]
    names = [frame.partition("+")[0] for frame in fired[0].stack]
    assert names[:4] == ["bch2_folio_reservation_get_partial", "bch2_write_iter", "vfs_write", "ksys_write"]
    assert not [name for name in names if "rethook" in name or name.startswith("0x")]


def test_a_function_that_aligns_its_frame_does_not_cut_the_path(bench: Bench) -> None:
    """A return probe on bch2_extent_fallocate() would: its frame has a copy of the return address."""
    assert bench.kernel.ftrace.realigned(bench.kernel.symbols.addresses("bch2_extent_fallocate"))
    file = os.open(bench.mountpoint / "allocated", os.O_CREAT | os.O_WRONLY)
    fault = (
        "{function: bch2_should_fail_disk_reservation, return: -BCH_ERR_ENOSPC_disk_reservation,"
        " when: {stack: [bch2_extent_fallocate]}}"
    )
    (path,), _, results = bench.follow(fault, lambda: os.posix_fallocate(file, 0, 1 << 20))
    os.close(file)
    assert results == [errno.ENOSPC]
    assert (path.fate, path.call, path.errno) == (Fate.PROPAGATED, "fallocate", "ENOSPC")


def test_a_write_that_fails_halfway_is_short(bench: Bench) -> None:
    """What was written before counts: the error is lost in the function that returns the number."""
    file = os.open(bench.mountpoint / "short", os.O_CREAT | os.O_WRONLY)
    fault = "{function: bch2_folio_reservation_get_partial, return: -ENOSPC, when: {after: 1}}"
    size = 8 << 20
    ways, fired, results = bench.follow(fault, lambda: os.write(file, b"x" * size))
    os.close(file)
    path = ways[0]
    assert results == [0] and fired
    assert (path.fate, path.where, path.call) == (Fate.SWALLOWED, "bch2_write_iter", "write")
    assert path.result is not None and 0 < path.result < size
    assert "a part of the work" in describe(path)


def test_readahead_that_finds_no_page_is_forgiven(bench: Bench) -> None:
    """page_cache_ra_order() in mm/readahead.c returns nothing: what it cannot add, do_page_cache_ra() tries again."""
    name = bench.mountpoint / "ahead"
    name.write_bytes(b"x" * 65536)
    descriptor = os.open(name, os.O_RDWR)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    fault = "{function: __filemap_add_folio, return: -ENOMEM, when: {stack: [page_cache_sync_ra, vfs_read], times: 1}}"
    ways, _, results = bench.follow(fault, lambda: os.pread(descriptor, 65536, 0) and None)
    os.close(descriptor)
    assert results == [0]
    (path,) = ways
    assert (path.fate, path.call, path.where) == (Fate.SWALLOWED, "pread64", "page_cache_ra_order")
    assert shown(path)[:2] == [("filemap_add_folio", "-ENOMEM"), ("page_cache_ra_order", "void")]


def test_every_injection_of_one_system_call_has_its_end(bench: Bench) -> None:
    """More of them than are watched at a time: the result of the call is that of all."""
    call = system_call(GETPID)
    ways, fired, results = bench.follow(
        "{function: __x64_sys_getpid, return: -EPERM, when: {every: 2}}", call, Probe.KPROBE, calls=40
    )
    assert results == [0, errno.EPERM] * 20
    assert [path.fate for path in ways] == [Fate.PROPAGATED] * 20 and len(fired) == 20


def test_a_task_that_waits_is_blocked(bench: Bench) -> None:
    """A pipe is written from a mapped file: the page fault's readahead fails, then the pipe is full."""
    name = bench.mountpoint / "mapped"
    name.write_bytes(b"x" * (256 << 10))
    descriptor = os.open(name, os.O_RDWR)
    os.fsync(descriptor)
    pages = mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    read_end, write_end = os.pipe()
    capacity = fcntl.fcntl(write_end, 1032)  # F_GETPIPE_SZ

    def until_full() -> None:
        deadline = time.monotonic() + 120
        filled = array.array("i", [0])
        while filled[0] < capacity and time.monotonic() < deadline:
            time.sleep(0.05)
            fcntl.ioctl(read_end, termios.FIONREAD, filled)
        bench.engine.disarm()
        left = len(pages)
        while left:
            left -= len(os.read(read_end, left))

    fault = "{function: __filemap_add_folio, return: -ENOMEM, when: {stack: [filemap_fault, pipe_write], times: 1}}"
    ways, fired, results = bench.follow(fault, lambda: os.write(write_end, pages), meanwhile=until_full)
    for each in (read_end, write_end):
        os.close(each)
    pages.close()
    os.close(descriptor)
    assert results == [0] and len(fired) == 1
    assert [(path.fate, path.call, path.result) for path in ways] == [(Fate.BLOCKED, "write", None)]


def test_without_sessions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux before 6.10 probes every return, of any task; what is seen is the same."""
    monkeypatch.setattr(bpf, "probe_returns", functools.partial(bpf.probe_returns, session=False))
    file = os.open(bench.mountpoint / "old", os.O_CREAT | os.O_WRONLY)
    fault = "{function: bch2_folio_reservation_get_partial, return: -EIO, when: {stack: [ksys_write]}}"
    ways, _, results = bench.follow(fault, lambda: os.write(file, b"x"))
    os.close(file)
    assert results == [errno.EIO]
    assert shown(ways[0]) == [("bch2_write_iter", "-EIO"), ("vfs_write", "-EIO"), ("ksys_write", "-EIO")]
    bench.engine.attach(Planner(bench.kernel, bench.types, 1).plan(GETPID_FAILS), Probe.AUTO)
    bench.engine.detach()


def test_nothing_is_watched_where_nobody_asks(bench: Bench) -> None:
    """The programs are loaded for that alone."""
    bench.engine.attach(Planner(bench.kernel, bench.types, 1).plan(GETPID_FAILS), Probe.AUTO)
    assert not watched_by(Path("/sys/kernel/tracing/enabled_functions").read_text().splitlines())
    assert bench.child(system_call(GETPID), 3, lambda: None) == [errno.EPERM] * 3
    bench.engine.poll(0)
    assert bench.engine.trails(rest=True) == []
    bench.engine.detach()


def watched_by(lines: Sequence[str]) -> list[str]:
    """bcachefs functions that something is attached to."""
    return [line for line in lines if line.startswith("bch2_write_iter")]


def test_functions_that_cannot_be_watched_are_said_so() -> None:
    with pytest.raises(InjectError, match="cannot trace errors by return probes"):
        bpf.probe_returns(b"\x95" + bytes(7), [1], "test")
