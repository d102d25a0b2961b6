"""Patterns of the kernel log for bugs that the kernel reports."""

from __future__ import annotations

import re
from dataclasses import dataclass

from inject.filesystems import TYPES


@dataclass(frozen=True)
class SplatPattern:
    """One way in which the kernel reports a bug. ``body``: a trace follows."""

    name: str
    pattern: re.Pattern[str]
    body: bool = True


def _pattern(name: str, pattern: str, body: bool = True) -> SplatPattern:
    return SplatPattern(name, re.compile(pattern), body)


def _any_of(*patterns: str) -> str:
    return "|".join(pattern for pattern in patterns if pattern)


# Texts of linux 6.12, each with the place that prints it.
PATTERNS = (
    _pattern("KASAN", r"\bBUG: K(ASAN|CSAN|MSAN|FENCE): "),  # mm/kasan/report.c, kernel/kcsan, mm/kmsan, mm/kfence
    _pattern("UBSAN", r"^UBSAN: "),  # lib/ubsan.c
    _pattern(  # kernel/locking/lockdep.c
        "lockdep",
        r"possible (circular|recursive|irq lock inversion) (locking )?dependency detected"
        r"|possible recursive locking detected"
        r"|possible irq lock inversion"
        r"|-(un)?safe -> .*lock order detected"
        r"|inconsistent lock state"
        r"|suspicious RCU usage"
        r"|held lock freed"
        r"|[Ll]ock held when returning to user ?space"
        r"|bad unlock balance detected"
        r"|bad contention detected"
        r"|Nested lock was not taken"
        r"|Invalid wait context"
        r"|locks still held"
        r"|INFO: trying to register non-static key"
        r"|DEBUG_LOCKS_WARN_ON"
        r"|(MAX_LOCKDEP_\w+|MAX_LOCK_DEPTH|MAX_STACK_TRACE_ENTRIES) too low",
    ),
    _pattern("atomic sleep", r"scheduling while atomic|sleeping function called from invalid context"),  # kernel/sched
    _pattern("lockup", r"soft lockup|[Hh]ard LOCKUP|workqueue lockup"),  # kernel/watchdog.c, kernel/workqueue.c
    _pattern(
        "stall", r"\brcu_\w+ (self-)?detected .*stall|rcu.*kthread (starved|timer wakeup)"
    ),  # kernel/rcu/tree_stall.h
    _pattern("hung task", r"^INFO: task .* blocked (for more than|in I/O wait for)"),  # kernel/hung_task.c
    _pattern("panic", r"^Kernel panic - not syncing"),  # kernel/panic.c
    _pattern("BUG", r"kernel BUG at "),  # lib/bug.c
    _pattern(  # arch/x86/mm/fault.c, arch/x86/kernel/{traps,dumpstack}.c, arch/arm64
        "Oops",
        r"\bOops(:| -)|^general protection fault|^stack segment: |^divide error: |^invalid opcode: "
        r"|^double fault|^traps: PANIC|^Internal error: |[Uu]nable to handle (kernel|page)|^int3: ",
    ),
    _pattern("BUG", r"\bBUG: |^BUG \S+ \("),  # any; the second is mm/slub.c
    _pattern("corruption", r"^list_(add|del)(_\w+)? (corruption|double add)"),  # lib/list_debug.c
    _pattern("refcount", r"^refcount_t: "),  # lib/refcount.c
    _pattern("WARNING", r"^WARNING: "),  # kernel/panic.c
    _pattern(
        "assertion",
        _any_of(
            *(kind.log.assertion for kind in TYPES.values()),
            r"^VFS: Busy inodes after unmount",  # fs/super.c
            r"^VFS: brelse: Trying to free",  # fs/buffer.c
        ),
    ),
    _pattern("kmemleak", r"^kmemleak: \d+ new suspected memory leak", body=False),  # mm/kmemleak.c
    # Not damage, but a filesystem must not do it unexpectedly: a scenario that expects it allows it.
    _pattern("read-only", _any_of(*(kind.log.read_only for kind in TYPES.values())), body=False),
)
"""The first that matches counts."""
