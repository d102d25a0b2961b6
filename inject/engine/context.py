"""Where the kernel counts that a CPU is in an interrupt."""

from __future__ import annotations

from typing import Optional

from inject.engine.rule import PerCpu
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
