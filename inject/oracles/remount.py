"""Check by a mount cycle: all files can be read, and data synced before the fault has not changed."""

from __future__ import annotations

import contextlib
from typing import Optional

from inject.errors import InjectError
from inject.fixture.filesystem import Fixture
from inject.model.verdict import Complaint
from inject.oracles import manifest, walker
from inject.oracles.base import Context, Oracle, tail
from inject.oracles.manifest import Manifest, ManifestEntry
from inject.oracles.walker import FIELDS, Identity
from inject.process.tool import Hung, run_forked

MAX_NAMES = 20_000
MAX_BYTES = 512 << 20
"""Limits of names and of bytes read; a note says what was left out."""

_TIMEOUT = 120.0
_SHOWN = 10


class Remount(Oracle):
    """Check that the filesystem mounts, lists, reads and unmounts again, and has not lost synced data.

    Only names that the workload did not change are compared: those whose stat, symlink
    target and extended attributes before the unmount are the same as before arming. If that
    cannot be read, because the filesystem was shut down or not mounted at the end, what the
    mount cycle shows decides; a note counts the names that are gone or differ then.
    """

    name = "remount"

    def __init__(self) -> None:
        super().__init__()
        self._synced: dict[str, ManifestEntry] = {}
        self._end: Optional[dict[str, ManifestEntry]] = None

    def before(self, context: Context) -> None:
        """Take checksums of synced files. Does nothing if the workload mounts the filesystem itself.

        The page cache stays as ``setup`` left it: a read in ``run`` meets the device as without this check.
        """
        if _fixture(context).mounted:
            self._synced = self._take(context, MAX_BYTES, "before the fault", keep_cache=True).by_path()

    def settled(self, context: Context) -> None:
        """Find the files that the workload changed."""
        fixture = _fixture(context)
        if fixture.mounted and self._synced:
            self._end = self._take(context, 0, "after the workload").by_path()

    def after(self, context: Context) -> Optional[Complaint]:
        """Mount, read, compare, unmount."""
        fixture = _fixture(context)
        done = fixture.try_mount()
        if done.timed_out:
            raise done.failure()
        if done.code != 0:
            return self.complaint(f"does not mount again: {done.last_line}", tail(done.output))
        try:
            complaint = self._judge(context)
        except Hung:
            raise  # unmounting would hang, too
        except InjectError:
            with contextlib.suppress(InjectError):  # the error above is the one to report
                fixture.umount()
            raise
        try:
            fixture.umount()
        except Hung:
            raise
        except InjectError as error:
            return complaint or self.complaint(f"does not unmount again: {error}")
        return complaint

    def _judge(self, context: Context) -> Optional[Complaint]:
        now = self._take(context, MAX_BYTES, "after the mount")
        errors = now.errors()
        if errors:
            return self.complaint(
                f"{len(errors)} of {len(now.entries)} names cannot be read after a mount cycle",
                tuple(f"{entry.path or '/'}: {entry.error}" for entry in errors[:_SHOWN]),
            )
        lost = compare(self._synced, self._end, now.by_path(), complete=not now.bound)
        if lost:
            return self.complaint(
                f"{len(lost)} of {len(self._synced)} synced names that the workload did not change are different",
                tuple(lost[:_SHOWN]),
            )
        unknown = uncompared(self._synced, self._end, now.by_path())
        if unknown:
            self.notes.append(
                f"remount: {unknown} of {len(self._synced)} synced names were not compared: {self._why()}"
            )
        return None

    def _why(self) -> str:
        """Reason for which the state of a name after the workload is unknown."""
        if self._end is None:
            return "they differ, and the filesystem was not mounted after the workload"
        errors = [f"{path or '/'}: {entry.error}" for path, entry in self._end.items() if entry.error]
        return f"they differ, and could not be read after the workload ({errors[0]})"

    def _take(self, context: Context, max_bytes: int, when: str, *, keep_cache: bool = False) -> Manifest:
        """The tree, read in a fork that may hang; raises InjectError if the fork did not finish."""
        root = str(_fixture(context).mountpoint)
        done = run_forked(
            lambda: walker.walk(root, MAX_NAMES, max_bytes, keep_cache=keep_cache),
            timeout=context.limit(_TIMEOUT),
            cgroup=context.cgroup,
            output_limit=64 << 20,
        )
        done.in_time(f"reading {root} {when}: the reader")
        try:
            found = manifest.parse(done.output)
        except ValueError as error:
            raise InjectError(f"reading {root} {when}: the reader {done.how()}: {done.last_line}") from error
        if found.bound:
            self.notes.append(f"remount: {when} {found.bound}")
        return found


def compare(
    synced: dict[str, ManifestEntry],
    end: Optional[dict[str, ManifestEntry]],
    now: dict[str, ManifestEntry],
    *,
    complete: bool = True,
) -> list[str]:
    """One line for each entry of ``synced`` that differs although the workload did not change it.

    ``end`` is the tree before the unmount (None: not mounted). If ``complete`` is False,
    ``now`` does not hold everything, and a missing entry is not reported.
    """
    lines = []
    for path, old in synced.items():
        kept = _kept(old, end)
        new = now.get(path)
        if old.error or kept is False:
            continue
        if new is None:
            if complete and kept:
                lines.append(f"{path}: is gone")
        elif new.identity != old.identity:
            if kept:
                lines.append(f"{path}: {_difference(old.identity, new.identity)}")
        elif old.digest and new.digest and old.digest != new.digest:
            lines.append(f"{path}: other content (sha256 {old.digest[:16]} before, {new.digest[:16]} now)")
    return lines


def uncompared(
    synced: dict[str, ManifestEntry], end: Optional[dict[str, ManifestEntry]], now: dict[str, ManifestEntry]
) -> int:
    """How many entries of ``synced`` differ, or are gone, without it being known who changed them."""
    return sum(
        not old.error and _kept(old, end) is None and (path not in now or now[path].identity != old.identity)
        for path, old in synced.items()
    )


def _kept(old: ManifestEntry, end: Optional[dict[str, ManifestEntry]]) -> Optional[bool]:
    """Whether the workload left ``old`` as it was; None if it, or a directory above it, could not be read then."""
    if end is None:
        return None
    above = old.path
    while True:
        if above in end and end[above].error:
            return None
        if not above:
            return old.path in end and end[old.path].identity == old.identity
        above = above.rpartition("/")[0]


def _difference(old: Identity, new: Identity) -> str:
    return ", ".join(f"{name} {a!r} is now {b!r}" for name, a, b in zip(FIELDS, old, new) if a != b)


def _fixture(context: Context) -> Fixture:
    assert context.fixture is not None  # applies() is true
    return context.fixture
