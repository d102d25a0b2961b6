"""The module's source, and the places where a built module of the running kernel may lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from inject.kernel.kernel import Kernel
from inject.kernel.overrider import NAME
from inject.store import cache_root

DIRECTORY = Path(__file__).parent
FILES = ("Makefile", f"{NAME}.c", f"{NAME}.h")
"""The files of DIRECTORY from which make builds the module."""
KO = f"{NAME}.ko"


def digest() -> str:
    """A short name for the content of the source: another one needs another build."""
    found = hashlib.sha256()
    for name in FILES:
        found.update(b"%s\0%s\0" % (name.encode(), (DIRECTORY / name).read_bytes()))
    return found.hexdigest()[:16]


def installed(kernel: Kernel) -> Path:
    """Where inject's guests carry the module for ``kernel``."""
    return kernel.root / f"lib/modules/{kernel.release}/inject/{KO}"


def cached(kernel: Kernel, cache: Optional[Path] = None) -> Path:
    """Where the module built here for ``kernel`` is kept: by release, build id and source."""
    name = f"{kernel.release}-{kernel.build_id[:16]}-{digest()}"
    return (cache or cache_root()) / "module" / name / KO


def places(kernel: Kernel, cache: Optional[Path] = None) -> Sequence[Path]:
    """Files that may be the module for ``kernel``, the first to be preferred."""
    return (installed(kernel), cached(kernel, cache))


def find(kernel: Kernel, cache: Optional[Path] = None) -> Optional[Path]:
    """The built module for ``kernel``; None if it must be built."""
    return next((path for path in places(kernel, cache) if path.is_file()), None)
