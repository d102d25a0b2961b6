"""Kernel stacks of blocked tasks, as evidence of a hang."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from inject.process.stat import stat_of

LIMIT = 64
"""Maximum number of tasks in one report."""

_PROC = Path("/proc")


@dataclass(frozen=True)
class BlockedTask:
    """One thread and its place in the kernel."""

    pid: int
    tid: int
    comm: str
    state: str
    """One letter, as in /proc/PID/stat: D is uninterruptible sleep."""
    wchan: str
    syscall: str
    """Number and arguments in hex, or "running"; "" if the kernel does not show it."""
    stack: tuple[str, ...]
    """Innermost first, ``symbol+0xoff``."""
    left_out: int = 0
    """Tasks beyond LIMIT, of which this one is the last that is reported."""

    def lines(self) -> list[str]:
        """Lines for a report: a heading and the indented stack."""
        where = f" in {self.wchan}" if self.wchan not in ("", "0") else ""
        call = f" syscall {self.syscall}" if self.syscall else ""
        more = [f"[... {self.left_out} more task{'s' * (self.left_out != 1)} ...]"] if self.left_out else []
        head = f"{self.comm}/{self.tid} state {self.state}{where}{call}"
        return [head, *(f"    {frame}" for frame in self.stack), *more]


def tasks_of(pids: Iterable[int], proc: Path = _PROC) -> tuple[BlockedTask, ...]:
    """Every thread of ``pids`` that still exists, at most LIMIT; the last one counts those left out."""
    return _limited((pid, directory) for pid in pids for directory in sorted((proc / str(pid) / "task").glob("[0-9]*")))


def kernel_threads(proc: Path = _PROC) -> tuple[BlockedTask, ...]:
    """Kernel threads in state D, as tasks_of(): a worker may hold what the workload waits for."""
    return _limited((int(directory.name), directory) for directory in proc.glob("[0-9]*") if _kernel_waits(directory))


def _kernel_waits(directory: Path) -> bool:
    task = stat_of(directory)
    return task is not None and task.state == "D" and task.kernel_thread


def _limited(threads: Iterable[tuple[int, Path]]) -> tuple[BlockedTask, ...]:
    """The first LIMIT of ``threads``; of the others only the number is read."""
    found: list[BlockedTask] = []
    left_out = 0
    for pid, directory in threads:
        if len(found) < LIMIT:
            found += _task(pid, directory)
        else:
            left_out += stat_of(directory) is not None
    if left_out:
        found[-1] = replace(found[-1], left_out=left_out)
    return tuple(found)


def _task(pid: int, directory: Path) -> list[BlockedTask]:
    """The thread at ``directory``; [] if it has ended."""
    task = stat_of(directory)
    if task is None:
        return []
    frames = (line.partition("] ")[2].rpartition("/0x")[0] for line in _read(directory / "stack").splitlines())
    return [
        BlockedTask(
            pid=pid,
            tid=int(directory.name),
            comm=_read(directory / "comm").rstrip("\n"),
            state=task.state,
            wchan=_read(directory / "wchan").strip(),
            syscall=" ".join(_read(directory / "syscall").split()[:7]),
            stack=tuple(frame for frame in frames if frame),
        )
    ]


def _read(path: Path) -> str:
    """The file's text; "" if the task is gone or inject may not look."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
