"""Compiled BPF programs outlive their guest: the host keeps them for the next guest of the same kernel.

bcc needs seconds in a guest to compile, and the guest's disk is gone at its end. The
guest's engine checks the files that it gets as it checks its own.

A guest may be damaged or hostile, and what it leaves here reaches every later one. Python's
modules are fetched before the guest runs anything else; programs only from a kernel without
a taint that says it is broken, regular files under the names that the engine gives, bounded,
and in its format.
"""

from __future__ import annotations

import contextlib
import re
import tarfile
from pathlib import Path

from inject.engine import bytecode
from inject.errors import GuestLost, InjectError
from inject.kernel.taint import BROKEN
from inject.store import write_file
from inject.vm.carry import checkout, pycache
from inject.vm.guest import Guest

IN_GUEST = "/root/.cache/inject/bytecode"
MOST_FILES = 16
KEPT = 8
"""Programs kept for one kernel: several checkouts may share it, each with a program text of its own."""
LARGEST = 4 << 20

_NAME = re.compile(r"[0-9a-f]{32}\.bpf", re.ASCII)
"""File name of a program: engine/bytecode.py, cache_key()."""
_LISTED = 4 << 10
"""Bytes of the guest's list of programs that are read."""

_LIST = f"cd {IN_GUEST} 2>/dev/null && find . -maxdepth 1 -type f -name '*.bpf' -printf '%f\\n'"
_PACK = f"""
cd {checkout.HOME} && PYTHONPATH=. python3 -c 'import inject.fleet.remote, inject.engine.engine, inject.cli' &&
find inject -name '*.pyc' | tar -cf - -T -
"""
_PRIVATE = f"mkdir -p {IN_GUEST} && chmod 700 {IN_GUEST}"


def directory(cache: Path, kernel_key: str) -> Path:
    """The directory of the programs for one kernel."""
    return cache / "bytecode" / f"guest-{kernel_key}"


def push(guest: Guest, kept: Path) -> None:
    """Give a new ``guest`` what an earlier one compiled, and keep what it compiles of the package."""
    _fetch_modules(guest)
    files = sorted(kept.glob("*.bpf"))[:MOST_FILES] if kept.is_dir() else []
    if not files or guest.requests.exec(["sh", "-c", _PRIVATE], timeout=60) != 0:
        return
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # another run has just put a newer one in its place
            guest.requests.write_file(f"{IN_GUEST}/{file.name}", file.read_bytes(), mode=0o600)


def pull(guest: Guest, kept: Path) -> None:
    """Keep what ``guest`` has compiled; a failure only costs the next guest some seconds."""
    listed = bytearray()

    def take(data: bytes) -> None:
        listed.extend(data[: _LISTED - len(listed)])

    with contextlib.suppress(InjectError, GuestLost, OSError):
        if _is_broken(guest) or guest.requests.exec(["sh", "-c", _LIST], timeout=60, on_stdout=take) != 0:
            return
        for name in listed.decode("ascii", "replace").split("\n")[:MOST_FILES]:
            if not _NAME.fullmatch(name) or (kept / name).exists():
                continue
            data = guest.requests.read_file(f"{IN_GUEST}/{name}", limit=LARGEST)
            if bytecode.parse(data) is not None:
                write_file(kept / name, data, parents=True)
        for old in sorted(kept.glob("*.bpf"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)


def _is_broken(guest: Guest) -> bool:
    taint = guest.requests.read_file("/proc/sys/kernel/tainted", limit=32).strip()
    return not taint.isdigit() or bool(int(taint) & BROKEN)


def _fetch_modules(guest: Guest) -> None:
    """Have a new guest compile the package, and fetch Python's modules, once for each state of the sources."""
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
