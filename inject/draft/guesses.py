"""What a first scenario for a function could look like, guessed from the function's name. Pure.

A guess is a workload that reaches the function on the way that its family is mostly
reached, and a call path or device that keeps the fault away from everything else.
It claims nothing about what the kernel does then: that is for the user to see and say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from inject.model.point import ErrorType

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
try mkdir $MNT/folder
try mv $MNT/new $MNT/folder
try rm -r $MNT/folder
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
"""Unmounted without a last word, so that the next mount has a journal to read."""

MOUNT = "mount -i -t {type} $DEV $MNT\n"
MOUNTED_AGAIN = "mountpoint -q $MNT || mount -i -t {type} $DEV $MNT\n" + WRITES_AGAIN

CALLS = {
    "chmod": "touch new; chmod 600 new",
    "creat": "python3 -c 'import os; os.close(os.open(\"new\", os.O_CREAT | os.O_WRONLY | os.O_TRUNC))'",
    "fsync": "dd if=/dev/zero of=new bs=4k count=1 conv=fsync status=none",
    "link": "touch new; ln new other",
    "mkdir": "mkdir new",
    "mount": "mount -t tmpfs none /mnt; umount /mnt",
    "openat": "cat /etc/hostname",
    "pread64": "xfs_io -f -c 'pwrite 0 4k' -c 'pread 0 4k' new",
    "pwrite64": "xfs_io -f -c 'pwrite 0 4k' new",
    "read": "cat /etc/hostname",
    "rmdir": "mkdir new; rmdir new",
    "sync": "sync",
    "unlinkat": "touch new; rm new",
    "write": "echo hello >new",
}
"""Commands that make a system call which a shell does not make all the time by itself."""

CALL_ARGS = {"openat": {"filename": '{glob: "/etc/hostname"}'}, "read": {"count": "{above: 65536}"}}
"""What tells the command's own calls from those with which every program begins."""


@dataclass(frozen=True)
class Guess:
    """A starting point for a function. ``filesystem`` "" where it needs none.

    ``when`` are keys of ``when:`` as text; ``reaches`` says whether ``run`` is known to get there;
    ``beware`` is what whoever widens it has to know.
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


def _files(filesystem: str, **changes: object) -> Guess:
    """Work on files of a mounted filesystem."""
    plain: dict[str, object] = {"setup": KEPT, "run": FILES, "recover": WRITES_AGAIN, "programs": ("xfs_io",)}
    return Guess(filesystem, **{**plain, **changes})  # type: ignore[arg-type]


def _mounting(filesystem: str, **changes: object) -> Guess:
    """Mounting a filesystem that has a file."""
    run, recover = MOUNT.format(type=filesystem), MOUNTED_AGAIN.format(type=filesystem)
    plain: dict[str, object] = {"setup": UNMOUNTED, "run": run, "recover": recover}
    return Guess(filesystem, **{**plain, **changes})  # type: ignore[arg-type]


UNKNOWN = "true   # put a command here that makes the kernel call {function}()\n"
CALL = "true   # put a command here that makes the system call {call}(2)\n"

FAMILIES = (
    Family(
        "bch2_dynamic_fault",
        _files("bcachefs", scope="any", when={"every": "10"}, args={"class": '{glob: "bcachefs:race"}'}),
    ),
    Family(
        "bch2_alloc_sectors_start_trans",
        _files(
            "bcachefs",
            mount="nocow",
            when={"stack": "[bch2_extent_fallocate]", "nth": "1"},
        ),
    ),
    Family(
        "bch2_get_folio_disk_reservation",
        _files(
            "bcachefs",
            returns="-BCH_ERR_ENOSPC_disk_reservation",
            beware="both callers BUG_ON() its result (fs/bcachefs/fs-io-buffered.c, fs-io.c): the kernel dies of it",
        ),
    ),
    Family(r"\w*bch2\w*(reserv|fallocate)\w*", _files("bcachefs", returns="-BCH_ERR_ENOSPC_disk_reservation")),
    Family(r"\w*bch2\w*invalidate\w*", _files("bcachefs", returns="-EIO")),
    Family(r"\w*bch2?_\w*", _files("bcachefs")),
    Family(
        "open_ctree",
        _mounting(
            "btrfs",
            returns="-EIO",
            beware="it closes the devices itself when it fails (fs/btrfs/disk-io.c); skipped, it leaves them open, "
            "which `leaks` and fsck then report",
        ),
    ),
    Family("btrfs_check_leaf", _files("btrfs", returns="-EIO", scope="any")),
    Family("btrfs_check_node", _files("btrfs", returns="-EIO", scope="any", run=MANY)),
    Family(
        "btrfs_should_cancel_balance",
        _files("btrfs", run="btrfs balance start --full-balance $MNT\n", programs=("btrfs",)),
    ),
    Family("io_ctl_init", Guess("btrfs", run=UNKNOWN.format(function="io_ctl_init"), reaches=False)),
    Family("_*btrfs_.*", _files("btrfs")),
    Family("_*(xfs|xlog)_.*", _files("xfs")),
    Family("_*(ext4|jbd2)_.*", _files("ext4")),
    Family(
        "__genradix_ptr_alloc",
        _mounting(
            "bcachefs",
            setup=CRASHED,
            programs=("xfs_io",),
            scope="any",
            when={"stack": "[bch2_journal_read_device]", "nth": "1"},
        ),
    ),
    Family("should_fail_(bio|request)", _files("bcachefs", returns="-EIO", when={"device": "$DEV", "nth": "1"})),
    Family("should_fail(slab|_alloc_page)", _files("bcachefs", when={"stack": '["module:bcachefs"]', "nth": "1"})),
    Family("_*filemap_.*", _files("bcachefs", when={"device": "$DEV", "nth": "1"})),
)
"""The first that matches counts."""


def guess(function: str, error_type: ErrorType, call: str = "") -> Guess:
    """The starting point for ``function``; ``call`` is the system call that it is the wrapper of.

    ``returns`` always is legal for ``error_type``.
    """
    found = _of_call(call) if call else _of_family(function)
    only = {ErrorType.NULL: "NULL", ErrorType.TRUE: "true"}.get(error_type, found.returns)
    return Guess(**{**vars(found), "returns": only})


def _of_family(function: str) -> Guess:
    for family in FAMILIES:
        if re.fullmatch(family.pattern, function):
            return family.guess
    return Guess(run=UNKNOWN.format(function=function), reaches=False)


def _of_call(call: str) -> Guess:
    if call in CALLS:
        programs = tuple(name for name in ("xfs_io", "python3") if CALLS[call].startswith(name))
        return Guess(returns="-EIO", run=CALLS[call] + "\n", programs=programs, args=CALL_ARGS.get(call, {}))
    return Guess(returns="-EIO", run=CALL.format(call=call), reaches=False)
