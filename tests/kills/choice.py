"""Which of a run's system calls are worth a kill."""

from __future__ import annotations

from collections.abc import Sequence

from inject.model.syscalls import call_name

QUIET = 1 << 16
"""Added to the number of a call whose arguments say that it changes nothing: openat(2) for reading, isatty(3)."""

_HARMLESS = """
    access arch_prctl brk clock_gettime clock_nanosleep epoll_create1 epoll_ctl epoll_wait exit exit_group faccessat
    faccessat2 fadvise64 fcntl fstat futex get_robust_list getcwd getdents64 getegid geteuid getgid getpgid getpgrp
    getpid getppid getrandom getrlimit getrusage getsid gettid getuid lseek lstat madvise mincore mmap mprotect
    mremap munmap newfstatat nanosleep pidfd_open poll ppoll pread64 prlimit64 read readlink readlinkat readv rseq
    rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield select pselect6 set_robust_list
    set_tid_address sigaltstack stat statfs statx sysinfo times umask uname wait4 waitid
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Calls that change nothing outside of the process: a kill after them finds what a kill before them finds."""


def name_of(call: int) -> str:
    """The name of a call as it was recorded."""
    return call_name(call & ~QUIET)


def changing(calls: Sequence[int]) -> list[int]:
    """Places in ``calls`` of those that may change something."""
    return [place for place, call in enumerate(calls) if not call & QUIET and name_of(call) not in HARMLESS]


def spread(calls: Sequence[int], most: int) -> list[int]:
    """At most ``most`` places in ``calls``: one of every call that changes something, the others evenly apart."""
    places = changing(calls)
    chosen = list({calls[place]: place for place in places}.values())[:most]
    rest = [place for place in places if place not in chosen and name_of(calls[place]) != "close"]
    room = min(most - len(chosen), len(rest))
    return sorted(set(chosen + [rest[index * len(rest) // room] for index in range(room)]))


def every(calls: Sequence[int]) -> list[int]:
    """All places: first those where something may have changed, then the others, where a kill finds the same as before.

    Either are in an order in which those done at any moment are about evenly apart.
    """
    first = changing(calls)
    return _scattered(first) + _scattered(sorted(set(range(len(calls))).difference(first)))


def _scattered(places: Sequence[int]) -> list[int]:
    bits = max(1, (len(places) - 1).bit_length())
    order = sorted(range(len(places)), key=lambda index: int(f"{index:0{bits}b}"[::-1], 2))
    return [places[index] for index in order]
