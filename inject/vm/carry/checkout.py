"""The checkout as a tar that the guest reads from a block device.

The guest's image holds no code of inject: the guest runs what the user edits.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun
from inject.model.text import size_text
from inject.vm.carry import pycache

SERIAL = "inject-checkout"
"""The disk that carries the tar; the image's /sbin/inject-init looks for it."""

HOME = "/run/inject"
"""The directory of the guest in which the tar is unpacked."""

PARTS = ("inject", "scenarios", "tests", "docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "setup.cfg")
OVERRIDE = "kernel/inject"
"""The directory of inject's kernel module there; init makes it /lib/modules/RELEASE/inject."""

LIMIT = 64 << 20
"""Bytes; more than this in a checkout is a mistake (a build tree, a core dump)."""

_SKIPPED = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"})


def root() -> Path:
    """The directory that holds the running ``inject`` package."""
    return Path(__file__).resolve().parents[3]


def files(checkout: Path) -> list[Path]:
    """The files that the guest gets, relative to ``checkout``, in a fixed order."""
    found: list[Path] = []
    for part in PARTS:
        top = checkout / part
        candidates = sorted(top.rglob("*")) if top.is_dir() else [top] if top.is_file() else []
        found += [p.relative_to(checkout) for p in candidates if _wanted(p, checkout)]
    return found


def _wanted(path: Path, checkout: Path) -> bool:
    parts = path.relative_to(checkout).parts
    return path.is_file() and path.suffix != ".pyc" and not _SKIPPED.intersection(parts)


def pack(checkout: Path, target: Path, modules: Optional[Path] = None, override: Optional[Path] = None) -> int:
    """Write the tar of ``checkout`` to ``target`` and return its size in bytes.

    ``modules`` is a directory of compiled modules (pycache.py); those that fit the sources are packed too,
    as is ``override``, inject's kernel module.

    Raises CannotRun when the checkout has no ``inject`` package or is larger
    than :data:`LIMIT`. The size is a multiple of 10240, so of a sector too.
    """
    names = files(checkout)
    if Path("inject/vm/inguest/init") not in names:
        raise CannotRun(f"{checkout} is not a checkout of inject: inject/vm/inguest/init is missing")
    size = sum((checkout / name).stat().st_size for name in names)
    if size > LIMIT:
        raise CannotRun(
            f"inject/, scenarios/ and tests/ of {checkout} hold {size_text(size)}, more than {size_text(LIMIT)}",
            "remove what does not belong there",
        )
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT, dereference=True) as tar:
        for name in names:
            tar.add(checkout / name, arcname=str(name), recursive=False, filter=_plain)
        for arcname, file in pycache.matching(checkout, names, modules) if modules else ():
            tar.add(file, arcname=arcname, recursive=False, filter=_plain)
        if override is not None:
            tar.add(override, arcname=f"{OVERRIDE}/{override.name}", recursive=False, filter=_plain)
    return target.stat().st_size


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info
