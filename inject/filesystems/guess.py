"""A starting point for a scenario, and the scripts that reach a filesystem's code.

A guess is a workload that reaches a function in the usual way, and a stack
trace or a device that keeps the fault away from everything else. It
claims nothing about what the kernel does then: you have to say that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FILES = """\
# Each step is tried; the exit code says whether one failed. Keep those that matter.
failed=0
try() { "$@" || { echo "failed: $*"; failed=1; }; }
try dd if=/dev/zero of=$MNT/new bs=64k count=32 status=none
try sync $MNT/new
try dd if=/dev/zero of=$MNT/new bs=64k count=16 oflag=direct conv=notrunc status=none
try fallocate -l 1M $MNT/space
try xfs_io -c "mmap -w 0 64k" -c "mwrite 0 64k" $MNT/kept
try truncate -s 100001 $MNT/new
try mkdir $MNT/dir
try mv $MNT/new $MNT/dir
try rm -r $MNT/dir
sync
echo 1 >/proc/sys/vm/drop_caches
try cat $MNT/kept >/dev/null
exit $failed
"""
"""Buffered, direct and mapped writes, names, and a read from the disk."""

KEPT = "head -c 256K /dev/urandom >$MNT/kept\nsync $MNT/kept\n"
WRITES_AGAIN = "dd if=/dev/zero of=$MNT/again bs=1M count=1 conv=fsync status=none\ntest -s $MNT/kept\n"

MANY = """\
# More files than fit in one leaf, so that the tree has nodes above its leaves.
for number in $(seq 200); do echo $number >$MNT/new$number; done
sync
"""

UNMOUNTED = KEPT + "umount $MNT\n"
CRASHED = KEPT + "xfs_io -x -c shutdown $MNT\numount $MNT\n"
"""Unmounted without a clean shutdown, so that the next mount has a journal to read."""

MOUNT = "mount -i -t {type} $DEV $MNT\n"
MOUNTED_AGAIN = "mountpoint -q $MNT || mount -i -t {type} $DEV $MNT\n" + WRITES_AGAIN

UNKNOWN = "true   # put a command here that makes the kernel call {function}()\n"


@dataclass(frozen=True)
class Guess:
    """A starting point for a function. ``filesystem`` is "" if it needs none.

    ``when`` are keys of ``when:`` as text; ``reaches`` says whether ``run`` is known to get there;
    ``beware`` is what you must know before you widen it.
    """

    filesystem: str = ""
    returns: str = "-ENOMEM"
    when: Mapping[str, str] = field(default_factory=lambda: {"nth": "1"})
    args: Mapping[str, str] = field(default_factory=dict)
    scope: str = "workload"
    mount: str = ""
    setup: str = ""
    run: str = ""
    recover: str = ""
    programs: tuple[str, ...] = ()
    reaches: bool = True
    beware: str = ""


@dataclass(frozen=True)
class Family:
    """Functions that are reached alike: ``pattern`` matches their whole name."""

    pattern: str
    guess: Guess


def on_files(filesystem: str, **changes: object) -> Guess:
    """Work on files of a mounted filesystem."""
    plain: dict[str, object] = {"setup": KEPT, "run": FILES, "recover": WRITES_AGAIN, "programs": ("xfs_io",)}
    return Guess(filesystem, **{**plain, **changes})  # type: ignore[arg-type]


def on_mount(filesystem: str, **changes: object) -> Guess:
    """Mounting a filesystem that has a file."""
    run, recover = MOUNT.format(type=filesystem), MOUNTED_AGAIN.format(type=filesystem)
    plain: dict[str, object] = {"setup": UNMOUNTED, "run": run, "recover": recover}
    return Guess(filesystem, **{**plain, **changes})  # type: ignore[arg-type]


def unreached(function: str, filesystem: str = "") -> Guess:
    """A function that no workload is known to reach."""
    return Guess(filesystem, run=UNKNOWN.format(function=function), reaches=False)
