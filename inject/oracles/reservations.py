"""bcachefs' space accounting: what was reserved is given back, and what is free can really be had."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Optional

from inject.errors import InjectError
from inject.fixture import Fixture
from inject.oracles.base import Complaint, Context, Oracle
from inject.tool import run_tool

QUIET = 20.0
"""Seconds that reservations get to be given back once everything is synced."""

SLACK = 4 << 20
"""Bytes of a claim that the btree may take for itself, and that may stay away for now when it is given back."""

_TIMEOUT = 60.0
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
            _sync(context)
            self._before = online_reserved(fixture) or 0

    def settled(self, context: Context) -> None:
        """Wait for quiescence, then claim and release. Not on a filesystem that has gone read-only."""
        fixture = _fixture(context)
        if not fixture.mounted or os.statvfs(fixture.mountpoint).f_flag & os.ST_RDONLY:
            return
        level = self._at_rest(context)
        if level is None:
            return
        if level > self._before:
            self._complaint = Complaint(
                self.name,
                f"{level} sectors are still reserved {QUIET:g} s after everything was synced, {self._before} before",
            )
            return
        self._complaint = self._claim(context)

    def after(self, context: Context) -> Optional[Complaint]:
        """What settled() found."""
        return self._complaint

    def _at_rest(self, context: Context) -> Optional[int]:
        """Sectors reserved when no more than before are, or after QUIET seconds; None where it cannot be read."""
        deadline = time.monotonic() + QUIET
        while True:
            _sync(context)
            level = online_reserved(_fixture(context))
            if level is not None and level > self._before:
                _DROP.write_text("1")
                level = online_reserved(_fixture(context))
            if level is None or level <= self._before or time.monotonic() >= deadline:
                return level
            time.sleep(0.2)

    def _claim(self, context: Context) -> Optional[Complaint]:
        fixture = _fixture(context)
        mountpoint = fixture.mountpoint
        free = _available(mountpoint)
        size = (free - SLACK) // _replicas(fixture)
        if size < SLACK:
            self.notes.append(f"reservations: only {free} bytes are available, too few to claim some")
            return None
        file = mountpoint / f".inject-{os.urandom(4).hex()}"
        try:
            done = run_tool(["fallocate", "-l", str(size), str(file)], timeout=_TIMEOUT, cgroup=context.cgroup)
        finally:
            with contextlib.suppress(OSError):
                file.unlink()
        if done.code != 0:
            return Complaint(
                self.name, f"statfs says that {free} bytes are available, but {size} cannot be had: {done.last_line}"
            )
        deadline = time.monotonic() + QUIET
        while True:
            _sync(context)
            left = free - _available(mountpoint)
            if left <= SLACK:
                return None
            if time.monotonic() >= deadline:
                return Complaint(
                    self.name, f"{left} bytes do not come back within {QUIET:g} s after {size} were allocated and freed"
                )
            time.sleep(0.2)


def online_reserved(fixture: Fixture, sysfs: Path = _SYSFS) -> Optional[int]:
    """Sectors of 512 bytes that are reserved right now; None if the kernel does not say."""
    home = _home(fixture, sysfs)
    if home is None:
        return None
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


def _replicas(fixture: Fixture) -> int:
    home = _home(fixture, _SYSFS)
    try:
        return max(1, int((home / "options/data_replicas").read_text())) if home else 1
    except (OSError, ValueError):
        return 1


def _available(mountpoint: Path) -> int:
    status = os.statvfs(mountpoint)
    return status.f_bavail * status.f_frsize


def _sync(context: Context) -> None:
    """Write everything of the filesystem; a journal flush is part of it."""
    done = run_tool(["sync", "-f", str(_fixture(context).mountpoint)], timeout=_TIMEOUT, cgroup=context.cgroup)
    if done.timed_out:
        raise InjectError(f"syncing {_fixture(context).mountpoint} {done.how()}")


def _fixture(context: Context) -> Fixture:
    assert context.fixture is not None  # applies() has asked
    return context.fixture
