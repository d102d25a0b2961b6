"""Files that go with one command into its guest, and those that it writes for this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun, InjectError
from inject.store import write_file
from inject.vm.build.artifacts import Artifacts
from inject.vm.carry import programs, tables
from inject.vm.guest import Guest
from inject.vm.hosts import GuestHost

LARGEST = 16 << 20
"""Bytes of one file that a command writes."""


@dataclass(frozen=True)
class Luggage:
    """``takes`` has the same path in the guest, ``brings`` is written there and fetched at the end.

    ``table`` is where the host keeps what the command, which is `inject list`, has read of the kernel's callers.

    ``cwd`` is the directory of the command; None for the guest's own.
    """

    cwd: Optional[Path] = None
    takes: tuple[str, ...] = ()
    brings: tuple[str, ...] = ()
    table: Optional[Path] = None

    def pack(self, guest: Guest, artifacts: Artifacts, cache: Path) -> Optional[str]:
        """Give a new ``guest`` the files and the compiled program; the directory of the command."""
        kept = programs.directory(cache, artifacts)
        if self.cwd is None:
            programs.push(guest, kept)
            tables.push(guest, tables.directory(cache, artifacts))
            return None
        GuestHost(guest, kept).carry(self.takes, self.cwd)
        for name in self.brings:
            guest.requests.exec(["mkdir", "-p", str((self.cwd / name).parent)], timeout=60)
        return str(self.cwd)

    def unpack(self, guest: Guest) -> None:
        """Fetch what the command wrote; raises CannotRun if it cannot be written here."""
        if self.table is not None:
            tables.fetch(guest, self.table)
        for name in self.brings:
            path = (self.cwd or Path()) / name
            try:
                data = guest.requests.read_file(str(path), LARGEST)
            except InjectError:
                continue  # the command has said why there is none
            try:
                write_file(path, data, mode=0o644)
            except OSError as error:
                raise CannotRun(f"cannot write {name}: {error.strerror}") from None


NOTHING = Luggage()
"""For a command that is complete in itself."""
