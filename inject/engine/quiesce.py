"""Keep other CPUs out of the kernel while thousands of its functions are patched.

QEMU before 8.1 emulates a processor that may go on executing an instruction which
another one has replaced (fixed by "accel/tcg: always lock pages before translation"):
ftrace's breakpoint is then hit after it is gone, and the guest dies of
"Oops: int3". Real processors and KVM need none of this.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

PRIORITY = 50
"""Of SCHED_FIFO: above everything that is not real time."""
MOST_CPUS = 64
SETTLE = 0.02
"""Seconds for what runs on the other CPUs to be displaced."""


@contextlib.contextmanager
def others_still(wanted: bool) -> Iterator[None]:
    """With ``wanted``, keep every other CPU busy with a thread in user space, as far as permitted."""
    cpus = sorted(os.sched_getaffinity(0))
    if not wanted or len(cpus) < 2:
        yield
        return
    flag: list[bool] = []
    threads = [
        threading.Thread(target=_spin, args=(cpu, flag), name=f"still-{cpu}", daemon=True)
        for cpu in cpus[1 : MOST_CPUS + 1]
    ]
    try:
        for thread in threads:
            thread.start()
        os.sched_setaffinity(0, {cpus[0]})
        time.sleep(SETTLE)
        yield
    finally:
        flag.append(True)
        os.sched_setaffinity(0, set(cpus))
        for thread in threads:
            thread.join(10)


def _spin(cpu: int, flag: list[bool]) -> None:
    """Be busy on ``cpu`` until ``flag`` is not empty; reading the clock needs no system call."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {cpu})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        end = time.monotonic() + 60
        while not flag and time.monotonic() < end:
            pass
