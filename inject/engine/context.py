"""What the program uses of the running kernel: its count of interrupts, and its way to load from any address."""

from __future__ import annotations

from typing import Optional

from inject.engine.rule import Cast, PerCpu
from inject.errors import CannotRun
from inject.kernel.types import Types


def preempt_count(types: Types) -> Optional[PerCpu]:
    """Where the kernel keeps preempt_count; None without BTF, or on an architecture that keeps it elsewhere."""
    try:
        btf = types.of("")
    except CannotRun:
        return None
    hot = btf.variable("pcpu_hot")  # Linux 6.2 to 6.14: arch/x86/include/asm/current.h
    if hot:
        return PerCpu(hot, btf.member("pcpu_hot", "preempt_count"))
    count = btf.variable("__preempt_count")  # before and after: arch/x86/include/asm/preempt.h
    return PerCpu(count, 0) if count else None


def rdonly_cast(types: Types) -> Optional[Cast]:
    """bpf_rdonly_cast() of Linux 6.2 (kernel/bpf/helpers.c); the verifier makes a copy of a register of its call.

    struct timespec64 (include/linux/time64.h) begins with two numbers, so that what is loaded is one.
    """
    try:
        btf = types.of("")
    except CannotRun:
        return None
    kfunc, words = btf.function("bpf_rdonly_cast"), btf.struct("timespec64")
    return Cast(kfunc, words) if kfunc and words else None
