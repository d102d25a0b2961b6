"""Observations of one trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Callable, Optional

from inject.errors import InjectError
from inject.model.errorpath import ErrorPath
from inject.model.verdict import Complaint, Counts, Reason
from inject.process.blocked import BlockedTask, kernel_threads, tasks_of
from inject.process.cgroup import Cgroup
from inject.process.matching import Runaway
from inject.process.tool import Hung
from inject.process.workload import GRACE, Outcome
from inject.trial.judge import Facts


@dataclass
class Observation:
    """Observations of one trial, collected as it runs."""

    notes: list[str] = field(default_factory=list)
    """Remarks for the verdict that do not change its status."""
    errors: list[ErrorPath] = field(default_factory=list)
    """Where injected errors went, one for each injection that was traced."""
    complaints: list[Complaint] = field(default_factory=list)
    """What the oracles and ``recover`` found."""
    troubles: list[str] = field(default_factory=list)
    """Checks that inject or the machine failed to make; the kernel is not judged by them."""
    readers: list[str] = field(default_factory=list)
    """Stacks of readers and programs that were out of time after the workload."""
    kernel_log: tuple[str, ...] = ()
    """The last lines of the kernel's log, if it was checked."""
    unusable: str = ""
    """Why this kernel must not run another trial; "" if it may."""
    runaway: str = ""
    """The regular expression of the scenario that could not be matched in time; "" if all could."""
    cut_short: str = ""
    """Why inject ended injection before the scenario's own conditions did; "" if it did not."""
    counts: tuple[Counts, ...] = ()
    exit: Optional[int] = None
    """The workload's exit code as a shell gives it; None if it never ran."""
    workload: float = 0.0
    """Seconds that the workload ran."""
    errnos: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By system call and errno: how often user space saw it."""
    uncounted: int = 0
    """Failed system calls that found no room in the table of ``errnos``."""

    def hear(self, name: str, ask: Callable[[], Optional[Complaint]]) -> bool:
        """Record what ``ask`` returns: a complaint about the kernel, or a trouble of inject or the machine.

        Returns False if the question could not be asked; that costs no other check its evidence.
        """
        try:
            said = ask()
        except Runaway as error:
            self.runaway = self.runaway or f"{name}: {error}"
            return False
        except Hung as error:
            self.troubles.append(f"{name}: {error}")
            self.hung(error.blocked, name)
            return False
        except InjectError as error:
            self.troubles.append(f"{name}: {error}")
            return False
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            self.troubles.append(f"{name}: {place}{error.strerror or error}")
            return False
        if said is None:
            return True
        if said.notice and any(complaint.reason is Reason.CHECK for complaint in self.complaints):
            return True
        if said.inconclusive:
            self.troubles.append(f"{name}: {said.detail}")
        else:
            self.complaints.append(replace(said, detail=f"{name}: {said.detail}"))
        return True

    def undo(self, action: Callable[[], None]) -> None:
        """Do ``action``. What it leaves behind does not change the verdict: no other trial may run on this kernel.

        But if it waits in the kernel until its time is up, the kernel has left something locked: that is a hang.
        """
        try:
            action()
        except Hung as error:
            waiting = next((task for task in error.blocked if task.state == "D"), None)
            if waiting is not None and not self.has_unkillable:
                where = waiting.stack[0] if waiting.stack else waiting.wchan
                evidence = stacks((*error.blocked, *kernel_threads()))
                self.complaints.append(Complaint(Reason.HANG, f"{error}; it waited in {where}", evidence))
            self.spoil(str(error))
        except InjectError as error:
            self.spoil(str(error))

    def spoil(self, why: str) -> None:
        """No other trial may run on this kernel; the first reason is kept."""
        self.unusable = self.unusable or why

    def hung(self, blocked: Sequence[BlockedTask], name: str) -> None:
        """Keep the stacks of a reader or program that was out of time; one that waits in the kernel is the last."""
        self.readers += stacks(blocked)
        waiting = next((task for task in blocked if task.state == "D"), None)
        if waiting is not None:
            self.spoil(f"{name}: {waiting.comm}/{waiting.tid} hung in the kernel")

    def unkillable(self, tasks: Sequence[BlockedTask], name: str) -> None:
        """Complain about tasks of ``name`` that SIGKILL did not end: they hang in the kernel.

        Only the first call counts: later ones find the same tasks, or those that wait for them.
        """
        if not tasks or self.has_unkillable:
            return
        names = ", ".join(f"{task.comm}/{task.tid}" for task in tasks[:3])
        count = len(tasks) + sum(task.left_out for task in tasks)
        more = f" and {count - 3} more" if count > 3 else ""
        detail = f"{names}{more} cannot be killed"
        self.spoil(detail)
        self.complaints.append(Complaint(Reason.HANG, f"{name}: {detail}", stacks((*tasks, *kernel_threads()))))

    @property
    def has_unkillable(self) -> bool:
        """True if a task is known that SIGKILL does not end: waiting for it again would only take time."""
        return any(complaint.reason is Reason.HANG for complaint in self.complaints)

    def look_for_stuck(self, group: Cgroup, name: str) -> None:
        """Kill what a program of ``name`` left in ``group``, and complain if that is not possible."""
        if self.has_unkillable or not group.populated():
            return
        group.kill()
        if not group.wait_empty(GRACE):
            self.unkillable(tasks_of(group.procs()), name)

    def facts(self, outcome: Outcome) -> Facts:
        """All that the judge needs, with how the workload ended."""
        return Facts(
            counts=self.counts,
            how=outcome.how(),
            code=exit_code(outcome),
            output=outcome.output,
            began=outcome.began,
            timed_out=outcome.timed_out,
            allowed=outcome.allowed,
            blocked=stacks(outcome.blocked),
            readers=tuple(self.readers),
            errnos=self.errnos,
            complaints=tuple(self.complaints),
            errors=tuple(self.errors),
            troubles=tuple(self.troubles),
            runaway=self.runaway,
            cut_short=self.cut_short,
            uncounted=self.uncounted,
        )


def exit_code(outcome: Outcome) -> int:
    """The exit code as a shell gives it: whether bash runs its last command itself must not matter."""
    return outcome.code if outcome.code is not None else 128 + (outcome.signal or 0)


def stacks(tasks: Sequence[BlockedTask]) -> tuple[str, ...]:
    """Lines that say where ``tasks`` wait."""
    return tuple(line for task in tasks for line in task.lines())
