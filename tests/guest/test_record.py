"""Recording on a real kernel: exact counts, whole stack traces, the scope of faults, and every loss named."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Callable

import pytest

from inject import scenario as scenarios
from inject.engine import kprobe_multi
from inject.engine.context import preempt_count
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.engine.recorder import Recorded, Recorder
from inject.kernel.kernel import Kernel
from inject.kernel.text_symbols import TextSymbols
from inject.kernel.types import Types
from inject.model.reached import Point
from inject.model.scenario import Fault, Probe, When
from inject.process.cgroup import Cgroup
from inject.record.families import UNCHECKED
from inject.record.points import points_of
from inject.scenario.writer import fault_keys, to_yaml
from inject.store import cache_root
from tests.guest.test_engine import in_group
from tests.support.command import inject
from tests.support.workbench import KPROBES, guest_only

MKDIR, MKDIRAT = 83, 258
"""Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl)."""
AT_FDCWD = -100
LIBC = ctypes.CDLL(None)


@pytest.fixture(scope="module")
def symbols(kernel: Kernel) -> TextSymbols:
    return TextSymbols(kernel.symbols.text())


class Bench:
    """Records children of the test."""

    def __init__(self, kernel: Kernel, types: Types, symbols: TextSymbols, group: Cgroup) -> None:
        self._kernel = kernel
        self._types = types
        self._symbols = symbols
        self._group = group

    def record(
        self,
        names: Collection[str],
        work: Callable[[], object],
        *,
        elsewhere: Callable[[], object] = lambda: None,
        room: int = 1024,
        any_task: bool = False,
    ) -> tuple[Recorded, tuple[Point, ...], str]:
        """What a child reaches of the functions ``names`` in ``work``, while the test itself is ``elsewhere``."""
        functions = {symbol.address: symbol for name in names for symbol in self._symbols.named(name)}
        assert len(functions) == len(names)
        context = preempt_count(self._types)
        assert context is not None
        cache = cache_root() / "bytecode"
        with Recorder(self._kernel, functions, context, room=room, cache=cache) as recorder:
            assert recorder.attach() == []
            recorder.arm(self._group.id, self._group.level, any_task=any_task)
            child = os.fork()
            if not child:
                try:
                    (self._group.path / "cgroup.procs").write_text(str(os.getpid()))
                    work()
                finally:
                    os._exit(0)
            elsewhere()
            os.waitpid(child, 0)
            recorder.detach()
            recorded = recorder.read()
            few = recorder.few
        return recorded, points_of(recorded.points, functions, self._symbols.frame), few


@pytest.fixture()
def recorded(kernel: Kernel, types: Types, symbols: TextSymbols, group: Cgroup) -> Iterator[Bench]:
    yield Bench(kernel, types, symbols, group)
    assert not KPROBES.read_text()


def directories(of_mkdir: int, of_mkdirat: int) -> None:
    """So many calls of the one, then of the other, that fail."""
    for _ in range(of_mkdir):
        LIBC.syscall(MKDIR, b"/", 0)
    for _ in range(of_mkdirat):
        LIBC.syscall(MKDIRAT, AT_FDCWD, b"/", 0)


def callers(point: Point) -> list[str]:
    return [frame.partition("+")[0] for frame in point.stack]


def test_each_way_to_a_function_is_a_point_with_its_hits_and_first_call(recorded: Bench) -> None:
    """Calls of the test itself, which is out of scope, are in none."""
    raw, (one, other), few = recorded.record(
        ["do_mkdirat", "do_rmdir"], lambda: directories(7, 5), elsewhere=lambda: directories(3, 3)
    )
    assert (callers(one)[0], one.hits, one.first) == ("__x64_sys_mkdir", 7, 1)
    assert (callers(other)[0], other.hits, other.first) == ("__x64_sys_mkdirat", 5, 8)
    assert callers(one)[1:] == callers(other)[1:]
    assert "do_syscall_64" in callers(one) and callers(one)[-1].startswith("entry_SYSCALL_64")
    assert sorted(raw.calls.values()) == [0, 12]
    assert (raw.losses.full, raw.losses.untraced, raw.losses.unknown, few) == (0, 0, 0, "")


@pytest.mark.parametrize("probe", [Probe.AUTO, Probe.MODULE], ids=lambda probe: probe.value)
def test_a_fault_fails_one_point_and_no_other(
    recorded: Bench, engine: Engine, kernel: Kernel, types: Types, group: Cgroup, probe: Probe
) -> None:
    """Its `stack` is that of the point, as a scenario writes it."""
    _, points, _ = recorded.record(["do_mkdirat"], lambda: directories(7, 5))
    for point, calls in zip(points, (7, 5)):
        fault = Fault(point.function, "-ENOSPC", when=When(stack=point.stack))
        text = to_yaml({"faults": [fault_keys(fault)], "run": "true"})
        (scenario,) = scenarios.parse(text, "t.yaml", "t")
        assert scenario.faults[0].when.stack == point.stack
        engine.attach(Planner(kernel, types, 1).plan(scenario), probe)
        in_group(engine, group, lambda: directories(7, 5))
        (counts,) = engine.counts()
        engine.detach()
        assert (counts.seen, counts.matched, counts.injected) == (12, calls, calls), point


def test_what_finds_no_room_is_counted(recorded: Bench) -> None:
    raw, points, _ = recorded.record(["do_mkdirat"], lambda: directories(7, 5), room=1)
    assert [point.hits for point in points] == [7]
    assert (raw.losses.full, sum(raw.calls.values())) == (5, 12)


def test_kprobes_record_the_same(recorded: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without CONFIG_FPROBE has nothing else."""
    _, many, _ = recorded.record(["do_mkdirat", "do_rmdir"], lambda: directories(2, 3))

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(kprobe_multi, "probe_entries", refuse)
    _, some, few = recorded.record(["do_mkdirat", "do_rmdir"], lambda: directories(2, 3))
    assert some == many and len(some) == 2
    assert "CONFIG_FPROBE" in few


def test_all_cpus_count_exactly(recorded: Bench) -> None:
    """Eight tasks meet in the same points."""

    def work() -> None:
        threads = [threading.Thread(target=directories, args=(250, 250)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    raw, points, _ = recorded.record(["do_mkdirat"], work)
    assert [point.hits for point in points] == [2000, 2000]
    assert sum(raw.calls.values()) == 4000 and raw.losses.full == 0
    assert min(point.first for point in points) == 1


def busy() -> None:
    end = time.monotonic() + 3
    while time.monotonic() < end:
        directories(20, 0)


@pytest.mark.parametrize("any_task", [False, True], ids=["workload", "any"])
def test_interrupts_are_out_of_scope_unless_asked_for(recorded: Bench, any_task: bool) -> None:
    """Timers wake tasks in interrupts on top of the workload, system calls do it as well."""
    _, points, _ = recorded.record(["try_to_wake_up"], busy, any_task=any_task)
    inside = [point for point in points if any("interrupt" in caller for caller in callers(point))]
    assert bool(inside) == any_task, points


# ---------------------------------------------------------------- the command

FAMILIES = (
    *(
        "bch2_*write*",
        "bch2_truncate*",
        "bch2_folio_*",
        "bch2_inode_*",
        "bch2_create*",
        "bch2_unlink*",
        "bch2_setattr*",
    ),
    *("bch2_fpunch*", "bch2_dirent_*", "bch2_trans_update*", "bch2_get_folio*", "bch2_disk_*", "bch2_trigger_*"),
)
"""Not what searches a b-tree's nodes: their shape depends on random numbers."""
MIX = """
name: mix
filesystem: {type: bcachefs}
faults: [{function: bch2_truncate, return: -EIO}]
run: |
  for i in 1 2 3; do
    head -c 262144 /dev/zero >$MNT/f
    truncate -s 10000 $MNT/f
    truncate -s 200000 $MNT/f
    rm $MNT/f
  done
"""


def command(text: str, tmp_path: Path, *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """`inject record` of a scenario: exit code, JSON lines, and what it prints."""
    (tmp_path / "one.yaml").write_text(text)
    done = inject("record", tmp_path / "one.yaml", "--json", tmp_path / "out.jsonl", *words)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    return done.returncode, [json.loads(line) for line in lines], done.stdout + done.stderr


def kind(events: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == name]


@guest_only
def test_two_recordings_of_a_write_and_truncate_mix_find_the_same_points(tmp_path: Path) -> None:
    words = [word for family in FAMILIES for word in ("--functions", family)]
    found = []
    for number in range(2):
        status, events, said = command(MIX, tmp_path, *words)
        assert status == 0, said
        points, skipped = kind(events, "point"), kind(events, "skipped")
        functions = {point["function"] for point in points}
        assert f"mix: {len(points)} points of {len(functions)} functions, " in said, number
        assert {"bch2_truncate", "bch2_write_iter", "bch2_create"} <= functions
        assert {one["why"] for one in skipped if one["function"] == "bch2_writepage_io_done"} <= {
            "returns nothing, so it cannot return an error"
        }
        for function in functions:
            first = [point["first"] for point in points if point["function"] == function]
            assert 1 in first and len(set(first)) == len(first), function
        found.append({point["id"] for point in points})
    assert found[0] == found[1]
    assert len(found[0]) > 100


@guest_only
def test_what_the_command_loses_is_an_error(tmp_path: Path) -> None:
    status, events, said = command(MIX, tmp_path, "--functions", "bch2_*", "--room", "10")
    assert status == 4
    assert len(kind(events, "point")) == 10
    (verdict,) = kind(events, "verdict")
    assert "found no room among 10 points" in verdict["detail"] and "--room 80" in verdict["detail"]
    assert verdict["detail"] in said


SHORT = "name: short\nfaults: [{function: vfs_mkdir, return: -EIO}]\n"


def test_a_workload_that_reaches_nothing(tmp_path: Path) -> None:
    status, events, said = command(SHORT + "run: 'true'\n", tmp_path, "--functions", "vfs_rename")
    assert (status, kind(events, "point")) == (0, [])
    assert "short: 0 points of 0 functions, 0 calls" in said


def test_a_workload_that_never_ends(tmp_path: Path) -> None:
    text = SHORT + "timeout: 2\nrun: mkdir x; sleep 1000\n"
    status, events, said = command(text, tmp_path, "--functions", "vfs_mkdir")
    assert (status, [point["function"] for point in kind(events, "point")]) == (4, ["vfs_mkdir"])
    assert "`run` did not end within" in said


def test_a_workload_that_fails_without_a_fault_is_said_so(tmp_path: Path) -> None:
    status, events, said = command(SHORT + "run: mkdir x; exit 7\n", tmp_path, "--functions", "vfs_mkdir")
    assert (status, kind(events, "verdict")[0]["exit"]) == (0, 7)
    assert "note: `run` exited with 7, with no fault armed" in said


def test_functions_that_are_not_there(tmp_path: Path) -> None:
    status, events, said = command(SHORT + "run: 'true'\n", tmp_path, "--functions", "no_such_*")
    assert (status, kind(events, "point")) == (3, [])
    assert "no function of this kernel matches 'no_such_*'" in said


@guest_only
def test_only_functions_whose_callers_check(tmp_path: Path) -> None:
    """ext4_lookup() is called by a pointer only (ext4_dir_inode_operations, fs/ext4/namei.c)."""
    text = SHORT + "filesystem: {type: ext4}\nrun: mkdir $MNT/x; rmdir $MNT/x\n"
    families = [word for name in ("ext4_lookup", "ext4_add_entry", "ext4_*inode*") for word in ("--functions", name)]
    status, events, said = command(text, tmp_path, *families, "--checked")
    assert status == 0, said
    points, skipped = kind(events, "point"), kind(events, "skipped")
    assert "ext4_add_entry" in {point["function"] for point in points}
    assert UNCHECKED in {one["why"] for one in skipped if one["function"] == "ext4_lookup"}
    assert not {point["function"] for point in points} & {one["function"] for one in skipped}
