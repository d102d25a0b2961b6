"""Interface of Python and record.bpf.c: limits, struct layouts, maps, and constants set at load time.

tests/unit/test_record_abi.py compares every one of them with the C source.
"""

from __future__ import annotations

from collections.abc import Mapping

from inject.engine.abi import COUNTER, HASH, Area, Layout, Table

FRAMES = 125
"""Frames of a stack trace."""

WATCH = Layout("watch", cgroup="Q", level="I", any="I", tool="I", janitor="I", agent="I", armed="I")
ARMED = WATCH.before("armed").size
"""Offset of the flag, which comes after everything that it makes valid."""
LOSSES = Layout("losses", full="Q", untraced="Q", unknown="Q")
PATH = Layout("path", function="Q", caller="Q", frame=f"{FRAMES}Q")
REACHED = Layout("reached", hits="Q", first="Q")

WATCH_MARK, LOSSES_MARK = 0x4EC04DEC0101, 0x4EC04DEC0102
"""Replaced by the addresses of the two areas."""
KNOWN_MARK = 0x4EC04DEC0103
"""Replaced by 1 if the kernel says where it keeps preempt_count, else by 0."""
CONTEXT_MARK, OFFSET_MARK = 0x4EC04DEC0104, 0x4EC04DEC0105
"""Replaced by the address of the per-CPU variable that holds preempt_count, and by the offset in it."""
GATE_MARK = 0x4EC04DEC0106
"""Replaced by the address of 32 bits that are 0 as long as nothing is to be recorded."""

PERCPU_ARRAY = 6
"""BPF_MAP_TYPE_PERCPU_ARRAY, include/uapi/linux/bpf.h"""

AREAS: Mapping[str, Area] = {
    "watch": Area(WATCH_MARK, WATCH, each=False, length=1),
    "losses": Area(LOSSES_MARK, LOSSES, each=False, length=1),
}


def tables(functions: int, points: int) -> Mapping[str, Table]:
    """Maps with room for as many; the kernel takes the memory at once, so that no allocation can fail later."""
    return {
        "functions": Table(HASH, COUNTER.size, COUNTER.size, functions),
        "points": Table(HASH, PATH.size, REACHED.size, points),
        "scratch": Table(PERCPU_ARRAY, 4, PATH.size, 1),
    }
