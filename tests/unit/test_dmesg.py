"""What counts as the kernel complaining, line by line as kernels print it."""

import re
from types import SimpleNamespace

import pytest

from inject.errors import Place
from inject.kernel.log import LogRecord
from inject.kernel.taint import taint_names
from inject.model.expression import Expression
from inject.model.scenario import Fault, Scenario
from inject.model.verdict import Reason
from inject.oracles.dmesg import BODY_LINES, Dmesg, find_splats, new_taint
from inject.process.matching import Runaway, matches

CUT = "------------[ cut here ]------------"
END = "---[ end trace 0000000000000000 ]---"
TRACE = ["Modules linked in:", "RIP: 0010:f+0x1/0x2", "Call Trace:", " <TASK>", " f+0x1/0x2", " </TASK>"]


def records(lines, facility=0):
    return [LogRecord(6, facility, number, number, line) for number, line in enumerate(lines)]


def titles(*lines):
    return [splat.title for splat in find_splats(records(lines))]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("KASAN", "BUG: KASAN: slab-use-after-free in bch2_x+0x1/0x2"),
        ("KASAN", "BUG: KFENCE: out-of-bounds read in f+0x1/0x2"),
        ("KASAN", "BUG: KCSAN: data-race in f / g"),
        ("UBSAN", "UBSAN: array-index-out-of-bounds in fs/bcachefs/x.c:3:4"),
        ("lockdep", "WARNING: possible circular locking dependency detected"),
        ("lockdep", "WARNING: possible recursive locking detected"),
        ("lockdep", "WARNING: inconsistent lock state"),
        ("lockdep", "WARNING: suspicious RCU usage"),
        ("lockdep", "WARNING: held lock freed!"),
        ("lockdep", "WARNING: lock held when returning to user space!"),
        ("lockdep", "WARNING: bad unlock balance detected!"),
        ("lockdep", "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected"),
        ("lockdep", "INFO: trying to register non-static key."),
        ("lockdep", "[ BUG: Invalid wait context ]"),
        ("atomic sleep", "BUG: scheduling while atomic: dd/12/0x00000002"),
        ("atomic sleep", "BUG: sleeping function called from invalid context at mm/x.c:3"),
        ("lockup", "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [dd:12]"),
        ("lockup", "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 32s!"),
        ("stall", "rcu: INFO: rcu_preempt self-detected stall on CPU"),
        ("stall", "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... } 21 jiffies s: 1"),
        ("stall", "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"),
        ("hung task", "INFO: task kworker/1:2:99 blocked for more than 120 seconds."),
        ("panic", "Kernel panic - not syncing: sysrq triggered crash"),
        ("BUG", "kernel BUG at fs/bcachefs/btree_iter.c:99!"),
        ("Oops", "Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP"),
        ("Oops", "general protection fault: 0000 [#1] SMP"),
        ("Oops", "stack segment: 0000 [#1] SMP"),
        ("Oops", "Unable to handle kernel NULL pointer dereference at virtual address 0"),
        ("Oops", "BUG: unable to handle page fault for address: ffffc90000000000"),
        ("BUG", "BUG: Bad page state in process dd  pfn:1"),
        ("BUG", "BUG kmalloc-64 (Not tainted): Poison overwritten"),
        ("corruption", "list_add corruption. next->prev should be prev"),
        ("corruption", "list_del corruption, ffff8880 is LIST_POISON2"),
        ("refcount", "refcount_t: underflow; use-after-free."),
        ("WARNING", "WARNING: CPU: 1 PID: 99 at fs/bcachefs/super.c:3 f+0x1/0x2"),
        ("WARNING", "WARNING: fs/bcachefs/super.c:3 at f+0x1/0x2, CPU#0: umount/3"),
        ("kmemleak", "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"),
        ("read-only", "bcachefs (vdc1): fatal error - emergency read only"),
        ("read-only", "EXT4-fs (vdc1): Remounting filesystem read-only"),
        ("read-only", "XFS (vdc1): Filesystem has been shut down due to log error (0x2)."),
        ("read-only", "BTRFS info (device vdc1 state E): forced readonly"),
        ("assertion", "XFS: Assertion failed: 0, file: fs/xfs/x.c, line: 3"),
    ],
)
def test_a_complaint_is_found_and_named(kind, line):
    (splat,) = find_splats(records(["before", line, "after"]))
    assert (splat.kind, splat.title) == (kind, line)


@pytest.mark.parametrize(
    "line",
    [
        "Huh VM_FAULT_OOM leaked out to the #PF handler. Retrying PF",
        "FAULT_INJECTION: forcing a failure.",
        "bcachefs (vdc1): recovering from unclean shutdown",
        "bcachefs (vdc1): error writing journal entry 44: I/O",
        "EXT4-fs (vdc1): warning: mounting unchecked fs, running e2fsck is recommended",
        "BTRFS warning (device vdc1): csum failed root 5",
        "Buffer I/O error on device vdc1, logical block 35840",
        "rcu: Hierarchical RCU implementation.",
        "Bluetooth: debug: nothing",
        "kmemleak: Kernel memory leak detector initialized",
        "traps: dd[12] general protection fault ip:1 sp:2 error:0 in x",
    ],
)
def test_noise_is_none(line):
    assert titles(line) == []


def test_a_warning_with_a_message_is_one_splat_with_its_trace():
    lines = ["x", CUT, "online_reserved not 0 at shutdown: 8", "WARNING: CPU: 0 PID: 1 at fs/x.c:1", *TRACE, END, "y"]
    (splat,) = find_splats(records(lines))
    assert splat.title == "online_reserved not 0 at shutdown: 8"
    assert splat.kind == "WARNING"
    assert splat.lines == lines[1:-1]


def test_a_death_is_one_splat_from_bug_to_panic():
    lines = [
        CUT,
        "kernel BUG at fs/x.c:1!",
        "Oops: invalid opcode: 0000 [#1] SMP",
        *TRACE,
        "Kernel panic - not syncing: x",
    ]
    (splat,) = find_splats(records(lines))
    assert (splat.kind, splat.lines) == ("BUG", lines)


def test_corruption_and_its_bug_are_one_and_keep_the_text():
    lines = [CUT, "list_del corruption, x is NULL", "kernel BUG at lib/list_debug.c:1!", *TRACE, END]
    (splat,) = find_splats(records(lines))
    assert (splat.kind, splat.title) == ("corruption", "list_del corruption, x is NULL")


def test_another_complaint_inside_a_body_is_its_own():
    first = ["WARNING: suspicious RCU usage", "6.12 Not tainted", "stack backtrace:"]
    assert titles(*first, "BUG: KASAN: use in f", " f+0x1", CUT, "WARNING: CPU: 0", END) == [
        "WARNING: suspicious RCU usage",
        "BUG: KASAN: use in f",
        "WARNING: CPU: 0",
    ]


def test_a_cut_that_leads_nowhere_is_a_splat_too():
    (splat,) = find_splats(records([CUT, *["what?"] * 20]))
    assert splat.kind == "unknown"
    assert find_splats(records([CUT, "half a sp"]))[0].kind == "unknown"


def test_a_body_is_bounded_and_says_so():
    (splat,) = find_splats(records(["BUG: x", *["more"] * 500]))
    assert len(splat.lines) == BODY_LINES and splat.cut


@pytest.mark.parametrize("line", ["inject: begin BUG: WARNING: trial 1 seed 2", "BUG: from a workload", CUT])
def test_a_line_of_user_space_is_never_a_splat(line):
    for facility in (1, 3, 16):
        assert find_splats(records([line], facility=facility)) == []
    assert len(find_splats(records([line], facility=0))) == 1


def test_a_line_of_user_space_inside_a_splat_is_left_out():
    head, *rest = records([CUT, "expected", "WARNING: CPU: 0", END])
    (splat,) = find_splats([head, *records(["BUG: not the kernel's"], facility=1), *rest])
    assert splat.lines == [CUT, "expected", "WARNING: CPU: 0", END]


def test_taint_by_name():
    assert taint_names(0) == []
    assert taint_names(1 << 9 | 1 << 7) == ["D (died: oops or BUG)", "W (warning)"]
    assert taint_names(1 << 25) == ["unknown bits 0x2000000"]


def test_an_allowed_splat_excuses_its_bit_only():
    allowed = find_splats(records([CUT, "expected", "WARNING: CPU: 0", END]))
    assert new_taint(0, 1 << 9, allowed) == 0
    assert new_taint(0, 1 << 9 | 1 << 7, allowed) == 1 << 7
    assert new_taint(0, 1 << 9, []) == 1 << 9
    assert new_taint(1 << 9, 1 << 9, []) == 0


class Log:
    """A reader with records to give once."""

    def __init__(self, lines, lost=0):
        self.pending = records(lines)
        self.lost = lost
        self.cut = False

    def finish_line(self, words):
        assert words

    def read(self):
        given, self.pending = self.pending, []
        return given


def judge(tmp_path, lines, allow=(), taint=(0, 0), lost=0):
    file = tmp_path / "tainted"
    oracle = Dmesg(file)
    log = Log([], lost)
    scenario = Scenario("s", "s.yaml", (Fault("f", "-EIO"),), "true", allow=tuple(allow))
    context = SimpleNamespace(scenario=scenario, log=log)
    file.write_text(f"{taint[0]}\n")
    oracle.before(context)
    log.pending = records(lines)
    oracle.settled(context)
    file.write_text(f"{taint[1]}\n")
    return oracle.after(context)


def test_the_complaint_carries_the_splat(tmp_path):
    complaint = judge(tmp_path, ["a", "BUG: one", "trace", "BUG: two"], taint=(0, 128))
    assert complaint.detail == "BUG: one (and 1 more); tainted: D (died: oops or BUG)"
    assert complaint.log == ("BUG: one", "trace", "BUG: two")
    assert (complaint.reason, complaint.inconclusive) == (Reason.DMESG, False)
    assert [part[0] for part in complaint.parts] == ["BUG: one", "BUG: two"]


def test_a_taint_that_no_splat_explains_is_a_part_of_its_own(tmp_path):
    parts = judge(tmp_path, ["BUG: one"], taint=(0, 128 | 512)).parts
    assert parts[1:] == (("tainted: W (warning)",),)


@pytest.mark.parametrize("pattern", ["online_reserved not 0", re.escape("WARNING: CPU: 0 PID: 1 at fs/x.c")])
def test_allow_matches_message_or_place_and_excuses_the_taint(tmp_path, pattern):
    lines = [CUT, "online_reserved not 0 at shutdown", "WARNING: CPU: 0 PID: 1 at fs/x.c:1", *TRACE, END]
    assert judge(tmp_path, lines, taint=(0, 512)) is not None
    assert judge(tmp_path, lines, [pattern], taint=(0, 512)) is None
    assert judge(tmp_path, lines, ["Call Trace"], taint=(0, 512)) is not None
    assert judge(tmp_path, [*lines, "BUG: other"], [pattern], taint=(0, 512)).detail == "BUG: other"


def test_taint_alone_is_a_complaint(tmp_path):
    assert judge(tmp_path, [], taint=(0, 512)).detail == "the kernel has new taint flags: W (warning)"
    assert judge(tmp_path, [], ["tainted: W"], taint=(0, 512)) is None
    assert judge(tmp_path, [], taint=(512, 512)) is None


def test_an_overflowed_log_is_no_clean_log(tmp_path):
    complaint = judge(tmp_path, ["fine"], lost=7)
    assert complaint.inconclusive and "7 lines were lost" in complaint.detail
    assert not judge(tmp_path, ["BUG: x"], lost=7).inconclusive


def test_an_expression_of_allow_that_does_not_end_is_an_error_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(matches, "__defaults__", (0.3,))
    pattern = Expression(r"^((\w|\W)+)+ZZZ$", "allow", Place("s.yaml", 40, 9))
    with pytest.raises(Runaway) as caught:
        judge(tmp_path, ["BUG: " + "a" * 60], [pattern])
    assert "of `allow` (s.yaml:40:9) did not end within 0.3 s (in the log: BUG: aaa" in str(caught.value)
