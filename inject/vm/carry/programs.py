"""The compiled BPF program outlives its guest: the host keeps it for the next guest of the same kernel.

bcc needs seconds in a guest to compile, and the guest's disk is gone at its end. The
guest's engine checks the file that it gets as it checks its own.

A guest may be damaged or hostile, and what it leaves here reaches every later one. So a guest is asked
before it runs anything else: until then only inject's own code has run in it. What it compiles later
stays there. The host takes a program only from a kernel without a taint that says it is broken, as a
regular file under a name that the engine gives, bounded, and in its format.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tarfile
from pathlib import Path
from typing import NamedTuple, Optional

from inject.engine import bytecode
from inject.errors import GuestLost, InjectError
from inject.kernel.taint import BROKEN
from inject.store import read_file, write_file
from inject.vm.build.artifacts import Artifacts
from inject.vm.carry import checkout, pycache
from inject.vm.guest import Guest

IN_GUEST = "/root/.cache/inject/bytecode"
SOURCE = Path("inject/engine/override.bpf.c")
"""The program's text in a checkout."""
KEPT = 16
"""Programs kept for one kernel: several checkouts may share it, each with program texts of its own."""
COMPILING = 300.0
"""Seconds that a guest may take to compile; under emulation it needs about ten."""

_NAME = re.compile(r"[0-9a-f]{32}\.bpf", re.ASCII)
"""File name of a program: engine/bytecode.py, cache_key()."""
_STATE = 16
"""Characters of the state that a file's name begins with."""
_LISTED = 4 << 10
"""Bytes of the guest's list of programs that are read."""

_COMPILE = """
cd "$1" && PYTHONPATH=. python3 -c '
import sys
from pathlib import Path
from inject.engine.bcc import Bcc
from inject.engine.loader import OVERRIDE, bytecode_of
from inject.engine.recorder import RECORD
from inject.kernel.kernel import Kernel
texts = {text.file.name: text for text in (OVERRIDE, RECORD)}
bytecode_of(Bcc(), Kernel(), Path(sys.argv[1]), texts[sys.argv[2]])
' "$2" "$3" && cd "$2" && ls
"""
_PACK = f"""
cd {checkout.HOME} && PYTHONPATH=. python3 -c 'import inject.fleet.remote, inject.engine.engine, inject.cli' &&
find inject -name '*.pyc' | tar -cf - -T -
"""
_PRIVATE = 'mkdir -p "$1" && chmod 700 "$1"'


class ProgramPlace(NamedTuple):
    """A program's text in a checkout, and the directory in the guest in which it is kept alone."""

    source: Path
    directory: str


ENGINE = ProgramPlace(SOURCE, IN_GUEST)
RECORDER = ProgramPlace(Path("inject/engine/record.bpf.c"), "/root/.cache/inject/recorder")


def directory(cache: Path, artifacts: Artifacts) -> Path:
    """The directory of the programs for one kernel, compiled by the bcc of one image."""
    return cache / "bytecode" / f"guest-{artifacts.kernel_key}-{artifacts.image_key}"


def push(guest: Guest, kept: Path) -> None:
    """Give a new ``guest`` the program that an earlier one compiled; without one, have it compile, and keep that.

    The guest must not have run anything else; one that was saved has its program. It costs a guest some
    seconds if this fails, and nothing else.
    """
    if not guest.is_new:
        return
    _fetch_modules(guest)
    _push(guest, kept, ENGINE)


def push_recorder(guest: Guest, kept: Path) -> None:
    """The same for the program that records, which only a recording needs, in a new guest or one that was saved."""
    _push(guest, kept, RECORDER)


def _push(guest: Guest, kept: Path, place: ProgramPlace) -> None:
    with contextlib.suppress(OSError):  # of the host's files
        state = _state(guest, place)
        found = _find(kept, state)
        if found is None:
            with contextlib.suppress(InjectError, GuestLost):
                _fetch(guest, kept, state, place)
        elif guest.requests.exec(["sh", "-c", _PRIVATE, "sh", place.directory], timeout=60) == 0:
            name, data = found
            guest.requests.write_file(f"{place.directory}/{name}", data, mode=0o600)


def _state(guest: Guest, place: ProgramPlace) -> str:
    """What the program's text in the guest's checkout is; raises OSError if it cannot be read."""
    source = read_file(guest.options.checkout / place.source, checkout.LIMIT)
    return hashlib.sha256(source).hexdigest()[:_STATE]


def _find(kept: Path, state: str) -> Optional[tuple[str, bytes]]:
    """The name in the guest, and the content, of the kept program of that text; None if there is none that is whole."""
    for file in sorted(kept.glob(f"{state}-*.bpf")):
        with contextlib.suppress(OSError):
            name, data = file.name[len(state) + 1 :], read_file(file, bytecode.LARGEST)
            if _NAME.fullmatch(name) and bytecode.parse(data) is not None:
                return name, data
    return None


def _fetch(guest: Guest, kept: Path, state: str, place: ProgramPlace) -> None:
    """Have ``guest`` compile, and keep the program."""
    listed = bytearray()

    def take(data: bytes) -> None:
        listed.extend(data[: _LISTED - len(listed)])

    words = ["sh", "-c", _COMPILE, "sh", checkout.HOME, place.directory, place.source.name]
    if guest.requests.exec(words, timeout=COMPILING, on_stdout=take) != 0 or is_broken(guest):
        return
    names = listed.decode("ascii", "replace").split()
    if len(names) != 1 or not _NAME.fullmatch(names[0]):
        return
    data = guest.requests.read_file(f"{place.directory}/{names[0]}", limit=bytecode.LARGEST)
    if bytecode.parse(data) is not None:
        write_file(kept / f"{state}-{names[0]}", data, parents=True)
        for old in sorted(kept.glob("*.bpf"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)


def is_broken(guest: Guest) -> bool:
    """True if the guest's kernel has a taint that says so, or does not say."""
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
