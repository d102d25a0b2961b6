"""Removal of what a trial made, in a fork with a time limit: a lock that the kernel left taken blocks it for ever."""

from __future__ import annotations

import ast
import codecs
from collections.abc import Iterator, Sequence
from dataclasses import replace

from inject.process.janitor import UNDO
from inject.process.tool import run_forked

TIMEOUT = 30.0
"""Seconds for all that one call removes."""

_COMMANDS = {"dir": ("rm", "-r"), "loop": ("losetup", "--detach"), "part": ("delpart",)}
"""By type of resource, the command that does the same, for messages."""

Resource = Sequence[str]
"""A type of the janitor's, and its arguments."""


def undo(resources: Sequence[Resource], timeout: float = TIMEOUT) -> list[str]:
    """Remove ``resources`` in order. For each what stays, in words, or "".

    Raises Hung, which names the one under way and where it waits, if they are not all removed in time.
    """
    if not resources:
        return []
    codecs.lookup("unicode_escape")  # the janitor reads mount points with it, and a fork must not import

    def rows() -> Iterator[str]:
        for kind, *args in resources:
            try:
                yield UNDO[kind](*args)
            except OSError as error:
                yield f"{kind} {' '.join(args)} stays: {error.strerror}"

    done = run_forked(rows, timeout=timeout)
    lines = done.output.splitlines()
    if done.timed_out or done.code or len(lines) != len(resources):
        kind, *args = resources[min(len(lines), len(resources) - 1)]
        raise replace(done, argv=(*_COMMANDS.get(kind, (kind,)), *args)).failure()
    return [str(ast.literal_eval(line)) for line in lines]
