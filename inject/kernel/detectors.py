"""Detectors of bugs that report once in a boot: which of them can report nothing more."""

from __future__ import annotations

import ctypes
import re
from typing import Callable

from inject.kernel.files import text_of
from inject.kernel.kernel import Kernel
from inject.kernel.taint import BAD_PAGE

_READ_ALL, _SIZE = 3, 10
"""Actions of syslog(2): SYSLOG_ACTION_READ_ALL, SYSLOG_ACTION_SIZE_BUFFER."""

_STOPPED = re.compile(r"^ debug_locks:\s+0$", re.MULTILINE)
_LEAKS_OFF = "Kernel memory leak detector disabled"
_UBSAN = re.compile(r"UBSAN: [^\n]*")


def whole_log() -> str:
    """All that the kernel log holds; "" if it cannot be read."""
    libc = ctypes.CDLL(None)
    size = libc.klogctl(_SIZE, None, 0)
    buffer = ctypes.create_string_buffer(max(size, 1))
    read = libc.klogctl(_READ_ALL, buffer, len(buffer))
    return buffer.raw[: max(read, 0)].decode("utf-8", "replace")


def spent_detectors(kernel: Kernel, log: Callable[[], str] = whole_log) -> tuple[str, ...]:
    """A sentence for each detector of ``kernel`` that cannot report, or not everything, until the next boot.

    Lockdep stops at its first report, and at a KASAN report or an oops (add_taint() with
    LOCKDEP_NOW_UNRELIABLE). KASAN reports one bad access unless booted with kasan_multi_shot
    (mm/kasan/report.c, report_enabled()). kmemleak turns itself off when it has no memory
    (mm/kmemleak.c, kmemleak_disable()). UBSAN reports each place once (lib/ubsan.c,
    was_reported()). All as of 6.12. ``log`` is asked only for a kernel that has one of the last two.
    """
    found = []
    if _STOPPED.search(text_of(kernel.root / "proc/lockdep_stats")):
        found.append("lockdep has stopped")
    config = kernel.config
    if config.has("CONFIG_KASAN") and "kasan_multi_shot" not in text_of(kernel.root / "proc/cmdline").split():
        taint = text_of(kernel.root / "proc/sys/kernel/tainted")
        if taint.isdigit() and int(taint) & BAD_PAGE:
            found.append("KASAN has reported and reports once in a boot")
    leaks, ubsan = config.has("CONFIG_DEBUG_KMEMLEAK"), config.has("CONFIG_UBSAN")
    text = log() if leaks or ubsan else ""
    if leaks and _LEAKS_OFF in text:
        found.append("kmemleak has turned itself off")
    places = set(_UBSAN.findall(text)) if ubsan else set()
    if places:
        found.append(
            f"UBSAN has reported {len(places)} place{'s' * (len(places) != 1)} and reports each once in a boot"
        )
    return tuple(found)
