"""Python's compiled modules outlive their guest: under emulation compiling the package takes seconds.

What a guest compiled is kept on the host by the image's key and travels to the
next guest beside the sources, but only where its header still names that very
source. Python itself checks the header again.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import tarfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from inject.store import read_file, write_file

HEADER = struct.Struct("<4sIII")
"""Magic, flags, the source's time and size: Lib/importlib/_bootstrap_external.py, _classify_pyc()."""
MOST_FILES = 1000
LARGEST = 1 << 20
MOST_BYTES = 32 << 20

_MEMBER = re.compile(r"inject(/[a-z_]\w*)*/__pycache__/\w+\.cpython-\d+\.pyc", re.ASCII)
_STATE = "fetched"


def directory(cache: Path, image_key: str) -> Path:
    """The directory of the modules that guests of one image compiled."""
    return cache / "bytecode" / f"python-{image_key}"


def matching(checkout: Path, names: Sequence[Path], kept: Path) -> list[tuple[str, Path]]:
    """The compiled files that fit the sources ``names`` of ``checkout``: (name in the guest, file on the host)."""
    found = []
    for name in names:
        if name.suffix != ".py":
            continue
        status = (checkout / name).stat()
        for file in (kept / name.parent / "__pycache__").glob(f"{name.stem}.cpython-*.pyc"):
            if _fits(file, status):
                found.append((str(name.parent / "__pycache__" / file.name), file))
    return found


def _fits(file: Path, source: os.stat_result) -> bool:
    """True if ``file`` is a module that was compiled from ``source``."""
    try:
        head = read_file(file, LARGEST)[: HEADER.size]
    except OSError:
        return False
    if len(head) < HEADER.size:
        return False
    _, flags, modified, size = HEADER.unpack(head)
    return (flags, modified, size) == (0, int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)


def state(checkout: Path, names: Sequence[Path]) -> str:
    """A digest of the sources: a guest is asked for its modules once for each."""
    lines = []
    for name in names:
        if name.suffix == ".py" and name.parts[0] == "inject":
            status = (checkout / name).stat()
            lines.append(f"{name} {int(status.st_mtime)} {status.st_size}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def fetched(kept: Path) -> str:
    """The state at which modules were last kept; "" if never."""
    try:
        return read_file(kept / _STATE, 1 << 10).decode("ascii", "replace")
    except OSError:
        return ""


def keep(archive: bytes, kept: Path, at: str) -> int:
    """Keep the modules of ``archive``, a tar from a guest, and return how many; anything else in it is ignored.

    ``at`` is what fetched() says from then on. Raises OSError on a full disk,
    tarfile.TarError for what is not a tar.
    """
    count = 0
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:  # never decompresses
        for member in islice(tar, MOST_FILES):
            if not (member.isreg() and member.size <= LARGEST and _MEMBER.fullmatch(member.name)):
                continue
            opened = tar.extractfile(member)
            if opened is not None:
                write_file(kept / member.name, opened.read(), parents=True)
                count += 1
    write_file(kept / _STATE, at, parents=True)
    return count
