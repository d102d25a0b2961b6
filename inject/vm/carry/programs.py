"""Compiled BPF programs outlive their guest: the host keeps them for the next guest of the same kernel.

bcc needs seconds in a guest to compile, and the guest's disk is gone at its end. The
guest's engine checks the files that it gets as it checks its own.
"""

from __future__ import annotations

import contextlib
import tarfile
from pathlib import Path

from inject.errors import GuestLost, InjectError
from inject.store import write_file
from inject.vm.carry import checkout, pycache
from inject.vm.guest import Guest

IN_GUEST = "/root/.cache/inject/bytecode"
MOST_FILES = 16
KEPT = 8
"""Programs kept for one kernel: several checkouts may share it, each with a program text of its own."""
LARGEST = 4 << 20

_LIST = f"cd {IN_GUEST} 2>/dev/null && ls"
_PACK = f"cd {checkout.HOME} && find inject -name '*.pyc' | tar -cf - -T -"
_PRIVATE = f"mkdir -p {IN_GUEST} && chmod 700 {IN_GUEST}"


def directory(cache: Path, kernel_key: str) -> Path:
    """The directory of the programs for one kernel."""
    return cache / "bytecode" / f"guest-{kernel_key}"


def push(guest: Guest, kept: Path) -> None:
    """Give ``guest`` what an earlier one compiled."""
    files = sorted(kept.glob("*.bpf"))[:MOST_FILES] if kept.is_dir() else []
    if not files or guest.requests.exec(["sh", "-c", _PRIVATE], timeout=60) != 0:
        return
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # another run has just put a newer one in its place
            guest.requests.write_file(f"{IN_GUEST}/{file.name}", file.read_bytes(), mode=0o600)


def pull(guest: Guest, kept: Path) -> None:
    """Keep what ``guest`` has compiled; a failure only costs the next guest some seconds."""
    _pull_modules(guest)
    listed = bytearray()
    with contextlib.suppress(InjectError, GuestLost, OSError):
        if guest.requests.exec(["sh", "-c", _LIST], timeout=60, on_stdout=listed.extend) != 0:
            return
        for name in listed.decode().split()[:MOST_FILES]:
            if "/" in name or not name.endswith(".bpf") or (kept / name).exists():
                continue
            data = guest.requests.read_file(f"{IN_GUEST}/{name}", limit=LARGEST)
            write_file(kept / name, data, parents=True)
        for old in sorted(kept.glob("*.bpf"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)


def _pull_modules(guest: Guest) -> None:
    """Fetch Python's compiled modules, once for each state of the sources."""
    options, archive = guest.options, bytearray()
    if options.modules is None:
        return

    def take(data: bytes) -> None:
        if len(archive) <= pycache.MOST_BYTES:
            archive.extend(data)

    with contextlib.suppress(InjectError, GuestLost, OSError, tarfile.TarError):
        at = pycache.state(options.checkout, checkout.files(options.checkout))
        if at == pycache.fetched(options.modules):
            return
        if guest.requests.exec(["sh", "-c", _PACK], timeout=60, on_stdout=take) == 0:
            pycache.keep(bytes(archive), options.modules, at)
