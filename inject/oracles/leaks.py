"""Check of what stays after the unmount: memory (/proc/allocinfo, kmemleak), pages, mounts, open files."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Optional

from inject.filesystems import TYPES
from inject.fixture.filesystem import Fixture
from inject.kernel.kernel import Kernel
from inject.model.verdict import Complaint
from inject.oracles.base import Context, Oracle, Quiet
from inject.oracles.pages import Held, held
from inject.process.mounts import Mount, mounts, mounts_of

ALLOCINFO = Path("/proc/allocinfo")
KMEMLEAK = Path("/sys/kernel/debug/kmemleak")

QUIET = 10.0
"""Seconds after the unmount in which RCU, workers and the inode cleaner may free memory."""

_SHOWN = 10
_LINE = re.compile(r"\s*(-?\d+)\s+(\d+) (fs/(\w+)/\S+) (.*\S)")


def allocated(kind: str, file: Path = ALLOCINFO) -> dict[str, tuple[int, int]]:
    """Allocated bytes and calls by call site below fs/``kind``; empty if the kernel does not count them.

    It counts if it was booted with sysctl.vm.mem_profiling=1 (lib/alloc_tag.c).
    """
    try:
        text = file.read_text()
    except OSError:
        return {}
    found: dict[str, tuple[int, int]] = {}
    directory = f" fs/{kind}/"
    keeps = TYPES[kind].code.keeps if kind in TYPES else ()
    for line in text.splitlines():
        match = _LINE.match(line) if directory in line else None
        if match and match.group(4) == kind and match.group(5).removeprefix("func:") not in keeps:
            size, calls = int(match.group(1)), int(match.group(2))
            old = found.get(f"{match.group(3)} {match.group(5)}", (0, 0))
            found[f"{match.group(3)} {match.group(5)}"] = (old[0] + size, old[1] + calls)
    return found


def quiet_state(kind: str, kernel: Kernel) -> Quiet:
    """What to compare with after the unmount. Pages are compared in a guest only, where nothing else uses them."""
    return Quiet(allocated(kind), held() if kernel.is_guest() else None)


def grown(before: Mapping[str, tuple[int, int]], now: Mapping[str, tuple[int, int]]) -> list[str]:
    """One line for each call site that holds more than before."""
    lines = []
    for site, (size, calls) in now.items():
        old_size, old_calls = before.get(site, (0, 0))
        if size > old_size and calls > old_calls:
            lines.append(f"{site}: {size - old_size} bytes in {calls - old_calls} allocations")
    return sorted(lines)


def profiling(switch: Path = Path("/proc/sys/vm/mem_profiling")) -> bool:
    """True if the kernel counts allocations by call site."""
    try:
        return switch.read_text().strip() == "1"
    except OSError:
        return False


def in_use(device: str) -> bool:
    """True if ``device`` is held exclusively, for example by a superblock that outlived its last mount."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def others_of(fixture: Fixture, mounted: Iterable[Mount]) -> list[str]:
    """Mount points of other filesystems of the fixture's type."""
    own = set(fixture.devices)
    return [mount.point for mount in mounted if mount.kind == fixture.spec.type and not own.intersection(mount.sources)]


class Leaks(Oracle):
    """Check that no mount, open file or memory stays after the unmount.

    An open file, or a reference that the kernel lost, keeps the superblock, which keeps
    the devices. Call sites of the filesystem must not hold more memory than before mkfs,
    when it was not mounted either. Memory is not compared if another filesystem of the
    same type is mounted, because both use the same call sites; a note says so, unless
    it is the root filesystem: that of a guest is ext4, which no scenario can change.
    In a guest, the kernel must not hold more pages than before mkfs (pages.py).
    """

    name = "leaks"

    def __init__(self) -> None:
        super().__init__()
        self._alone = True
        self._scans = False
        self._now: Optional[Held] = None

    def before(self, context: Context) -> None:
        """Count other filesystems of this type; clear old reports of kmemleak (kmemleak_write(), mm/kmemleak.c)."""
        assert context.fixture is not None  # applies() is true
        others = others_of(context.fixture, mounts())
        self._alone = not others
        if others and "/" not in others and profiling():
            kind = context.fixture.spec.type
            self.notes.append(f"leaks: memory was not compared, because another {kind} is mounted at {others[0]}")
        self._restless(context.pages)
        self._scans = KMEMLEAK.exists()
        try:
            if self._scans:
                KMEMLEAK.write_text("clear")
        except PermissionError:  # EPERM of kmemleak_write(): it was booted with kmemleak=off, or gave up
            self._scans = False
            self.notes.append("leaks: not checked with kmemleak, which is off")

    def after(self, context: Context) -> Optional[Complaint]:
        """Compare, again and again until nothing is left or QUIET seconds have passed."""
        fixture = context.fixture
        assert fixture is not None  # applies() is true
        fixture.forget()  # a checker may have had the devices scanned
        deadline = time.monotonic() + QUIET
        while True:
            complaint = self._left(fixture, context.allocated) or self._pages(context.pages)
            if complaint is None and (self._now is None or self._now.still):
                return self._kmemleak()
            if time.monotonic() >= deadline:
                self._restless(self._now)
                return complaint or self._kmemleak()
            Path("/proc/sys/vm/drop_caches").write_text("2")
            time.sleep(0.2)

    def _left(self, fixture: Fixture, allocated_before: Mapping[str, tuple[int, int]]) -> Optional[Complaint]:
        """What is left now, or None."""
        points = [mount.point for mount in mounts_of(fixture.devices)]
        if points:
            return self.complaint(f"it is still mounted at {points[0]}", tuple(points[:_SHOWN]))
        held = [device for device in fixture.devices if in_use(device)]
        if held:
            return self.complaint(
                f"{held[0]} is in use {QUIET:g} s after the unmount: an open file or a lost reference"
            )
        kind = fixture.spec.type
        lines = grown(allocated_before, allocated(kind)) if self._alone and profiling() else []
        if lines:
            return self.complaint(
                f"{len(lines)} call sites of {kind} have not freed their memory "
                f"{QUIET:g} s after the unmount: {lines[0]}",
                tuple(lines[:_SHOWN]),
            )
        return None

    def _pages(self, before: Optional[Held]) -> Optional[Complaint]:
        """A complaint if the kernel holds more pages than before mkfs."""
        self._now = held() if before is not None and before.still else None
        if before is None or self._now is None or not self._now.still:
            return None
        words = self._now.more_than(before)
        log = (f"before mkfs: {before}", f"after the unmount: {self._now}")
        return self.complaint(f"{QUIET:g} s after the unmount: {words}", log) if words else None

    def _restless(self, pages: Optional[Held]) -> None:
        """Note that pages are not compared, if they came and went during each look."""
        if pages is not None and not pages.still:
            self.notes.append("leaks: pages were not compared: other programs used the page cache all the time")

    def _kmemleak(self) -> Optional[Complaint]:
        if not self._scans:
            return None
        for _ in range(2):  # the second scan that does not find an object reports it
            KMEMLEAK.write_text("scan")
        text = KMEMLEAK.read_text()
        found = text.count("unreferenced object")
        if not found:
            return None
        return self.complaint(
            f"kmemleak: {found} unreferenced object{'s' * (found != 1)}",
            tuple(line.rstrip() for line in text.splitlines()[:40]),
        )
