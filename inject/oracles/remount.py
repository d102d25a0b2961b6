"""Mounts again: everything can be listed and read, and what was synced before the fault is as it was."""

from __future__ import annotations

from typing import Optional

from inject.errors import InjectError
from inject.fixture.filesystem import Fixture
from inject.model.verdict import Complaint
from inject.oracles import manifest, walker
from inject.oracles.base import Context, Oracle, tail
from inject.oracles.manifest import Manifest, ManifestEntry
from inject.process.tool import run_forked

MAX_NAMES = 20_000
MAX_BYTES = 512 << 20
"""Names looked at and bytes read in one go; the rest is left out, and noted."""

_TIMEOUT = 120.0
_SHOWN = 10


class Remount(Oracle):
    """Complains of a filesystem that does not mount, list, read or unmount again, or has lost synced data.

    Only files that the workload left alone are compared: those whose stat (type,
    mode, inode, size, mtime, ctime) at the end, still mounted, is what it was
    before arming. Where the filesystem was no longer mounted at the end, the
    stat after the new mount decides instead.
    """

    name = "remount"

    def __init__(self) -> None:
        super().__init__()
        self._synced: dict[str, ManifestEntry] = {}
        self._end: Optional[dict[str, ManifestEntry]] = None

    def before(self, context: Context) -> None:
        """Take checksums of what is synced. Does nothing where the scenario's workload does the mounting."""
        if _fixture(context).mounted:
            self._synced = self._take(context, MAX_BYTES, "before the fault").by_path()

    def settled(self, context: Context) -> None:
        """See which files were touched."""
        fixture = _fixture(context)
        if fixture.mounted and self._synced:
            self._end = self._take(context, 0, "after the workload").by_path()

    def after(self, context: Context) -> Optional[Complaint]:
        """Mount, look, compare, unmount."""
        fixture = _fixture(context)
        done = fixture.try_mount()
        if done.code != 0:
            return self.complaint(f"does not mount again: {done.last_line}", tail(done.output))
        try:
            complaint = self._judge(context)
        except InjectError as error:
            complaint = self.complaint(f"mounted again, it cannot be read: {error}")
        try:
            fixture.umount()
        except InjectError as error:
            return complaint or self.complaint(f"does not unmount again: {error}")
        return complaint

    def _judge(self, context: Context) -> Optional[Complaint]:
        now = self._take(context, MAX_BYTES, "after the new mount")
        errors = now.errors()
        if errors:
            return self.complaint(
                f"{len(errors)} of {len(now.entries)} names cannot be read after a new mount",
                tuple(f"{entry.path or '/'}: {entry.error}" for entry in errors[:_SHOWN]),
            )
        lost = compare(self._synced, self._end, now.by_path(), complete=not now.bound)
        if lost:
            return self.complaint(
                f"{len(lost)} of {len(self._synced)} synced names that the workload left alone are not as they were",
                tuple(lost[:_SHOWN]),
            )
        return None

    def _take(self, context: Context, max_bytes: int, when: str) -> Manifest:
        """The tree, read by a process that may hang without us; raises InjectError if it did not get through."""
        root = str(_fixture(context).mountpoint)
        done = run_forked(
            lambda: walker.walk(root, MAX_NAMES, max_bytes),
            timeout=_TIMEOUT,
            cgroup=context.cgroup,
            output_limit=64 << 20,
        )
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
    """What became of the entries of ``synced`` that nobody touched: one line for each that is not as it was.

    ``end`` is what was seen last before the unmount (None: nothing). ``complete``
    is False where ``now`` does not hold everything, so that absence says nothing.
    """
    lines = []
    for path, old in synced.items():
        if old.error:
            continue
        if end is not None and (path not in end or end[path].identity != old.identity):
            continue
        new = now.get(path)
        if new is None:
            if complete and end is not None:
                lines.append(f"{path}: is gone")
        elif end is None and new.identity != old.identity:
            continue
        elif new.identity != old.identity:
            lines.append(f"{path}: {_difference(old.identity, new.identity)}")
        elif old.digest and new.digest and old.digest != new.digest:
            lines.append(f"{path}: other content (sha256 {old.digest[:16]} before, {new.digest[:16]} now)")
    return lines


def _difference(old: tuple[int, ...], new: tuple[int, ...]) -> str:
    names = ("mode", "inode", "size", "mtime", "ctime")
    parts = [f"{name} {a} is now {b}" for name, a, b in zip(names, old, new) if a != b]
    return ", ".join(parts)


def _fixture(context: Context) -> Fixture:
    assert context.fixture is not None  # applies() has asked
    return context.fixture
