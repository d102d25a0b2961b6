"""What a bug report has to say of the machine: one line for each thing whose version matters."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from pathlib import Path

from inject import __version__
from inject.errors import InjectError
from inject.kernel.kernel import Kernel
from inject.process.tool import run_tool

QEMU = "qemu-system-x86_64"
_PATIENCE = 10.0
"""Seconds for a program to say its version; measured 0.03."""
ABSENT = "not installed"


def versions(kernel: Kernel) -> list[tuple[str, str]]:
    """Name and version of each, the absent ones said so; imports nothing that is slow and starts one program."""
    return [
        ("inject", __version__),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("kernel", f"{kernel.release or 'unknown'} ({os.uname().machine})"),
        ("bcc", bcc()),
        ("QEMU", qemu()),
    ]


def bcc() -> str:
    """As the package says, which is not imported for that: it loads LLVM."""
    found = importlib.util.find_spec("bcc")
    if found is None:
        return f"{ABSENT} for this Python"
    for folder in found.submodule_search_locations or ():
        try:
            text = (Path(folder) / "version.py").read_text(errors="replace")
        except OSError:
            continue
        match = re.search(r"__version__\s*=\s*['\"]([^'\"]+)", text)
        if match:
            return match[1]
    return "installed, but does not say its version"


def qemu() -> str:
    """As its first line says."""
    try:
        done = run_tool([QEMU, "--version"], timeout=_PATIENCE)
    except InjectError:
        return ABSENT
    match = re.search(r"version (\S+(?: \([^)]*\))?)", done.output)
    return match[1] if match and done.code == 0 else f"{QEMU} {done.how()}"
