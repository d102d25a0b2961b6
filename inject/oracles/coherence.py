"""Checks of a mounted filesystem: buffered, direct and mapped reads agree; ordinary operations work."""

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
"""Limits of names and of bytes compared; a note says what was left out."""

_TIMEOUT = 120.0
_SHOWN = 10


class _Viewer(Oracle):
    """Base class of a check that runs viewer.py on the mounted filesystem."""

    needs = 0
    """Bytes that must be available."""

    def __init__(self) -> None:
        super().__init__()
        self._complaint: Optional[Complaint] = None

    def settled(self, context: Context) -> None:
        """Run viewer.py, if the filesystem is mounted and writable."""
        fixture = _fixture(context)
        if not fixture.mounted:
            return
        status = os.statvfs(fixture.mountpoint)
        if status.f_flag & os.ST_RDONLY or status.f_bavail * status.f_frsize < self.needs:
            self.notes.append(f"{self.name}: not checked, the filesystem is read-only or full")
            return
        done = run_forked(
            lambda: self.look(fixture), timeout=context.limit(_TIMEOUT), cgroup=context.cgroup, output_limit=16 << 20
        )
        done.in_time(f"reading {fixture.mountpoint}: the reader")
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
        """Rows of viewer.py; runs in a fork."""
        raise NotImplementedError

    def words(self, lines: tuple[str, ...]) -> str:
        """The failure in one sentence."""
        raise NotImplementedError

    def after(self, context: Context) -> Optional[Complaint]:
        """Result of settled()."""
        return self._complaint


class Coherence(_Viewer):
    """Check that buffered, direct and mapped reads of each file agree, also after dropping the page cache.

    For bcachefs it also checks that st_blocks is the sum of the extents:
    bch2_i_sectors_acct() counts it separately. Remount reports files that cannot be read
    after an unmount.
    """

    name = "coherence"

    def look(self, fixture: Fixture) -> Iterator[tuple[str, str, str]]:
        """Every difference between the reads of a file."""
        return viewer.views(str(fixture.mountpoint), MAX_NAMES, MAX_BYTES, fixture.type.space.exact_blocks)

    def words(self, lines: tuple[str, ...]) -> str:
        """The first difference."""
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        return lines[0] + more


class Recovery(_Viewer):
    """Check that ordinary operations on the mounted filesystem work after disarming and ``recover``.

    ``recover`` tests the scenario's own operation. A read-only or full filesystem is not
    checked; dmesg reports that it went read-only.
    """

    name = "recovery"
    needs = 4 << 20

    def look(self, fixture: Fixture) -> Iterator[tuple[str, str, str]]:
        """A few operations in a new directory."""
        return viewer.use(str(fixture.mountpoint))

    def words(self, lines: tuple[str, ...]) -> str:
        """The operation that failed."""
        return f"after disarming, an ordinary operation fails: {lines[0]}"


def _fixture(context: Context) -> Fixture:
    assert context.fixture is not None  # applies() is true
    return context.fixture
