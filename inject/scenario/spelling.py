"""Spelling of names in the kernel and in scenarios, as regular expressions."""

from __future__ import annotations

IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
"""A C identifier: a function, an enumerator, a parameter, a member."""

FUNCTION = rf"{IDENTIFIER}(\.[A-Za-z0-9_.]+)?"
"""A symbol. A clone's suffix (``.constprop.0``) is accepted here, and refused when the kernel is known."""

FUNCTION_GLOB = r"[A-Za-z0-9_.*?\[\]!-]+"
"""A symbol with shell wildcards."""

EXACT_FRAME = r"[A-Za-z_][A-Za-z0-9_.]*(#[0-9]+)?\+0x[0-9a-f]+( \[[A-Za-z0-9_]+\])?"
"""A frame of one kernel, as `inject record` writes it: ``vfs_write+0x45``, ``twin#2+0x1 [xfs]``."""

FRAME = rf"!?(module:[A-Za-z0-9_-]+|{EXACT_FRAME}|{FUNCTION_GLOB})"
"""One entry of ``stack``: a name, a glob, a module or a frame, ``!`` for its absence."""

ARG_PATH = rf"{IDENTIFIER}(\.{IDENTIFIER})*"
"""A parameter, or a member reached from it."""

SYSCALL = r"[a-z][a-z0-9_]*"

CONFIG = r"CONFIG_[A-Z0-9_]+(=[^\s=]+)?"

SCENARIO = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*"
"""A scenario's name: safe in a report, in the kernel log and as a file name."""
