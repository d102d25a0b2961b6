"""Check of the unmounted devices with the filesystem's own checker, read-only."""

from __future__ import annotations

import re
from typing import Optional

from inject.errors import InjectError
from inject.filesystems import TYPES
from inject.filesystems.base import CheckProgram
from inject.fixture.filesystem import Fixture
from inject.model.verdict import Complaint
from inject.oracles.base import Context, Oracle, tail
from inject.process.tool import Completed, Hung, run_tool

_TIMEOUT = 300.0


class Fsck(Oracle):
    """Check that the filesystem's checker finds no damage.

    An unclean shutdown is not damage. If the log is dirty and the checker cannot replay
    it without writing, the kernel replays it in a mount, as after any crash, and the
    checker runs again.
    """

    name = "fsck"

    def after(self, context: Context) -> Optional[Complaint]:
        """Run the checker; if the log must be replayed, mount and run it again."""
        fixture = context.fixture
        assert fixture is not None  # applies() is true
        checker = TYPES[fixture.spec.type].checker
        done = self._run(checker, fixture, context)
        if checker.unreplayed and re.search(checker.unreplayed, done.output):
            mounted = fixture.try_mount()
            if mounted.timed_out:
                raise mounted.failure()
            if mounted.code != 0:
                return self.complaint(
                    f"the log is dirty and the kernel cannot replay it: {mounted.last_line}",
                    (*tail(mounted.output), *tail(done.output)),
                )
            try:
                fixture.umount()
            except Hung:
                raise
            except InjectError as error:
                return self.complaint(f"it cannot be unmounted after the replay of its log: {error}")
            self.notes.append("fsck: the log was dirty; checked after the kernel had replayed it")
            done = self._run(checker, fixture, context)
        return self._judge(checker, done)

    def _run(self, checker: CheckProgram, fixture: Fixture, context: Context) -> Completed:
        devices = fixture.devices if checker.every_device else fixture.devices[:1]
        argv = [*checker.argv, *devices]
        done = run_tool(argv, timeout=context.limit(_TIMEOUT), cgroup=context.cgroup)
        return done.in_time(f"`{done.command}`")

    def _judge(self, checker: CheckProgram, done: Completed) -> Optional[Complaint]:
        said = re.search(checker.damage, done.output, re.MULTILINE) if checker.damage else None
        if done.code == 0 and not said:
            return None
        detail = f"`{done.command}` {done.how()}: {said.group() if said else done.last_line}"
        inconclusive = not said and done.code not in checker.damaged
        return self.complaint(detail, tail(done.output), inconclusive=inconclusive)
