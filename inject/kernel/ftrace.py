"""Where kprobes and ftrace can attach: the blacklist, functions with an ftrace call, the start of functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from inject.kernel.config import KernelConfig
from inject.kernel.files import DEBUGFS, text_of
from inject.kernel.memory import Memory
from inject.kernel.symbols import Kallsyms
from inject.model.point import FaultPoint

LANDINGS = (b"\xf3\x0f\x1e\xfa", b"\x66\x0f\x1f\0", b"\x0f\x1f\x40\xd6")
"""ENDBR64, and what the kernel writes over one that nothing jumps to (gen_endbr_poison(), asm/ibt.h): v6.12, v7.3."""
FTRACE_ENTRIES = (b"\x0f\x1f\x44\0\0", b"\xe8", b"\xe9")
REALIGNING = b"\x4c\x8d\x54\x24\x08\x48\x83\xe4"
"""``lea 0x8(%rsp),%r10; and $-N,%rsp`` without the N."""
PROLOGUE = 32
"""Bytes of a function to search for it: the ftrace call and a few pushes may come first."""
BLOCK = 32 << 20
"""Maximum bytes of memory to read at once."""


class Ftrace:
    """Where probes can attach in the kernel below ``root``."""

    def __init__(self, root: Path, symbols: Kallsyms, memory: Memory, config: KernelConfig) -> None:
        self._root = root
        self._symbols = symbols
        self._memory = memory
        self._config = config
        self._known: dict[FaultPoint, bool] = {}

    def lacks(self, point: FaultPoint) -> bool:
        """True if ``point`` surely does not begin with the call that ftrace attaches to.

        On x86 that is a five-byte no-op, or a call or jump while something is attached, perhaps after an
        ENDBR64 (arch/x86/kernel/ftrace.c). If memory cannot be read, tracefs' list decides.
        """
        if point not in self._known:
            self._known[point] = self._lacks(point)
        return self._known[point]

    def _lacks(self, point: FaultPoint) -> bool:
        start = self._memory.read(point.address, 16) if point.address and self._config.has("CONFIG_X86_64") else b""
        if start:
            body = start[len(LANDINGS[0]) :] if start.startswith(LANDINGS) else start
            return not body.startswith(FTRACE_ENTRIES)
        return bool(self.traceable) and not self.traceable & {point.function, *point.names}

    @cached_property
    def blacklist(self) -> frozenset[str]:
        """Functions that refuse probes, from debugfs kprobes/blacklist."""
        return frozenset(re.findall(r"\t(\S+)", text_of(self._root / f"{DEBUGFS}/kprobes/blacklist")))

    @cached_property
    def traceable(self) -> frozenset[str]:
        """Functions built with ftrace, from tracefs; empty if it cannot be read."""
        for tracefs in ("sys/kernel/tracing", f"{DEBUGFS}/tracing"):
            lines = text_of(self._root / f"{tracefs}/available_filter_functions")
            if lines:
                return frozenset(line.split(None, 1)[0] for line in lines.splitlines())
        return frozenset()

    def with_trampoline(self, points: Iterable[FaultPoint]) -> list[FaultPoint]:
        """Those of ``points`` that call a trampoline now: of a BPF fentry, fexit, fmod_ret or LSM program.

        From tracefs' enabled_functions, where such a function has the flag D (t_show(), kernel/trace/ftrace.c,
        since Linux 5.5). A kprobe that overrides the function does not keep that trampoline from calling its body.
        """
        for tracefs in ("sys/kernel/tracing", f"{DEBUGFS}/tracing"):
            text = text_of(self._root / f"{tracefs}/enabled_functions")
            if text:
                lines = re.findall(r"^(\S+)(?: \[\S+\])? \(\d+\)([^\t\n]*)", text, re.MULTILINE)
                found = {name for name, flags in lines if "D" in flags.split()}
                return [point for point in points if found & {point.function, *point.names}]
        return []

    def event_format(self, event: str) -> str:
        """Format of ``event`` (``syscalls/sys_enter_openat``) in tracefs; "" if there is no such event."""
        for tracefs in ("sys/kernel/tracing", f"{DEBUGFS}/tracing"):
            text = text_of(self._root / f"{tracefs}/events/{event}/format")
            if text:
                return text
        return ""

    def traceable_at(self, pattern: str) -> dict[int, str]:
        """Functions built with ftrace whose whole name matches the regular expression, by address.

        From tracefs' available_filter_functions_addrs (Linux 6.5), else from the
        names alone, leaving out those that several functions share. {} if neither
        can be read.
        """
        line = re.compile(r"^([0-9a-f]+) (" + pattern + r")(?: \[\S+\])?$", re.MULTILINE)
        for tracefs in ("sys/kernel/tracing", f"{DEBUGFS}/tracing"):
            found = line.findall(text_of(self._root / f"{tracefs}/available_filter_functions_addrs"))
            if found:
                return {int(address, 16): name for address, name, *_ in found}
        named = [symbol for symbol in self._symbols.matching(pattern) if symbol.name in self.traceable]
        often = Counter(symbol.name for symbol in named)
        return {symbol.address: symbol.name for symbol in named if often[symbol.name] == 1 and symbol.address}

    def realigned(self, addresses: Iterable[int]) -> set[int]:
        """The functions at ``addresses`` that realign their stack frame.

        They begin with ``lea 0x8(%rsp),%r10; and $-N,%rsp; push -0x8(%r10)``: the frame gets a copy of
        the return address. A return probe (kernel/trace/rethook.c) puts its own address in the place
        of the original, the copy is taken from that, and unwinding by frame pointers ends at the copy,
        which rethook does not resolve. Empty if memory cannot be read.
        """
        found: set[int] = set()
        for block in _blocks(sorted(addresses)):
            code = self._memory.read(block[0], block[-1] - block[0] + PROLOGUE)
            starts = ((address, address - block[0]) for address in block)
            found.update(address for address, at in starts if REALIGNING in code[at : at + PROLOGUE])
        return found


def _blocks(addresses: Sequence[int]) -> list[list[int]]:
    """Sorted ``addresses`` in runs that lie within BLOCK bytes, to be read together."""
    blocks: list[list[int]] = []
    for address in addresses:
        if not blocks or address - blocks[-1][0] > BLOCK:
            blocks.append([])
        blocks[-1].append(address)
    return blocks
