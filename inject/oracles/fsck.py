"""An offline check of the unmounted devices by the filesystem's own checker, which writes nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from inject.errors import InjectError
from inject.fixture.filesystem import Fixture
from inject.oracles.base import Complaint, Context, Oracle, tail
from inject.process.tool import Completed, run_tool

_TIMEOUT = 300.0


@dataclass(frozen=True)
class Checker:
    """A program and what its exit codes mean."""

    argv: tuple[str, ...]
    damaged: tuple[int, ...]
    """Exit codes that speak of the filesystem. 0 is clean; every other one speaks of the program."""
    every_device: bool = False
    """Whether it wants all devices of the filesystem, else the first."""
    unreplayed: Optional[re.Pattern[str]] = None
    """Said when it looked past a log that was not replayed: then what it calls damage may be none."""


CHECKERS = {
    # Replays the journal in memory, so that it calls no unclean shutdown damage: after an emergency
    # read-only it says "recovering from unclean shutdown" and exits with 0.
    # c_src/cmd_fsck.c: 4 errors remain, 1 errors were fixed (with -n: would be), 8 cannot be opened.
    "bcachefs": Checker(("bcachefs", "fsck", "-n"), damaged=(1, 4, 5, 8), every_device=True),
    # e2fsck(8): 4 errors remain, 8 operational error, which an unreadable superblock is.
    "ext4": Checker(
        ("e2fsck", "-f", "-n"), damaged=(4, 8, 12), unreplayed=re.compile("skipping journal recovery because")
    ),
    # xfs_repair(8): with -n, 1 if corruption was detected; that, and no more, is what a dirty log gives as well.
    "xfs": Checker(
        ("xfs_repair", "-n"), damaged=(1,), unreplayed=re.compile("valuable metadata changes in a log which is being")
    ),
    # Copy on write: the last committed trees are whole whatever the log tree holds. A bad copy of a
    # block of which there is a good one is reported, but exits with 0.
    "btrfs": Checker(("btrfs", "check", "--readonly"), damaged=(1,)),
}


class Fsck(Oracle):
    """Complains of damage that the checker finds.

    An unclean shutdown is no damage. Where a checker cannot replay the log
    without writing (ext4, xfs), and the log is dirty, the kernel replays it in a
    mount, as it would after any crash, and the check is made again.
    """

    name = "fsck"

    def after(self, context: Context) -> Optional[Complaint]:
        """Check; mounts once in between where the log has to be replayed first."""
        fixture = context.fixture
        assert fixture is not None  # applies() has asked
        checker = CHECKERS[fixture.spec.type]
        done = self._run(checker, fixture, context)
        if checker.unreplayed is not None and checker.unreplayed.search(done.output):
            mounted = fixture.try_mount()
            if mounted.code != 0:
                return Complaint(
                    self.name,
                    f"the log is dirty and the kernel cannot replay it: {mounted.last_line}",
                    (*tail(mounted.output), *tail(done.output)),
                )
            try:
                fixture.umount()
            except InjectError as error:
                return Complaint(self.name, f"after the replay of its log it does not unmount: {error}")
            self.notes.append("fsck: the log was dirty; checked after the kernel had replayed it")
            done = self._run(checker, fixture, context)
        return self._judge(checker, done)

    def _run(self, checker: Checker, fixture: Fixture, context: Context) -> Completed:
        devices = fixture.devices if checker.every_device else fixture.devices[:1]
        return run_tool([*checker.argv, *devices], timeout=_TIMEOUT, cgroup=context.cgroup)

    def _judge(self, checker: Checker, done: Completed) -> Optional[Complaint]:
        if done.code == 0 and not done.timed_out:
            return None
        detail = f"`{done.command}` {done.how()}: {done.last_line}"
        return Complaint(self.name, detail, tail(done.output), ours=done.code not in checker.damaged)
