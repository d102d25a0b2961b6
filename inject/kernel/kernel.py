"""One kernel: its release and state, and the objects that read the rest of it."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Optional

from inject.errors import InjectError
from inject.kernel.config import KernelConfig
from inject.kernel.files import text_of
from inject.kernel.ftrace import Ftrace
from inject.kernel.memory import Memory
from inject.kernel.modules import Modules
from inject.kernel.overrider import Overrider
from inject.kernel.points import Points
from inject.kernel.symbols import Kallsyms
from inject.store import cache_root

AGENT = "run/inject-agent.pid"
"""File of a guest that names its agent (inject/vm/inguest/agent.py)."""


class Kernel:
    """The kernel whose /proc and /sys lie under ``root``.

    Everything is read when first asked for and kept: one object is one moment of
    one kernel. Nothing here writes, but to the cache.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.cache: Optional[Path] = _cache() if root == Path("/") else None
        """The directory for what is slow to read; None: nothing is kept between runs."""
        self.memory = Memory(root)

    @cached_property
    def release(self) -> str:
        """Release, as in ``uname -r``; "" if /proc is not mounted."""
        return text_of(self.root / "proc/sys/kernel/osrelease")

    @cached_property
    def build_id(self) -> str:
        """The GNU build id of vmlinux in hex, from /sys/kernel/notes; "" if unreadable."""
        try:
            notes = (self.root / "sys/kernel/notes").read_bytes()
        except OSError:
            return ""
        mark = notes.find(b"GNU\0")  # include/uapi/linux/elf.h: namesz, descsz, type, name, desc
        if mark < 12:
            return ""
        size = int.from_bytes(notes[mark - 8 : mark - 4], "little")
        return notes[mark + 4 : mark + 4 + size].hex()

    @cached_property
    def config(self) -> KernelConfig:
        """Configuration of the kernel."""
        return KernelConfig(self.root, self.release)

    @cached_property
    def symbols(self) -> Kallsyms:
        """Its functions by name and address."""
        return Kallsyms(self.root, self.release, self.build_id, self.cache)

    @cached_property
    def modules(self) -> Modules:
        """Its modules, loaded and on disk."""
        return Modules(self.root, self.release)

    @cached_property
    def ftrace(self) -> Ftrace:
        """Functions to which probes can attach."""
        return Ftrace(self.root, self.symbols, self.memory, self.config)

    @cached_property
    def points(self) -> Points:
        """Its error-injectable functions."""
        return Points(self.root, self.symbols, self.modules, self.config)

    @property
    def overrider(self) -> Optional[Overrider]:
        """inject's module, if it is loaded now."""
        return Overrider.of(self.root)

    @cached_property
    def lockdown(self) -> str:
        """``none``, ``integrity`` or ``confidentiality``; "" if the LSM is absent or securityfs is not mounted."""
        match = re.search(r"\[(\w+)\]", text_of(self.root / "sys/kernel/security/lockdown"))
        return match[1] if match else ""

    def oopsed(self) -> bool:
        """True if the kernel has oopsed (TAINT_DIE, bit 7, include/linux/panic.h) and must not run more trials."""
        taint = text_of(self.root / "proc/sys/kernel/tainted")
        return taint.isdigit() and bool(int(taint) >> 7 & 1)

    def is_emulated(self) -> bool:
        """True if QEMU emulates the CPU (TCG)."""
        return "QEMU TCG" in text_of(self.root / "proc/cpuinfo")

    def is_guest(self) -> bool:
        """True in a guest that `inject vm` booted: the first process is the one of inject's image.

        The CPU's hypervisor bit does not tell: a production server may be a virtual machine, too.
        """
        return "init=/sbin/inject-init" in text_of(self.root / "proc/cmdline").split()

    def agent(self) -> int:
        """Process id of the agent that answers the host of such a guest; 0 elsewhere."""
        text = text_of(self.root / AGENT) if self.is_guest() else ""
        return int(text) if text.isdigit() else 0


def _cache() -> Optional[Path]:
    """Directory for facts of the running kernel; None if there is no home directory."""
    try:
        return cache_root() / "kernel-facts"
    except InjectError:
        return None
