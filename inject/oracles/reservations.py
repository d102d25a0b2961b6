"""Space accounting: reserved space is given back, and space that is free can be allocated."""

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
"""Seconds for reservations to be given back once everything is synced."""

SLACK = 4 << 20
"""Bytes that the filesystem's own metadata may take of an allocation, and give back later."""

_TIMEOUT = 120.0
_PAUSE = 0.05
_DROP = Path("/proc/sys/vm/drop_caches")


class Reservations(Oracle):
    """Complains if sectors stay reserved when all data is written and dropped, or if free space cannot be had.

    The number of reserved sectors must come down to what it was before the fault. Clean folios of
    bcachefs may hold some: a truncate into a block reserves for all of the folio, writeback uses up
    what is dirty, and the rest goes with the folio (bch2_clear_folio_bits()). So the page cache is
    dropped first. The kernel itself checks that the number is 0 at the unmount ("online_reserved not
    0 at shutdown" in __bch2_fs_free()), and the dmesg check sees that warning. Then what statfs
    calls available, less SLACK, is allocated with fallocate(2) and freed.
    """

    name = "reservations"

    def __init__(self) -> None:
        super().__init__()
        self._before = 0
        self._complaint: Optional[Complaint] = None

    def applies(self, context: Context) -> bool:
        """True for filesystems that show what is reserved."""
        return context.fixture is not None and context.fixture.type.space.reserved is not None

    def before(self, context: Context) -> None:
        """The level with everything synced; the page cache is the scenario's own."""
        fixture = _fixture(context)
        if fixture.mounted:
            self._before = reserved_sectors(fixture) or 0

    def settled(self, context: Context) -> None:
        """Wait for quiescence, then allocate and free. Not on a filesystem that has gone read-only."""
        fixture = _fixture(context)
        if not fixture.mounted or os.statvfs(fixture.mountpoint).f_flag & os.ST_RDONLY:
            return
        account = account_of(fixture)
        if account is None:
            self.notes.append(f"{self.name}: not checked, sysfs does not show the filesystem")
            return
        done = run_forked(
            lambda: balance(str(fixture.mountpoint), account, self._before),
            timeout=_TIMEOUT,
            cgroup=context.cgroup,
        )
        try:
            kind, words = ast.literal_eval(done.output.strip().rpartition("\n")[2])
        except (SyntaxError, ValueError):
            raise InjectError(f"allocating space of {fixture.mountpoint}: {done.how()}: {done.last_line}") from None
        if kind == "note":
            self.notes.append(f"{self.name}: {words}")
        elif kind == "wrong":
            self._complaint = self.complaint(words)

    def after(self, context: Context) -> Optional[Complaint]:
        """What settled() found."""
        return self._complaint


@dataclass(frozen=True)
class Account:
    """A mounted filesystem's directory in sysfs, and what is where in it."""

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
        """How many copies of data are written."""
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
        yield "note", f"only {free} bytes are available, too few to allocate some"
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
            yield "wrong", f"{left} bytes do not come back within {QUIET:g} s after {size} were allocated and freed"
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
    """Write everything; an earlier failed write that syncfs(2) reports now is left to the other checks."""
    with contextlib.suppress(OSError):
        syncfs(root)


def _claim(root: str, size: int) -> str:
    """Allocate ``size`` bytes and free them; the reason if that was refused, or ""."""
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
    assert context.fixture is not None  # applies() has asked
    return context.fixture
