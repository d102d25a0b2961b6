"""Programs that are in the kernel: the same one is verified once, however often it is attached."""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import Callable

MOST = 32
"""Programs that are kept; those of two trials are mostly the same few."""


class LoadedPrograms:
    """Descriptors of programs, by all that they were loaded from. Each caller gets, and closes, one of its own."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, int] = {}

    def get(self, key: Hashable, load: Callable[[], int]) -> int:
        """A descriptor of the program of that ``key``, which ``load`` loads if it is not there."""
        found = self._kept.pop(key, None)
        if found is None:
            found = load()
        self._kept[key] = found  # the one used last comes last
        if len(self._kept) > MOST:
            os.close(self._kept.pop(next(iter(self._kept))))
        return os.dup(found)

    def close(self) -> None:
        """Let go of all."""
        while self._kept:
            os.close(self._kept.popitem()[1])
