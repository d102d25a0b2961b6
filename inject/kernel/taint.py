"""The kernel's taint flags."""

from __future__ import annotations

TAINTS = (
    "P (proprietary module)",
    "F (module force loaded)",
    "S (kernel or processor out of specification)",
    "R (module force unloaded)",
    "M (machine check)",
    "B (bad page)",
    "U (requested by user space)",
    "D (died: oops or BUG)",
    "A (ACPI table overridden)",
    "W (warning)",
    "C (staging driver)",
    "I (firmware workaround)",
    "O (out-of-tree module)",
    "E (unsigned module)",
    "L (soft lockup)",
    "K (live patched)",
    "X (auxiliary)",
    "T (randomised structures)",
    "N (in-kernel test)",
    "J (fwctl mutating debug)",
)
"""By bit number, as Documentation/admin-guide/tainted-kernels.rst has them."""

BAD_PAGE = 1 << 5
BROKEN = BAD_PAGE | 1 << 7 | 1 << 9 | 1 << 14
"""B, D, W and L: after one of these the kernel may do anything."""


def taint_names(bits: int) -> list[str]:
    """The flags of /proc/sys/kernel/tainted in words."""
    known = [name for number, name in enumerate(TAINTS) if bits >> number & 1]
    unknown = bits >> len(TAINTS) << len(TAINTS)
    return known + ([f"unknown bits {unknown:#x}"] if unknown else [])
