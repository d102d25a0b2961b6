"""Listing of a directory tree, as walker.py prints it: names, stat and checksums."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from inject.oracles.walker import Identity


@dataclass(frozen=True)
class ManifestEntry:
    """One name below the root. ``digest`` is the sha256 of a regular file that was read, else ""."""

    path: str
    """Relative to the root; bytes that are not UTF-8 as Python's surrogates."""
    identity: Identity = ()
    """Type and mode, inode, size, times, owner, links, target, attributes: differs if the file was changed."""
    digest: str = ""
    error: str = ""
    """Why it could not be listed or read."""


@dataclass(frozen=True)
class Manifest:
    """A tree. ``bound`` says what was left out because of a limit; "" if nothing."""

    entries: tuple[ManifestEntry, ...]
    bound: str = ""

    def by_path(self) -> dict[str, ManifestEntry]:
        """The entries by their relative path."""
        return {entry.path: entry for entry in self.entries}

    def errors(self) -> list[ManifestEntry]:
        """The entries that could not be read."""
        return [entry for entry in self.entries if entry.error]


def parse(text: str) -> Manifest:
    """Parse the output of walker.py; raises ValueError if it is incomplete."""
    entries: list[ManifestEntry] = []
    for line in text.splitlines():
        try:
            row = ast.literal_eval(line)
        except SyntaxError:
            raise ValueError(f"not a row of a listing: {line[:80]!r}") from None
        if len(row) == 1:
            return Manifest(tuple(entries), row[0])
        entries.append(ManifestEntry(*row))
    raise ValueError("the listing is incomplete")
