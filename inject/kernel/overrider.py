"""inject's kernel module as the running kernel has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.kernel.files import text_of

NAME = "inject_override"
"""Of the module, of its device below /dev and of its BTF."""
KFUNC = "inject_override_return"
"""What kprobe programs call in place of the helper bpf_override_return()."""
VERSION = "1"
"""MODULE_VERSION in inject/module/inject_override.c: what this inject relies on."""


@dataclass(frozen=True)
class Overrider:
    """The module, loaded and of this inject's version. ``kfunc``: kprobe programs can call its kfunc."""

    kfunc: bool

    @staticmethod
    def of(root: Path) -> Optional[Overrider]:
        """The module of the kernel below ``root``; None if it is not loaded, or of another version."""
        where = root / "sys/module" / NAME
        if text_of(where / "initstate") != "live" or text_of(where / "version") != VERSION:
            return None
        btf = root / "sys/kernel/btf" / NAME
        return Overrider(text_of(where / "parameters/kfunc") == "Y" and btf.exists())

    @staticmethod
    def version(root: Path) -> str:
        """The version of the module that is loaded; "" if none is."""
        return text_of(root / "sys/module" / NAME / "version")
