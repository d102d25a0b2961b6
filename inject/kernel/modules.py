"""Modules: those loaded, and the one on disk that has a function."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Optional

from inject.kernel.files import text_of

MOST_FILES = 20_000
"""Maximum modules to search; a distribution kernel has about 5,000."""
MOST_BYTES = 128 << 20
"""Maximum bytes of their files to read, uncompressed files first: this only improves an error message."""

_HEADERS = ("build", "source", "kbuild")


class Modules:
    """The modules of the kernel below ``root``, loaded and on disk."""

    def __init__(self, root: Path, release: str) -> None:
        self._root = root
        self._directory = root / f"lib/modules/{release}"
        self._having: dict[str, str] = {}

    def unloaded_having(self, function: str) -> str:
        """The module with ``function`` that is on disk and not loaded; "" if none is found. Searched once."""
        if function not in self._having:
            self._having[function] = module_with(self._directory, function, self.loaded())
        return self._having[function]

    def unloaded_with(self, function: str) -> str:
        """Sentence that names the module with ``function``, which must be loaded first; "" if none is found."""
        module = self.unloaded_having(function)
        if not module:
            return ""
        return f"it is in the module {module}, which is not loaded: {self._load_command(module)}"

    def _load_command(self, module: str) -> str:
        """modprobe NAME, or insmod FILE for a module that is not in modprobe's index, as one just built."""
        path = file_of(self._directory, module)
        with contextlib.suppress(OSError):
            index = (self._directory / "modules.dep").read_text(errors="replace")
            if path and f"{path.relative_to(self._directory)}:" in index:
                return f"modprobe {module}"
        return f"insmod {path}" if path else f"modprobe {module}"

    def absent(self, module: str) -> str:
        """Sentence that says why a module is not loaded, and what to do."""
        if file_of(self._directory, module):
            return f"the module is not loaded: {self._load_command(module)}"
        return (
            "no module of that name is loaded or on disk; `inject list` shows the modules of error-injectable functions"
        )

    def has_filesystem(self, kind: str) -> bool:
        """True if the filesystem is built in, loaded, or a module on disk."""
        known = text_of(self._root / "proc/filesystems").split()
        return not known or kind in known or file_of(self._directory, kind) is not None

    def loaded(self) -> list[str]:
        """Names of the loaded modules."""
        return [line.split()[0] for line in text_of(self._root / "proc/modules").splitlines()]


def name_of(path: Path) -> str:
    """The kernel's name of a module: ``nf_nat`` for nf-nat.ko.xz."""
    return path.name.partition(".ko")[0].replace("-", "_")


def _files(directory: Path) -> Iterator[Path]:
    """The modules' files below ``directory``, also behind links to directories, but not in the kernel's headers."""
    for place, folders, names in os.walk(directory, followlinks=True):
        folders[:] = [name for name in folders if name not in _HEADERS]
        yield from (Path(place, name) for name in names if name.partition(".ko")[1])


def module_with(directory: Path, function: str, loaded: Collection[str] = ()) -> str:
    """The module below ``directory`` that is not ``loaded`` and has a symbol ``function``; "" if none is found.

    Files whose name is how the function's begins are read first, compressed or not; then
    all others that are not compressed.
    """
    found = [path for path in islice(_files(directory), MOST_FILES) if name_of(path) not in loaded]
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


def file_of(directory: Path, module: str) -> Optional[Path]:
    """The file of ``module`` below ``directory``; None if there is none."""
    return next((path for path in islice(_files(directory), MOST_FILES) if name_of(path) == module), None)


def _content(path: Path) -> bytes:
    """The file uncompressed; b"" if it cannot be read."""
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
