"""Signatures of findings: real failed trials of stock 6.12, and what may differ between two of one cause."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject.model.reached import Point
from inject.model.verdict import Reason, Status, Verdict
from inject.sweep.signature import LONGEST, TOP, digest, is_generic, name_of, normalised, signature
from tests.support import ROOT

POINT = Point("bch2_x", "bcachefs", ("bch2_caller.isra.0+0x12 [bcachefs]", "bch2_outer+0x9 [bcachefs]"))
FAILED = [json.loads(line) for line in (ROOT / "tests/data/findings/failed.jsonl").read_text().splitlines()]
"""Trials of two sweeps of bcachefs, and of scenarios of the library, as their journals had them."""


def failed(detail: str, log: str = "", reason: Reason = Reason.DMESG, point: Point = POINT) -> str:
    return signature(Verdict("mix/x", Status.FAIL, reason, detail, log=tuple(log.splitlines())), point)


def of(line: dict[str, Any], **changes: Any) -> str:
    line = {**line, **changes}
    point = Point(line["function"], line["module"], tuple(line["stack"]))
    return failed(line["detail"], "\n".join(line["log"]), Reason(line["reason"]), point)


@pytest.mark.parametrize("line", FAILED, ids=lambda line: line["signature"])
def test_what_real_trials_have_in_common(line: dict[str, Any]) -> None:
    assert of(line) == line["signature"]


@pytest.mark.parametrize("line", FAILED, ids=lambda line: line["signature"])
def test_what_differs_from_boot_to_boot_is_not_in_it(line: dict[str, Any]) -> None:
    """Addresses, numbers, process ids, times, CPUs and the directory of the trial: all of them changed at once."""

    def other(text: str) -> str:
        text = re.sub(r"ff[0-9a-f]{14}", "ff11aabb22cc33dd", text)
        text = re.sub(r"PID: \d+", "PID: 77", text.replace("CPU: 1 ", "CPU: 0 "))
        text = re.sub(r"/tmp/inject-\d+-\w+", "/tmp/inject-9-0", text)
        text = re.sub(r"^\[ *\d+\.\d+\]", "[    7.000001]", text)
        return re.sub(r"\b(seq|inode) ?\d+", r"\g<1> 99", text)

    changed = {**line, "detail": other(line["detail"]), "log": [other(text) for text in line["log"]]}
    assert changed["log"] != line["log"] or line["reason"] == "check"
    assert of(changed) == line["signature"]


def test_the_offsets_of_another_build_do_not_count() -> None:
    for line in FAILED:
        log = [re.sub(r"\+0x[0-9a-f]+/0x", "+0x1234/0x", text) for text in line["log"]]
        stack = [re.sub(r"\+0x[0-9a-f]+", "+0x77", frame) for frame in line["stack"]]
        assert of(line, log=log, stack=stack) == line["signature"]


OOPS = """\
[    3.123456] BUG: unable to handle page fault for address: ff11223344556677
[    3.123456] RIP: 0010:{rip}+0x12/0x40
[    3.123456] Call Trace:
[    3.123456]  <TASK>
[    3.123456]  ? __die+0x20/0x70
[    3.123456]  exc_page_fault+0x79/0x180
[    3.123456]  asm_exc_page_fault+0x26/0x30
[    3.123456]  {caller}+0x97/0x1000 [xfs]
[    3.123456]  ? guessed+0x1/0x2
[    3.123456]  xfs_outer+0x97/0x1000 [xfs]
[    3.123456]  xfs_outermost+0x97/0x1000 [xfs]
[    3.123456]  do_syscall_64+0x93/0x1b0
[    3.123456]  </TASK>
"""
PANIC = "with f = -EIO armed, the guest panicked: BUG: unable to handle page fault for address: ff11 (x); the last of 1"


def crashed(rip: str = "xfs_inner", caller: str = "xfs_caller", before: str = "") -> str:
    return failed(PANIC, before + OOPS.format(rip=rip, caller=caller), Reason.CRASH)


def test_a_crash_is_known_by_where_the_kernel_died() -> None:
    assert crashed() == "crash: Oops: xfs_inner < xfs_caller < xfs_outer"
    assert crashed(caller="xfs_other") != crashed()
    assert crashed(rip="xfs_other") != crashed()


def test_functions_that_any_bug_may_be_seen_in_are_left_out() -> None:
    expected = "crash: Oops: xfs_caller < xfs_outer < xfs_outermost"
    assert [crashed(rip=rip) for rip in ("kfree", "__list_del_entry_valid_or_report", "inject_handler")] == [
        expected
    ] * 3


def test_a_warning_before_the_crash_does_not_give_it_its_name() -> None:
    warning = OOPS.format(rip="ext4_warned", caller="ext4_caller")
    assert crashed(before=warning) == crashed()


def test_a_console_that_was_cut_in_its_head_is_known_by_the_rest() -> None:
    """Of the two real ones, one log has `Call Trace:` and the other begins at `<TASK>`."""
    crashes = [line for line in FAILED if "btree_node_hash_insert" in line["function"]]
    assert len(crashes) == 2 and len({line["signature"] for line in crashes}) == 1
    assert len({any("Call Trace" in text for text in line["log"]) for line in crashes}) == 2


def test_a_report_of_kasan_is_known_by_who_touched_the_memory() -> None:
    log = """\
BUG: KASAN: slab-use-after-free in bch2_read+0x31/0x90 [bcachefs]
Read of size 8 at addr ffff888012345678 by task dd/77
Call Trace:
 <TASK>
 dump_stack_lvl+0x5d/0x80
 print_report+0x171/0x4f7
 kasan_report+0xda/0x110
 __asan_report_load8_noabort+0x1/0x20
 bch2_read+0x31/0x90 [bcachefs]
 bch2_readpages+0x31/0x90 [bcachefs]
 </TASK>

Allocated by task 76:
 kasan_save_stack+0x33/0x60
 bch2_alloc+0x3/0x9 [bcachefs]
"""
    title = "dmesg: BUG: KASAN: slab-use-after-free in bch2_read+0x31/0x90 [bcachefs]"
    assert failed(title, log) == "dmesg: KASAN: bch2_read < bch2_readpages"


def test_frames_of_an_nmi_are_not_those_of_the_task() -> None:
    log = "Call Trace:\n <NMI>\n watchdog_x+0x1/0x2\n </NMI>\n <TASK>\n xfs_loop+0x1/0x9 [xfs]\n </TASK>"
    assert failed("dmesg: watchdog: BUG: soft lockup - CPU#1 stuck for 26s!", log) == "dmesg: lockup: xfs_loop"


def test_a_message_without_a_stack_is_known_by_its_words_and_the_point() -> None:
    first = failed("dmesg: kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak); tainted: X")
    assert first == (
        "dmesg: kmemleak: N new suspected memory leaks (see /sys/kernel/debug/kmemleak): bch2_x < bch2_caller"
    )
    assert first == failed(
        "after the end of mix/x: kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"
    )


def test_a_guest_that_ended_without_a_word() -> None:
    found = failed(
        "with f = -EIO armed, the guest ended: it was reset; the last of 1 injection: f", reason=Reason.CRASH
    )
    assert found == "crash: the guest ended: it was reset: bch2_x < bch2_caller"


def test_a_check_is_known_by_its_name_and_the_point() -> None:
    found = failed("fsck: `fsck -n /dev/vdd1` exited with 1: inode 4097; also: remount: no", reason=Reason.CHECK)
    assert found == "check: fsck: bch2_x < bch2_caller"
    assert found == failed("fsck: `fsck -n /dev/loop3` exited with 4: extents 9", reason=Reason.CHECK)
    assert found != failed("remount: no", reason=Reason.CHECK)
    assert found != failed("fsck: no", reason=Reason.CHECK, point=Point("bch2_y", "bcachefs", POINT.stack))
    unmounted = failed("/tmp/inject-8-a1b2/mnt is still busy after 30 s", reason=Reason.CHECK)
    assert unmounted == "check: DIR/mnt is still busy after N s: bch2_x < bch2_caller"


def test_a_filesystem_that_stopped_writing_is_said_so() -> None:
    """It explains why a file cannot be read, too, so both are one finding."""
    recovery = "recovery: after disarming, an ordinary operation fails: mkdir: Read-only file system"
    assert failed(recovery, reason=Reason.CHECK) == "check: read-only: bch2_x < bch2_caller"
    found = failed(f"coherence: a: Input/output error; also: {recovery}", reason=Reason.CHECK)
    assert found == "check: read-only: bch2_x < bch2_caller"


BLOCKED = """\
bash/300 state S in do_wait syscall 61 0x1
    do_wait+0x60
    kernel_wait4+0xa0
touch/{pid} state D in percpu_rwsem_wait syscall 257 0xffffff9c 0x7ffd
    percpu_rwsem_wait+0x100
    __percpu_down_read+0x3f
    mnt_want_write+0x8a
    open_last_lookups+0x371 [xfs]
    path_openat+0x150
"""


def test_a_hang_is_known_by_where_its_first_blocked_task_waits() -> None:
    found = failed("the workload was still running after 5 s", BLOCKED.format(pid=301), Reason.HANG)
    assert found == "hang: mnt_want_write < open_last_lookups < path_openat"
    assert found == failed("the workload was still running after 15 s", BLOCKED.format(pid=77), Reason.HANG)


def test_a_guest_that_hangs_shows_its_tasks_on_the_console() -> None:
    log = """\
[   88.1] task:kworker/1:1     state:I stack:0     pid:44    tgid:44    ppid:2      flags:0x00004000
[   88.1] task:rm              state:D stack:0     pid:307   tgid:307   ppid:300    flags:0x00000002
[   88.1] Call Trace:
[   88.1]  <TASK>
[   88.1]  __schedule+0x3f6/0xb80
[   88.1]  schedule+0x27/0xf0
[   88.1]  ? guessed+0x1/0x2
[   88.1]  __closure_sync+0x5e/0xa0
[   88.1]  bch2_wait_on_allocator+0x10c/0x1a0 [bcachefs]
[   88.1]  bch2_write+0x3/0x4 [bcachefs]
[   88.1]  </TASK>
"""
    assert (
        failed("the guest hung: no heartbeat for 90 s", log, Reason.HANG) == "hang: bch2_wait_on_allocator < bch2_write"
    )


NMI = """\
[   87.8] Kernel panic - not syncing: NMI: Not continuing
[   87.8] Call Trace:
[   87.8]  <NMI>
[   87.8]  panic+0x118/0x2db
[   87.8]  end_repeat_nmi+0xf/0x53
[   87.8] RIP: 0010:{rip}+0xf/0x20
[   87.8] RAX: 0000000000000000 RBX: 0000000000000000 RCX: 0000000000000001
[   87.8]  ? pv_native_safe_halt+0xf/0x20
[   87.8]  </NMI>
[   87.8]  <TASK>
[   87.8]  {caller}+0x269/0x2a0
[   87.8]  outer+0x29/0x30
[   87.8]  </TASK>
"""


def test_a_guest_that_hangs_is_known_by_where_its_cpu_loops() -> None:
    """The host sends an NMI, on which the kernel panics. An idle CPU says nothing of the hang."""
    said = "with f = -EIO armed, the guest hung: no heartbeat for 30 s"
    assert failed(said, NMI.format(rip="bch2_spins", caller="bch2_waits"), Reason.HANG) == (
        "hang: bch2_spins < bch2_waits < outer"
    )
    idle = NMI.format(rip="pv_native_safe_halt", caller="do_idle")
    assert failed(said, idle, Reason.HANG) == "hang: bch2_x < bch2_caller"


def test_a_hang_that_shows_no_task_is_known_by_the_point() -> None:
    assert failed("the workload was still running after 5 s", "", Reason.HANG) == "hang: bch2_x < bch2_caller"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("journal seq 23", "journal seq N"),
        ("`fsck.ext4 -fn /dev/vdd1` exited with 4", "`fsck.ext4 -fn DEV` exited with N"),
        ("vdb: error at 0x12ab and ffff888012345678", "DEV: error at N and N"),
        ("/tmp/inject-168-2c6a2a75/mnt: Input/output error", "DIR/mnt: Input/output error"),
        ("bch2_read in ext4 of fs/xfs", "bch2_read in ext4 of fs/xfs"),
        ("first\nsecond", "first"),
        ("", ""),
    ],
)
def test_words_without_what_differs(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_a_frame_is_the_name_of_its_function() -> None:
    frames = ("f+0x1 [m]", "f.isra.0+0x2", "f.constprop.0.cold+0x3 [m]", "f#2+0x1", "f")
    assert {name_of(frame) for frame in frames} == {"f"}


@pytest.mark.parametrize("name", ["dump_stack_lvl", "__warn", "warn_slowpath_fmt", "die_addr", "bpf_prog_1234_x"])
def test_generic_frames(name: str) -> None:
    assert is_generic(name)


@pytest.mark.parametrize(
    "name", ["bch2_btree_node_alloc", "xfs_trans_commit", "ext4_warned", "vfs_write", "inode_init"]
)
def test_frames_that_say_where(name: str) -> None:
    assert not is_generic(name)


@given(st.text(max_size=300), st.lists(st.text(max_size=80), max_size=9), st.sampled_from(Reason))
def test_any_verdict_has_one_line_of_bounded_length(detail: str, log: list[str], reason: Reason) -> None:
    found = signature(Verdict("a", Status.FAIL, reason, detail, log=tuple(log)), POINT)
    assert found and len(found) <= LONGEST and len(found.splitlines()) == 1
    assert found.count(" < ") <= TOP or reason not in (Reason.CRASH, Reason.HANG)
    assert re.fullmatch("[0-9a-f]{8}", digest(found))
