"""Guesses for scenario skeletons, by function: system calls, and functions that all filesystems call. Pure."""

from __future__ import annotations

import re

from inject.filesystems import TYPES
from inject.filesystems.guess import Family, Guess, on_files, unreached
from inject.model.point import ErrorType

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
"""Commands that make a system call which a shell itself rarely makes."""

CALL_ARGS = {"openat": {"filename": '{glob: "/etc/hostname"}'}, "read": {"count": "{above: 65536}"}}
"""Conditions that select the command's own calls, not those at the start of every program."""


CALL = "true   # put a command here that makes the system call {call}(2)\n"

DEFAULT = "bcachefs"
"""The filesystem of guesses for functions that all filesystems call."""

FAMILIES = (
    *(family for kind in TYPES.values() for family in kind.guesses),
    Family("should_fail_(bio|request)", on_files(DEFAULT, returns="-EIO", when={"device": "$DEV", "nth": "1"})),
    Family("should_fail(slab|_alloc_page)", on_files(DEFAULT, when={"stack": f'["module:{DEFAULT}"]', "nth": "1"})),
    Family("_*filemap_.*", on_files(DEFAULT, when={"device": "$DEV", "nth": "1"})),
)
"""The first that matches counts."""

ONLY = {ErrorType.NULL: "NULL", ErrorType.TRUE: "true", ErrorType.BOOL: "false", ErrorType.NUMBER: "0"}
"""What functions return that cannot return every errno."""

BY_RESULT = {"vm_fault_t": "VM_FAULT_OOM", "blk_status_t": "BLK_STS_IOERR"}
"""A failure of functions that return a number, by its type."""


def guess(function: str, error_type: ErrorType, call: str = "") -> Guess:
    """The guess for ``function``; ``call`` is the system call that it is the wrapper of.

    ``returns`` always is legal for ``error_type``.
    """
    found = _of_call(call) if call else _of_family(function)
    only = ONLY.get(error_type, found.returns)
    return Guess(**{**vars(found), "returns": only})


def _of_family(function: str) -> Guess:
    for family in FAMILIES:
        if re.fullmatch(family.pattern, function):
            return family.guess
    return unreached(function)


def _of_call(call: str) -> Guess:
    if call in CALLS:
        programs = tuple(name for name in ("xfs_io", "python3") if CALLS[call].startswith(name))
        return Guess(returns="-EIO", run=CALLS[call] + "\n", programs=programs, args=CALL_ARGS.get(call, {}))
    return Guess(returns="-EIO", run=CALL.format(call=call), reaches=False)
