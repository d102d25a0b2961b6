"""What the callers of vmlinux's functions do with their results outlives its guest, as the BPF program does.

Reading the kernel's machine code for it takes `inject list --all` most of its time: under emulation a minute.
The host takes the table from a guest in which only `inject list` has run (see programs.py for why), and
from a kernel without a taint that says it is broken; it is checked, and bounded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path

from inject.errors import GuestLost, InjectError
from inject.store import read_file, write_file
from inject.vm.build.artifacts import Artifacts
from inject.vm.carry import checkout
from inject.vm.carry.programs import is_broken
from inject.vm.guest import Guest

IN_GUEST = "/root/.cache/inject/callers"
SOURCES = tuple(Path(f"inject/kernel/{name}.py") for name in ("callers", "calls", "uses", "x86"))
"""What the content of a table depends on beside the kernel."""
LARGEST = 4 << 20
"""Bytes of a table; Debian's 6.12 has half a million."""
NUMBERS = 8
"""Of each function: the members of Checks (inject/kernel/calls.py)."""
KEPT = 4
"""Tables kept for one kernel."""
_NAME = re.compile(r"[0-9a-f]{16,64}\.json", re.ASCII)
"""The kernel's build id (inject/kernel/callers.py)."""
_STATE = 16
_LISTED = 4 << 10


def directory(cache: Path, artifacts: Artifacts) -> Path:
    """The directory of the tables of one kernel."""
    return cache / "callers" / f"guest-{artifacts.kernel_key}"


def push(guest: Guest, kept: Path) -> None:
    """Give ``guest`` the table that an earlier one made, if there is one."""
    with contextlib.suppress(OSError):  # of the host's files
        state = _state(guest)
        for file in sorted(kept.glob(f"{state}-*.json")):
            name, data = file.name[len(state) + 1 :], read_file(file, LARGEST)
            if _NAME.fullmatch(name) and is_table(data):
                guest.requests.write_file(f"{IN_GUEST}/{name}", data, mode=0o600)
                return


def fetch(guest: Guest, kept: Path) -> None:
    """Keep the table that ``guest``, in which nothing but `inject list` has run, has made; costs only time if not."""
    listed = bytearray()

    def take(data: bytes) -> None:
        listed.extend(data[: _LISTED - len(listed)])

    with contextlib.suppress(OSError, InjectError, GuestLost):
        state = _state(guest)
        if next(kept.glob(f"{state}-*.json"), None) is not None or is_broken(guest):
            return
        if guest.requests.exec(["ls", IN_GUEST], timeout=60, on_stdout=take):
            return
        names = listed.decode("ascii", "replace").split()
        if len(names) != 1 or not _NAME.fullmatch(names[0]):
            return
        data = guest.requests.read_file(f"{IN_GUEST}/{names[0]}", limit=LARGEST)
        if is_table(data):
            write_file(kept / f"{state}-{names[0]}", data, parents=True)
            for old in sorted(kept.glob("*.json"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
                old.unlink(missing_ok=True)


def is_table(data: bytes) -> bool:
    """True for a table: numbers of calls by the offset of their function."""
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(table, dict)
        and bool(table)
        and all(re.fullmatch(r"\d{1,10}", offset, re.ASCII) for offset in table)
        and all(isinstance(row, list) and len(row) == NUMBERS and all(map(_is_number, row)) for row in table.values())
    )


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 32


def _state(guest: Guest) -> str:
    """What the sources in the guest's checkout are; raises OSError if one cannot be read."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update(read_file(guest.options.checkout / name, checkout.LIMIT))
    return digest.hexdigest()[:_STATE]
