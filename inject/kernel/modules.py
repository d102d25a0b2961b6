"""Modules that are on disk and not loaded: which one has a function."""

from __future__ import annotations

import contextlib
import gzip
import lzma
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Optional

MOST_FILES = 20_000
"""Modules looked at by name; a distribution kernel has about 5,000."""
MOST_BYTES = 128 << 20
"""Read of their files in all, uncompressed ones first: this only finds words for an error."""


def name_of(path: Path) -> str:
    """``nf_nat`` for nf-nat.ko.xz: the kernel's name for it."""
    return path.name.partition(".ko")[0].replace("-", "_")


def module_with(folder: Path, function: str, loaded: Collection[str] = ()) -> str:
    """The module below ``folder`` that is not ``loaded`` and has a symbol ``function``; "" if none is found.

    Files whose name begins the function's are looked into first, however they are
    compressed; then those that are not compressed.
    """
    found = [path for path in islice(folder.rglob("*.ko*"), MOST_FILES) if name_of(path) not in loaded]
    plain = function.lstrip("_")
    near = sorted((path for path in found if plain.startswith(name_of(path))), key=lambda path: -len(name_of(path)))
    left = MOST_BYTES
    for path in [*near, *(path for path in found if path.suffix == ".ko" and path not in near)]:
        content = _content(path)
        left -= len(content)
        if left < 0:
            break
        if b"\0%s\0" % function.encode() in content:
            return name_of(path)
    return ""


def file_of(folder: Path, module: str) -> Optional[Path]:
    """Where below ``folder`` the file of ``module`` is; None where there is none."""
    return next((path for path in islice(folder.rglob("*.ko*"), MOST_FILES) if name_of(path) == module), None)


def _content(path: Path) -> bytes:
    """The file uncompressed; b"" where we cannot."""
    with contextlib.suppress(OSError, EOFError, lzma.LZMAError):
        if path.stat().st_size > MOST_BYTES:
            return b""
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes())
        if path.suffix == ".xz":
            return lzma.decompress(path.read_bytes())
        if path.suffix == ".ko":
            return path.read_bytes()
    return b""
