"""An offline check of the unmounted devices by the filesystem's own checker, which writes nothing."""

from __future__ import annotations

import re
from typing import Optional

from inject.errors import InjectError
from inject.filesystems import TYPES
from inject.filesystems.base import CheckProgram
from inject.fixture.filesystem import Fixture
from inject.model.verdict import Complaint
from inject.oracles.base import Context, Oracle, tail
from inject.process.tool import Completed, run_tool

_TIMEOUT = 300.0


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
        checker = TYPES[fixture.spec.type].checker
        done = self._run(checker, fixture, context)
        if checker.unreplayed and re.search(checker.unreplayed, done.output):
            mounted = fixture.try_mount()
            if mounted.code != 0:
                return self.complaint(
                    f"the log is dirty and the kernel cannot replay it: {mounted.last_line}",
                    (*tail(mounted.output), *tail(done.output)),
                )
            try:
                fixture.umount()
            except InjectError as error:
                return self.complaint(f"after the replay of its log it does not unmount: {error}")
            self.notes.append("fsck: the log was dirty; checked after the kernel had replayed it")
            done = self._run(checker, fixture, context)
        return self._judge(checker, done)

    def _run(self, checker: CheckProgram, fixture: Fixture, context: Context) -> Completed:
        devices = fixture.devices if checker.every_device else fixture.devices[:1]
        return run_tool([*checker.argv, *devices], timeout=_TIMEOUT, cgroup=context.cgroup)

    def _judge(self, checker: CheckProgram, done: Completed) -> Optional[Complaint]:
        said = re.search(checker.damage, done.output, re.MULTILINE) if checker.damage else None
        if done.code == 0 and not done.timed_out and not said:
            return None
        detail = f"`{done.command}` {done.how()}: {said.group() if said else done.last_line}"
        inconclusive = not said and done.code not in checker.damaged
        return self.complaint(detail, tail(done.output), inconclusive=inconclusive)
