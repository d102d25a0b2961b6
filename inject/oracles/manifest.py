"""What lies in a directory tree: names, what stat says, and checksums, as walker.py reads them."""

from __future__ import annotations

import ast
from dataclasses import dataclass


@dataclass(frozen=True)
class ManifestEntry:
    """One name below the root. ``digest`` is the sha256 of a regular file that was read, else ""."""

    path: str
    """Relative to the root; bytes that are no UTF-8 as Python's surrogates."""
    identity: tuple[int, ...] = ()
    """Type and mode, inode, size, mtime and ctime in ns: differs as soon as somebody has touched it."""
    digest: str = ""
    error: str = ""
    """Why it could not be listed, looked at or read."""


@dataclass(frozen=True)
class Manifest:
    """A tree. ``bound`` says in words what was left out because there was too much; "" if nothing."""

    entries: tuple[ManifestEntry, ...]
    bound: str = ""

    def by_path(self) -> dict[str, ManifestEntry]:
        """The entries by their relative path."""
        return {entry.path: entry for entry in self.entries}

    def errors(self) -> list[ManifestEntry]:
        """What the filesystem would not give."""
        return [entry for entry in self.entries if entry.error]


def parse(text: str) -> Manifest:
    """What the walker printed; raises ValueError when it did not come to its end."""
    entries: list[ManifestEntry] = []
    for line in text.splitlines():
        try:
            row = ast.literal_eval(line)
        except SyntaxError:
            raise ValueError(f"no row of a listing: {line[:80]!r}") from None
        if len(row) == 1:
            return Manifest(tuple(entries), row[0])
        entries.append(ManifestEntry(*row))
    raise ValueError("the listing has no end")
