"""The accelerators to try, and the kernels that KVM is known not to run here.

/dev/kvm may exist and yet not run an ordinary kernel. inject tries it, and remembers
the answer for this host and kernel.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from pathlib import Path

from inject.errors import CannotRun
from inject.store import read_json, write_file

CHOICES = ("auto", "kvm", "tcg")

DEVICE = Path("/dev/kvm")

SIGN_OF_LIFE = 4.0
"""Seconds within which a kernel under KVM must have printed its first byte."""

FIRST_HEARTBEAT = 20.0
"""Seconds within which the agent of a guest under KVM must have answered."""


def candidates(choice: str, memory: Path) -> list[str]:
    """The accelerators to try, in order; ``memory`` is the file of :func:`memory_file`.

    Raises CannotRun when KVM is forced and this machine does not offer it.
    """
    if choice not in CHOICES:
        raise CannotRun(f"unknown accelerator {choice!r}", f"use one of {', '.join(CHOICES)}")
    usable = os.access(DEVICE, os.R_OK | os.W_OK)
    if choice == "kvm" and not usable:
        missing = "is not accessible to this user" if DEVICE.exists() else "does not exist"
        raise CannotRun(f"{DEVICE} {missing}", "use --accel auto or --accel tcg")
    if choice != "auto":
        return [choice]
    return ["kvm", "tcg"] if usable and not known_bad(memory) else ["tcg"]


def memory_file(cache: Path, kernel_key: str) -> Path:
    """The file that keeps the answer for this host (its name, kernel and processor) and ``kernel_key``."""
    host = [platform.node(), platform.release(), platform.version(), _processor(), kernel_key]
    return cache / "accel" / f"{hashlib.sha256(json.dumps(host).encode()).hexdigest()[:16]}.json"


def known_bad(memory: Path) -> bool:
    """True if KVM was found not to run this kernel here. A damaged file is ignored."""
    try:
        answer = read_json(memory)
    except (OSError, ValueError):
        return False
    return isinstance(answer, dict) and answer.get("kvm") is False


def remember_bad(memory: Path, why: str) -> None:
    """Keep the answer; a cache that cannot be written only costs the next run some seconds."""
    with contextlib.suppress(OSError):
        write_file(memory, json.dumps({"kvm": False, "why": why}) + "\n", parents=True)


def _processor() -> str:
    """The processor's model, as /proc/cpuinfo has it; "" if it does not."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return ""
