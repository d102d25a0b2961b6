"""Calls about mounts in a fork."""

from __future__ import annotations

from inject.filesystems import TYPES
from inject.process.mounting import forget


def test_what_the_kernel_refuses_to_forget_is_no_failure() -> None:
    """With arguments as long as the real ones."""
    sizes = [kind.scan.name_size for kind in TYPES.values() if kind.scan]
    assert sizes
    for size in sizes:
        done = forget("/dev/null", 0x50009405, size, ["/dev/a", "/dev/b"], timeout=60, cgroup=None)
        assert (done.code, done.output, done.timed_out) == (0, "", False)


def test_a_kernel_without_the_filesystem_has_nothing_to_forget() -> None:
    done = forget("/dev/absent", 0x50009405, 4088, ["/dev/a"], timeout=60, cgroup=None)
    assert done.code == 1 and "No such file" in done.output
