"""What is kept of a trial: complaints about the kernel, troubles of inject, and whether the kernel is still of use."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import Optional, cast

import pytest

from inject.errors import CannotRun, InjectError
from inject.model.verdict import Complaint, Counts, Reason
from inject.process.blocked import BlockedTask
from inject.process.cgroup import Cgroup
from inject.process.tool import Hung
from inject.process.workload import Outcome
from inject.trial.observe import Observation

STUCK = BlockedTask(7, 8, "dd", "D", "folio_wait_bit", "1", ("folio_wait_bit+0x1",))
READ_ONLY = Complaint(Reason.DMESG, "remounted read-only", notice=True)


def outcome(code: Optional[int] = 0, signal: Optional[int] = None, blocked: tuple[BlockedTask, ...] = ()) -> Outcome:
    return Outcome(code, signal, "said\n", 0, bool(blocked), blocked, 0, (), 0.5)


def raising(error: Exception) -> Optional[Complaint]:
    raise error


def test_a_complaint_carries_its_oracles_name() -> None:
    seen = Observation()
    seen.hear("fsck", lambda: Complaint(Reason.CHECK, "3 errors", ("line",)))
    seen.hear("leaks", lambda: None)
    assert seen.complaints == [Complaint(Reason.CHECK, "fsck: 3 errors", ("line",))]
    assert seen.troubles == []


def test_what_is_inconclusive_or_could_not_run_is_a_trouble() -> None:
    seen = Observation()
    seen.hear("dmesg", lambda: Complaint(Reason.DMESG, "7 lines were lost", inconclusive=True))
    seen.hear("fsck", lambda: raising(CannotRun("xfs_repair is not installed", "apt install xfsprogs")))
    assert seen.troubles == [
        "dmesg: 7 lines were lost",
        "fsck: xfs_repair is not installed; apt install xfsprogs",
    ]
    assert seen.complaints == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InjectError("the reader hangs"), "remount: the reader hangs"),
        (OSError(errno.EIO, "Input/output error"), "remount: Input/output error"),
        (OSError(errno.EPERM, "Operation not permitted", "/sys/x"), "remount: /sys/x: Operation not permitted"),
    ],
)
def test_what_one_check_cannot_do_costs_its_own_evidence_only(error: Exception, said: str) -> None:
    seen = Observation()
    assert seen.hear("dmesg", lambda: Complaint(Reason.DMESG, "BUG"))
    assert not seen.hear("remount", lambda: raising(error))
    assert seen.complaints == [Complaint(Reason.DMESG, "dmesg: BUG")] and seen.troubles == [said]


def test_a_notice_counts_only_where_no_check_explains_it() -> None:
    alone, explained = Observation(), Observation()
    explained.hear("fsck", lambda: Complaint(Reason.CHECK, "3 errors"))
    for seen in (alone, explained):
        seen.hear("dmesg", lambda: READ_ONLY)
    assert [complaint.reason for complaint in alone.complaints] == [Reason.DMESG]
    assert [complaint.reason for complaint in explained.complaints] == [Reason.CHECK]


def test_the_first_reason_why_a_kernel_is_unusable_is_kept() -> None:
    seen = Observation()
    seen.unkillable((), "run")
    assert seen.unusable == "" and seen.complaints == []
    seen.unkillable((STUCK,), "run")
    seen.undo(lambda: raising(InjectError("the device is busy")))
    seen.spoil("it has oopsed")
    assert seen.unusable == "dd/8 cannot be killed"


def test_a_task_that_cannot_be_killed_is_a_hang_with_its_stack() -> None:
    seen = Observation()
    seen.unkillable((STUCK,), "setup")
    seen.unkillable((STUCK,), "the trial")
    (hang,) = seen.complaints
    assert (hang.reason, hang.detail) == (Reason.HANG, "setup: dd/8 cannot be killed")
    assert hang.log[:2] == ("dd/8 state D in folio_wait_bit syscall 1", "    folio_wait_bit+0x1")


class Group:
    """A cgroup whose task ends after a kill, or does not."""

    def __init__(self, alive: bool, mortal: bool = True) -> None:
        self.alive, self.mortal, self.killed = alive, mortal, False

    def populated(self) -> bool:
        return self.alive

    def kill(self) -> None:
        self.killed, self.alive = True, not self.mortal

    def wait_empty(self, _seconds: float) -> bool:
        return not self.alive

    def procs(self) -> list[int]:
        return [os.getpid()]


@pytest.mark.parametrize(("alive", "mortal", "complaints"), [(False, True, 0), (True, True, 0), (True, False, 1)])
def test_what_a_check_left_is_killed_and_judged(alive: bool, mortal: bool, complaints: int) -> None:
    seen, group = Observation(), Group(alive, mortal)
    seen.look_for_stuck(cast(Cgroup, group), "fsck")
    assert (len(seen.complaints), group.killed) == (complaints, alive)
    assert bool(seen.unusable) is bool(complaints)


def test_a_task_that_cannot_be_killed_is_waited_for_once() -> None:
    seen, group = Observation(), Group(alive=True, mortal=False)
    seen.look_for_stuck(cast(Cgroup, group), "fsck")
    group.killed = False
    seen.look_for_stuck(cast(Cgroup, group), "remount")
    assert not group.killed and len(seen.complaints) == 1


def test_a_leftover_makes_the_kernel_unusable() -> None:
    seen = Observation()
    seen.undo(lambda: raising(InjectError("the device is busy")))
    assert seen.unusable == "the device is busy"


@pytest.mark.parametrize(("code", "signal", "shown"), [(0, None, 0), (7, None, 7), (None, 9, 137)])
def test_the_judge_is_given_all_of_it(code: Optional[int], signal: Optional[int], shown: int) -> None:
    seen = Observation(counts=(Counts(1, 1, 1),), errnos={("write", "EIO"): 2}, cut_short="the budget")
    seen.hear("dmesg", lambda: READ_ONLY)
    seen.troubles.append("no fsck")
    facts = seen.facts(outcome(code, signal, (STUCK,)))
    assert (facts.code, facts.output, facts.timed_out) == (shown, "said\n", True)
    assert facts.blocked and "dd" in facts.blocked[0]
    assert (facts.counts, facts.errnos, facts.cut_short) == (seen.counts, seen.errnos, "the budget")
    assert (facts.complaints, facts.troubles) == (tuple(seen.complaints), ("no fsck",))


def hung(task: BlockedTask) -> None:
    raise Hung("`rm -r /tmp/x` hangs in the kernel and cannot be killed", (task,))


@pytest.mark.parametrize(("state", "complaints"), [("D", 1), ("S", 0)])
def test_a_removal_that_the_kernel_blocks_is_a_hang(state: str, complaints: int) -> None:
    seen = Observation()
    seen.undo(lambda: hung(replace(STUCK, state=state)))
    assert [complaint.reason for complaint in seen.complaints] == [Reason.HANG] * complaints
    words = "`rm -r /tmp/x` hangs in the kernel and cannot be killed; it waited in folio_wait_bit+0x1"
    assert [complaint.detail for complaint in seen.complaints] == [words] * complaints
    assert seen.unusable
