"""Check of space accounting: reserved space is released, and available space can be allocated."""

from __future__ import annotations

import ast
import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.errors import InjectError
from inject.filesystems.base import ReservedSpace
from inject.fixture.filesystem import Fixture
from inject.model.verdict import Complaint
from inject.oracles.base import Context, Oracle
from inject.oracles.syncing import syncfs
from inject.process.tool import run_forked

QUIET = 20.0
"""Seconds in which reservations must be released after a sync."""

SLACK = 4 << 20
"""Bytes of an allocation that metadata may take, and free later."""

_TIMEOUT = 120.0
_PAUSE = 0.05
_DROP = Path("/proc/sys/vm/drop_caches")


class Reservations(Oracle):
    """Check that no sector stays reserved after a sync, and that available space can be allocated.

    The number of reserved sectors must return to its value from before the fault. Clean folios of
    bcachefs may hold some: a truncate into a block reserves for the whole folio, writeback uses what
    is dirty, and dropping the folio releases the rest (bch2_clear_folio_bits()). Therefore the check
    drops the page cache first. The kernel itself checks that the number is 0 at the unmount
    ("online_reserved not 0 at shutdown" in __bch2_fs_free()), and dmesg reports that warning. Then
    the check allocates the space that statfs shows as available, less SLACK, with fallocate(2), and
    frees it.
    """

    name = "reservations"

    def __init__(self) -> None:
        super().__init__()
        self._before = 0
        self._complaint: Optional[Complaint] = None

    def applies(self, context: Context) -> bool:
        """True if sysfs shows the reserved space of this filesystem."""
        return context.fixture is not None and context.fixture.type.space.reserved is not None

    def before(self, context: Context) -> None:
        """Record the reserved sectors after a sync; the page cache stays as it is."""
        fixture = _fixture(context)
        if fixture.mounted:
            self._before = reserved_sectors(fixture) or 0

    def settled(self, context: Context) -> None:
        """Wait for the reservations, then allocate and free space. Skips a read-only filesystem."""
        fixture = _fixture(context)
        if not fixture.mounted or os.statvfs(fixture.mountpoint).f_flag & os.ST_RDONLY:
            return
        account = account_of(fixture)
        if account is None:
            self.notes.append(f"{self.name}: not checked, sysfs does not show the filesystem")
            return
        done = run_forked(
            lambda: balance(str(fixture.mountpoint), account, self._before),
            timeout=context.limit(_TIMEOUT),
            cgroup=context.cgroup,
        )
        done.in_time(f"allocating space of {fixture.mountpoint}: it")
        try:
            kind, words = ast.literal_eval(done.output.strip().rpartition("\n")[2])
        except (SyntaxError, ValueError):
            raise InjectError(f"allocating space of {fixture.mountpoint}: {done.how()}: {done.last_line}") from None
        if kind == "note":
            self.notes.append(f"{self.name}: {words}")
        elif kind == "wrong":
            self._complaint = self.complaint(words)

    def after(self, context: Context) -> Optional[Complaint]:
        """Result of settled()."""
        return self._complaint


@dataclass(frozen=True)
class Account:
    """Directory of a mounted filesystem in sysfs, and the names of its files."""

    directory: Path
    where: ReservedSpace

    def level(self) -> Optional[int]:
        """Sectors of 512 bytes that are reserved right now; None if the kernel does not say."""
        try:
            text = (self.directory / self.where.file).read_text()
        except OSError:
            return None
        for line in text.splitlines():
            words = line.split()
            if words[:1] == [self.where.word]:
                return int(words[1])
        return None

    def replicas(self) -> int:
        """Number of copies of data that the filesystem writes."""
        try:
            return max(1, int((self.directory / self.where.replicas).read_text()))
        except (OSError, ValueError):
            return 1


def account_of(fixture: Fixture, root: Path = Path("/")) -> Optional[Account]:
    """The account of the filesystem on the fixture's first device; None if sysfs does not show it."""
    where = fixture.type.space.reserved
    if where is None:
        return None
    device = Path(fixture.devices[0]).name
    for directory in (root / where.directory).glob("*"):
        if any(link.resolve().name == device for link in directory.glob(where.device)):
            return Account(directory, where)
    return None


def reserved_sectors(fixture: Fixture) -> Optional[int]:
    """Sectors of 512 bytes that are reserved right now; None if the kernel does not say."""
    account = account_of(fixture)
    return None if account is None else account.level()


def balance(root: str, account: Account, before: int) -> Iterator[tuple[str, str]]:
    """One row: ("wrong", words), ("note", words) or ("end", ""). Runs in a fork, because syncing may hang."""
    level = _at_rest(root, account, before)
    if level is not None and level > before:
        words = f"{level} sectors are still reserved {QUIET:g} s after everything was synced, {before} before"
        yield "wrong", words
        return
    free = _available(root)
    size = (free - SLACK) // account.replicas()
    if size < SLACK:
        yield "note", f"only {free} bytes are available, too few for the check"
        return
    refused = _claim(root, size)
    if refused:
        yield "wrong", f"statfs says that {free} bytes are available, but {size} cannot be allocated: {refused}"
        return
    deadline = time.monotonic() + QUIET
    while True:
        _sync(root)
        left = free - _available(root)
        if left <= SLACK:
            yield "end", ""
            return
        if time.monotonic() >= deadline:
            yield "wrong", f"{left} bytes are still in use {QUIET:g} s after {size} were allocated and freed"
            return
        time.sleep(_PAUSE)


def _at_rest(root: str, account: Account, before: int) -> Optional[int]:
    """Reserved sectors once there are no more than ``before``, or after QUIET seconds; None if unknown."""
    deadline = time.monotonic() + QUIET
    while True:
        _sync(root)
        level = account.level()
        if level is not None and level > before:
            _DROP.write_text("1")
            level = account.level()
        if level is None or level <= before or time.monotonic() >= deadline:
            return level
        time.sleep(_PAUSE)


def _sync(root: str) -> None:
    """Write everything; the other checks report an earlier failed write that syncfs(2) returns now."""
    with contextlib.suppress(OSError):
        syncfs(root)


def _claim(root: str, size: int) -> str:
    """Allocate ``size`` bytes and free them; the error if that failed, or ""."""
    file = os.path.join(root, f".inject-{os.getpid()}")  # noqa: PTH118
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(handle)
        os.unlink(file)  # noqa: PTH108
    return ""


def _available(root: str) -> int:
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize


def _fixture(context: Context) -> Fixture:
    assert context.fixture is not None  # applies() is true
    return context.fixture
