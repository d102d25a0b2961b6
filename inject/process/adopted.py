"""Running processes as the workload of a trial: a process and its children, or a cgroup.

inject never kills them. It moves a process into a new cgroup below its own, so that all
limits still apply, and moves it back at the end; if inject is killed, the janitor does.
It uses a given cgroup as it is.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Callable, Optional

from inject.errors import CannotRun, InjectError
from inject.process.cgroup import Cgroup, hierarchy, require_first_namespace, unique_name
from inject.process.janitor import Janitor, undo_evict
from inject.process.stat import stat_of
from inject.process.workload import Outcome

TICK = 0.2
"""Seconds between two checks of what runs."""

ROUNDS = 50
"""Maximum number of searches for children forked meanwhile."""


class Adopted:
    """Processes that ran before inject, with the interface of :class:`inject.process.workload.Workload`.

    Use as a context manager. ``noun`` is its name in messages. The wait ends if
    ``enough`` returns True.
    """

    def __init__(self, cgroup: Cgroup, noun: str, leave: Callable[[], None] = lambda: None) -> None:
        self.cgroup = cgroup
        self.noun = noun
        self.enough: Callable[[], bool] = lambda: False
        self._leave = leave
        self._released = 0.0

    def release(self) -> None:
        """Start: every call from here on is in scope."""
        self._released = time.monotonic()

    def wait(
        self,
        timeout: float,
        on_end: Optional[Callable[[], None]] = None,
        tick: Callable[[], object] = lambda: None,
    ) -> Outcome:
        """Wait until it ends, ``enough`` is true, ``timeout`` seconds have passed, or Ctrl-C; all are normal ends."""
        with contextlib.suppress(KeyboardInterrupt):
            while time.monotonic() - self._released < timeout and self.cgroup.populated() and not self.enough():
                tick()
                time.sleep(TICK)
        if on_end is not None:
            on_end()
        seconds = time.monotonic() - self._released
        return Outcome(0, None, "", 0, False, (), 0, (), seconds)

    def close(self) -> None:
        """Move everything back; may be called more than once."""
        leave, self._leave = self._leave, lambda: None
        leave()

    def __enter__(self) -> Adopted:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def by_pid(pid: int, janitor: Janitor) -> Adopted:
    """Process ``pid`` with its threads and all its descendants, also future ones.

    Raises InjectError if there is no such process or it must not be a workload, CannotRun
    without cgroup v2.
    """
    require_first_namespace()
    _refuse(pid)
    home = _home(pid)
    path = home / unique_name()
    janitor.register("evict", str(path))
    group = Cgroup(path, _level(home) + 1)
    try:
        group.path.mkdir()
    except OSError as error:
        raise CannotRun(f"cannot create the cgroup {path}: {error.strerror}", "run as root") from error

    def leave() -> None:
        trouble = undo_evict(str(path))
        if trouble:
            raise InjectError(trouble)
        janitor.release("evict", str(path))

    adopted = Adopted(group, f"process {pid}", leave)
    try:
        _move_tree(pid, home, group)
    except BaseException:
        adopted.close()
        raise
    return adopted


def by_cgroup(path: Path) -> Adopted:
    """Everything in the cgroup at ``path``, absolute or relative to the hierarchy's root."""
    require_first_namespace()
    root = hierarchy()
    where = path if path.is_absolute() else root / path
    where = where.resolve()
    if not (where / "cgroup.procs").exists() or not where.is_relative_to(root):
        raise InjectError(f"{path} is not a control group", f"give a directory below {root}, such as system.slice/NAME")
    group = Cgroup(where, _level(where))
    if not group.level:
        raise InjectError(
            "the root control group holds every task", "use --scope any --allow-any to fail calls of every task"
        )
    if os.getpid() in group.procs():
        raise InjectError(f"{path} holds inject itself", "start inject from another control group")
    if not group.populated():
        raise InjectError(f"nothing runs in {path}", "start it first, or give a command after --")
    return Adopted(group, f"control group {where.relative_to(root)}")


def _level(path: Path) -> int:
    """Depth below the hierarchy's root, which is 0."""
    return len(path.relative_to(hierarchy()).parts)


def _home(pid: int) -> Path:
    """Cgroup v2 of process ``pid``."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return hierarchy() / line[3:].lstrip("/")
    raise CannotRun(f"process {pid} is not in a cgroup v2 group", "mount -t cgroup2 none /sys/fs/cgroup")


def _refuse(pid: int) -> None:
    """Raise InjectError if ``pid`` does not exist, or if failing it would end the machine or inject."""
    task = stat_of(Path(f"/proc/{pid}"))
    if task is None:
        raise InjectError(f"there is no process {pid}", "`ps` shows those that run")
    if pid == 1:
        raise InjectError("process 1 is the parent of every process", "give another process")
    if task.kernel_thread:
        raise InjectError(f"process {pid} is a kernel thread", "use --scope any with --comm")
    if pid in _ancestors(os.getpid()):
        raise InjectError(
            f"process {pid} is inject itself or started it", "give another process, or a command after --"
        )


def _parents() -> dict[int, int]:
    """Parent of every process."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        task = stat_of(directory)
        if task is not None:
            found[int(directory.name)] = task.parent
    return found


def _ancestors(pid: int) -> set[int]:
    parents, line = _parents(), {pid}
    while pid in parents and parents[pid] not in line:
        pid = parents[pid]
        line.add(pid)
    return line


def _move_tree(pid: int, home: Path, group: Cgroup) -> None:
    """Move ``pid`` and its descendants in the same group, until a search finds no new one."""
    group.add(pid)
    for _ in range(ROUNDS):
        inside, parents = set(group.procs()), _parents()
        found = {child for child, parent in parents.items() if parent in inside and child not in inside}
        moved = 0
        for child in found:
            with contextlib.suppress(OSError, InjectError):  # it may have ended meanwhile
                if _home(child) == home:
                    group.add(child)
                    moved += 1
        if not moved:
            return
    raise InjectError(
        f"process {pid} forks faster than its children can be moved", "use --cgroup with its control group"
    )
