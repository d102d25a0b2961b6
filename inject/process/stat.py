"""Fields of /proc/PID/stat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

_PF_KTHREAD = 0x00200000  # include/linux/sched.h


@dataclass(frozen=True)
class TaskStat:
    """State, parent and flags of one task (proc_pid_stat(5))."""

    state: str
    """One letter: D waits without listening to signals."""
    parent: int
    flags: int

    @property
    def kernel_thread(self) -> bool:
        """True for a kernel thread."""
        return bool(self.flags & _PF_KTHREAD)


def stat_of(directory: Path) -> Optional[TaskStat]:
    """The task whose directory below /proc is ``directory``; None if it has ended."""
    try:
        text = (directory / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the command's name, in parentheses, may contain anything
    try:
        return TaskStat(fields[0], int(fields[1]), int(fields[6]))
    except (IndexError, ValueError):
        return None
