"""All ways of reading agree: the page cache, the disk, a mapping; and a filesystem that works still works."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from typing import Optional

from inject.errors import InjectError
from inject.fixture.filesystem import Fixture
from inject.model.verdict import Complaint
from inject.oracles import viewer
from inject.oracles.base import Context, Oracle
from inject.process.tool import run_forked

MAX_NAMES = 5_000
MAX_BYTES = 64 << 20
"""Names looked at and bytes compared; the rest is left out, and noted."""

_TIMEOUT = 120.0
_SHOWN = 10


class _Viewer(Oracle):
    """An oracle that asks viewer.py while the filesystem is still mounted."""

    needs = 0
    """Bytes that have to be available."""

    def __init__(self) -> None:
        super().__init__()
        self._complaint: Optional[Complaint] = None

    def settled(self, context: Context) -> None:
        """Ask, where there is something mounted that may be written."""
        fixture = _fixture(context)
        if not fixture.mounted:
            return
        status = os.statvfs(fixture.mountpoint)
        if status.f_flag & os.ST_RDONLY or status.f_bavail * status.f_frsize < self.needs:
            self.notes.append(f"{self.name}: the filesystem is read-only or full, and was not asked")
            return
        done = run_forked(lambda: self.look(fixture), timeout=_TIMEOUT, cgroup=context.cgroup, output_limit=16 << 20)
        rows = []
        for line in done.output.splitlines():
            try:
                rows.append(ast.literal_eval(line))
            except (SyntaxError, ValueError):
                break
        if not rows or rows[-1][0] != "end":
            raise InjectError(f"reading {fixture.mountpoint}: the reader {done.how()}: {done.last_line}")
        if rows[-1][1]:
            self.notes.append(f"{self.name}: {rows[-1][1]}")
        lines = tuple(f"{place}: {words}" for _, place, words in rows[:-1])
        if lines:
            self._complaint = self.complaint(self.words(lines), lines[:_SHOWN])

    def look(self, fixture: Fixture) -> Iterator[tuple[str, str, str]]:
        """Rows of viewer.py; runs in a process of its own."""
        raise NotImplementedError

    def words(self, lines: tuple[str, ...]) -> str:
        """The complaint in one sentence."""
        raise NotImplementedError

    def after(self, context: Context) -> Optional[Complaint]:
        """What settled() found."""
        return self._complaint


class Coherence(_Viewer):
    """Complains of files whose ways of reading disagree, before and after the page cache is dropped.

    For bcachefs also of a file whose st_blocks are not what its extents add up to:
    bch2_i_sectors_acct() keeps that number apart from them. What the filesystem cannot
    give at all is left to the remount oracle where it is unmounted by then.
    """

    name = "coherence"

    def look(self, fixture: Fixture) -> Iterator[tuple[str, str, str]]:
        """Every way of reading every file."""
        return viewer.views(str(fixture.mountpoint), MAX_NAMES, MAX_BYTES, fixture.type.space.exact_blocks)

    def words(self, lines: tuple[str, ...]) -> str:
        """The first disagreement."""
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        return lines[0] + more


class Recovery(_Viewer):
    """Complains when, after disarming and ``recover``, ordinary operations on the mounted filesystem fail.

    Whether the scenario's own operation works again is what ``recover`` tests. A
    filesystem that has gone read-only, which dmesg reports, is not asked, nor is a full one.
    """

    name = "recovery"
    needs = 4 << 20

    def look(self, fixture: Fixture) -> Iterator[tuple[str, str, str]]:
        """A few operations in a folder of our own."""
        return viewer.use(str(fixture.mountpoint))

    def words(self, lines: tuple[str, ...]) -> str:
        """The operation that failed."""
        return f"with the fault disarmed an ordinary operation fails: {lines[0]}"


def _fixture(context: Context) -> Fixture:
    assert context.fixture is not None  # applies() has asked
    return context.fixture
