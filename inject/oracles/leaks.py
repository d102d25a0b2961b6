"""Memory that the filesystem has not given back when it is gone: /proc/allocinfo, and kmemleak where it is built in."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from inject.oracles.base import Complaint, Context, Oracle

ALLOCINFO = Path("/proc/allocinfo")
KMEMLEAK = Path("/sys/kernel/debug/kmemleak")

QUIET = 10.0
"""Seconds that memory gets to be freed after the unmount: by RCU, by workers, by the cleaner of inodes."""

KEPT = ("xfs_uuid_mount",)
"""Functions whose memory stays on purpose: xfs keeps its table of UUIDs until the module goes
(xfs_uuid_table_free(), fs/xfs/xfs_mount.c)."""

_SHOWN = 10
_LINE = re.compile(r"\s*(-?\d+)\s+(\d+) (fs/(\w+)/\S+) (.*\S)")


def allocated(kind: str, file: Path = ALLOCINFO) -> dict[str, tuple[int, int]]:
    """Bytes and calls that are still allocated, by call site below fs/``kind``; empty if the kernel does not count.

    It counts when it was booted with sysctl.vm.mem_profiling=1 (lib/alloc_tag.c).
    """
    try:
        text = file.read_text()
    except OSError:
        return {}
    found: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and match.group(4) == kind and match.group(5).removeprefix("func:") not in KEPT:
            size, calls = int(match.group(1)), int(match.group(2))
            old = found.get(f"{match.group(3)} {match.group(5)}", (0, 0))
            found[f"{match.group(3)} {match.group(5)}"] = (old[0] + size, old[1] + calls)
    return found


def grown(before: Mapping[str, tuple[int, int]], now: Mapping[str, tuple[int, int]]) -> list[str]:
    """One line for each call site that holds more than before."""
    lines = []
    for site, (size, calls) in now.items():
        old_size, old_calls = before.get(site, (0, 0))
        if size > old_size and calls > old_calls:
            lines.append(f"{site}: {size - old_size} bytes in {calls - old_calls} allocations")
    return sorted(lines)


def profiling(switch: Path = Path("/proc/sys/vm/mem_profiling")) -> bool:
    """Whether the kernel counts allocations by call site."""
    try:
        return switch.read_text().strip() == "1"
    except OSError:
        return False


class Leaks(Oracle):
    """Complains of call sites of the filesystem that hold more memory after the unmount than before the mkfs.

    The two points are alike: nothing of the filesystem is mounted. Other mounted
    filesystems of the same type (a guest's root is ext4) would be counted as well, so
    it does not apply there.
    """

    name = "leaks"

    def applies(self, context: Context) -> bool:
        """Where allocations are counted, or kmemleak runs."""
        if context.fixture is None:
            return False
        kind = context.fixture.spec.type
        others = sum(kind == line.split()[2] for line in Path("/proc/mounts").read_text().splitlines())
        ours = int(context.fixture.mounted)
        return others <= ours and (profiling() or KMEMLEAK.exists())

    def before(self, context: Context) -> None:
        """Let kmemleak forget what was before (mm/kmemleak.c, kmemleak_write())."""
        if KMEMLEAK.exists():
            KMEMLEAK.write_text("clear")

    def after(self, context: Context) -> Optional[Complaint]:
        """Compare, and look again until nothing is left over or QUIET seconds are gone."""
        assert context.fixture is not None  # applies() has asked
        deadline = time.monotonic() + QUIET
        while True:
            lines = grown(context.allocated, allocated(context.fixture.spec.type)) if profiling() else []
            if not lines:
                break
            if time.monotonic() >= deadline:
                return Complaint(
                    self.name,
                    f"{len(lines)} call sites of {context.fixture.spec.type} have not freed their memory "
                    f"{QUIET:g} s after the unmount: {lines[0]}",
                    tuple(lines[:_SHOWN]),
                )
            Path("/proc/sys/vm/drop_caches").write_text("2")
            time.sleep(0.2)
        return self._kmemleak()

    def _kmemleak(self) -> Optional[Complaint]:
        if not KMEMLEAK.exists():
            return None
        for _ in range(2):  # an object is reported by the second scan that does not find it
            KMEMLEAK.write_text("scan")
        text = KMEMLEAK.read_text()
        found = text.count("unreferenced object")
        if not found:
            return None
        return Complaint(
            self.name,
            f"kmemleak: {found} unreferenced object{'s' * (found != 1)}",
            tuple(line.rstrip() for line in text.splitlines()[:40]),
        )
