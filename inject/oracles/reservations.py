"""bcachefs' space accounting: what was reserved is given back, and what is free can really be had."""

from __future__ import annotations

import ast
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from inject.errors import InjectError
from inject.fixture.filesystem import Fixture
from inject.oracles.base import Complaint, Context, Oracle
from inject.oracles.syncing import syncfs
from inject.process.tool import run_forked

QUIET = 20.0
"""Seconds that reservations get to be given back once everything is synced."""

SLACK = 4 << 20
"""Bytes of a claim that the btree may take for itself, and that may stay away for now when it is given back."""

_TIMEOUT = 120.0
_PAUSE = 0.05
_SYSFS = Path("/sys/fs/bcachefs")
_DROP = Path("/proc/sys/vm/drop_caches")


class Reservations(Oracle):
    """Complains when, with all data written and let go of, sectors are still reserved, or free space is not there.

    ``online_reserved`` (bch2_fs_alloc_debug_to_text() in fs/bcachefs/alloc_foreground.c) has to
    come down to what it was before the fault. Clean folios may hold some: a truncate into a
    block reserves for all of the folio, writeback uses up what is dirty, and the rest goes with
    the folio (bch2_clear_folio_bits()). So the page cache is dropped first. That it is 0 at
    the unmount is checked by the kernel itself ("online_reserved not 0 at shutdown" in
    __bch2_fs_free()), whose warning the dmesg oracle sees. Then what statfs calls available,
    less SLACK, is claimed with fallocate(2) and given back.
    """

    name = "reservations"

    def __init__(self) -> None:
        super().__init__()
        self._before = 0
        self._complaint: Optional[Complaint] = None

    def applies(self, context: Context) -> bool:
        """Only bcachefs tells."""
        return context.fixture is not None and context.fixture.spec.type == "bcachefs"

    def before(self, context: Context) -> None:
        """The level with everything synced; the page cache is the scenario's own."""
        fixture = _fixture(context)
        if fixture.mounted:
            self._before = online_reserved(fixture) or 0

    def settled(self, context: Context) -> None:
        """Wait for quiescence, then claim and release. Not on a filesystem that has gone read-only."""
        fixture = _fixture(context)
        if not fixture.mounted or os.statvfs(fixture.mountpoint).f_flag & os.ST_RDONLY:
            return
        home = _home(fixture, _SYSFS)
        if home is None:
            return
        replicas = _replicas(home)
        done = run_forked(
            lambda: balance(str(fixture.mountpoint), home, self._before, replicas),
            timeout=_TIMEOUT,
            cgroup=context.cgroup,
        )
        try:
            kind, words = ast.literal_eval(done.output.strip().rpartition("\n")[2])
        except (SyntaxError, ValueError):
            raise InjectError(f"claiming space of {fixture.mountpoint}: it {done.how()}: {done.last_line}") from None
        if kind == "note":
            self.notes.append(f"{self.name}: {words}")
        elif kind == "wrong":
            self._complaint = Complaint(self.name, words)

    def after(self, context: Context) -> Optional[Complaint]:
        """What settled() found."""
        return self._complaint


def balance(root: str, home: Path, before: int, replicas: int) -> Iterator[tuple[str, str]]:
    """One row: ("wrong", words), ("note", words) or ("end", ""). Runs in a fork, for syncing may hang."""
    level = _at_rest(root, home, before)
    if level is not None and level > before:
        words = f"{level} sectors are still reserved {QUIET:g} s after everything was synced, {before} before"
        yield "wrong", words
        return
    free = _available(root)
    size = (free - SLACK) // replicas
    if size < SLACK:
        yield "note", f"only {free} bytes are available, too few to claim some"
        return
    refused = _claim(root, size)
    if refused:
        yield "wrong", f"statfs says that {free} bytes are available, but {size} cannot be had: {refused}"
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


def _at_rest(root: str, home: Path, before: int) -> Optional[int]:
    """Sectors reserved when no more than ``before`` are, or after QUIET seconds; None where it cannot be read."""
    deadline = time.monotonic() + QUIET
    while True:
        _sync(root)
        level = _level(home)
        if level is not None and level > before:
            _DROP.write_text("1")
            level = _level(home)
        if level is None or level <= before or time.monotonic() >= deadline:
            return level
        time.sleep(_PAUSE)


def _sync(root: str) -> None:
    """Write everything; that a write has failed before, and syncfs(2) says so now, is for others to judge."""
    with contextlib.suppress(OSError):
        syncfs(root)


def _claim(root: str, size: int) -> str:
    """Allocate ``size`` bytes and give them back; why that was refused, or ""."""
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


def online_reserved(fixture: Fixture, sysfs: Path = _SYSFS) -> Optional[int]:
    """Sectors of 512 bytes that are reserved right now; None if the kernel does not say."""
    home = _home(fixture, sysfs)
    return None if home is None else _level(home)


def _level(home: Path) -> Optional[int]:
    try:
        text = (home / "internal/alloc_debug").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["online_reserved"]:
            return int(words[1])
    return None


def _home(fixture: Fixture, sysfs: Path) -> Optional[Path]:
    """The folder of the filesystem on the fixture's first device."""
    device = Path(fixture.devices[0]).name
    for link in sysfs.glob("*/dev-*/block"):
        if link.resolve().name == device:
            return link.parents[1]
    return None


def _replicas(home: Path) -> int:
    try:
        return max(1, int((home / "options/data_replicas").read_text()))
    except (OSError, ValueError):
        return 1


def _available(root: str) -> int:
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize


def _fixture(context: Context) -> Fixture:
    assert context.fixture is not None  # applies() has asked
    return context.fixture
