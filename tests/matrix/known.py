"""Failures that are explained: where a kernel does otherwise than the library expects of 6.12."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Optional

from tests.matrix.cell import BAD, Cell


@dataclass(frozen=True)
class Known:
    """Scenarios (a pattern of their names) that fail for ``reason`` on ``kernels``, and ``why``.

    ``bug``: the kernel's, and not only another behaviour.
    """

    scenarios: str
    kernels: tuple[str, ...]
    reason: str
    why: str
    bug: bool = False

    def matches(self, scenario: str) -> bool:
        """True if it explains failures of the scenario of that name."""
        return fnmatchcase(scenario, self.scenarios)


UNCALLED = (
    "the workload submits bios and never calls the symbol should_fail_bio: without CONFIG_FAIL_MAKE_REQUEST its body is"
    " empty, and inlined."
)

KNOWN = (
    Known(
        "disk-reservation/mmap-later",
        ("stock:6.12",),
        "not-injected",
        "gcc inlines bch2_folio_reservation_get() into bch2_page_mkwrite(); the test kernel marks it noinline.",
    ),
    Known("other-filesystems/*-partial-write", ("stock:7.3",), "not-injected", UNCALLED),
    Known("other-filesystems/*-error", ("stock:7.3",), "not-injected", UNCALLED),
    Known(
        "memory/mount-xfs",
        ("stock:6.1",),
        "exit",
        "xfs of 6.1 repeats an allocation that fails, in kmem_alloc() (fs/xfs/kmem.c): the mount succeeds.",
    ),
    Known(
        "other-filesystems/btrfs-open-ctree*",
        ("stock:6.1",),
        "errno",
        "open_ctree() (fs/btrfs/disk-io.c) of 6.1 begins with `err = -EINVAL` and returns that for most failures.",
        bug=True,
    ),
    Known(
        "other-filesystems/btrfs-create-slab",
        ("stock:6.1",),
        "not-injected",
        "without frame pointers btrfs_create() ends in a jump to btrfs_create_common() and is in no stack.",
    ),
)


def known(scenario: str, kernel: str, cell: Cell, table: tuple[Known, ...] = KNOWN) -> Optional[Known]:
    """The explanation of a failure; None if it has none."""
    if cell.kind not in BAD:
        return None
    for one in table:
        if kernel in one.kernels and cell.reason == one.reason and one.matches(scenario):
            return one
    return None
