"""An offline check of the unmounted devices by the filesystem's own checker, which writes nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from inject.errors import InjectError
from inject.fixture import Fixture
from inject.oracles.base import Complaint, Context, Oracle, tail
from inject.tool import Completed, run_tool

_TIMEOUT = 300.0


@dataclass(frozen=True)
class Checker:
    """A program and what its exit codes mean."""

    argv: tuple[str, ...]
    damaged: tuple[int, ...]
    """Exit codes that say "damage"; 0 is clean, every other one is trouble of the program itself."""
    every_device: bool = False
    """Whether it wants all devices of the filesystem, else the first."""
    unreplayed: Optional[re.Pattern[str]] = None
    """Said when it looked past a log that was not replayed: then what it calls damage may be none."""


CHECKERS = {
    # Replays the journal in memory, so an unclean shutdown is no damage to it.
    # c_src/cmd_fsck.c: 1 fixed, 4 not fixed, 8 operational error; with -n nothing is ever fixed on disk.
    "bcachefs": Checker(("bcachefs", "fsck", "-n"), damaged=(1, 4, 5), every_device=True),
    # e2fsck(8): 4 left uncorrected; 8 operational error.
    "ext4": Checker(("e2fsck", "-f", "-n"), damaged=(4,), unreplayed=re.compile("skipping journal recovery because")),
    # xfs_repair(8), -n: 1 if corruption was detected.
    "xfs": Checker(
        ("xfs_repair", "-n"), damaged=(1,), unreplayed=re.compile("metadata changes in a log which is being")
    ),
    # Copy on write: the last committed trees are whole whatever the log tree holds.
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
