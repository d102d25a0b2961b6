"""Processes of inject, which no fault fails, by the numbers that the kernel has for them."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import NamedTuple

from inject.engine.syscall import bpf
from inject.errors import CannotRun

_INIT_NAMESPACE = 0xEFFFFFFC
"""Inode of the first PID namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h)."""

_PROG_LOAD, _PROG_TEST_RUN = 5, 10
_RAW_TRACEPOINT = 17
_OWN_PROCESS = struct.pack("<BBhi", 0x85, 0, 0, 14) + struct.pack("<BBhi", 0x77, 0, 0, 32) + struct.pack("<Q", 0x95)
"""``return bpf_get_current_pid_tgid() >> 32``."""


class OwnProcesses(NamedTuple):
    """Their numbers; one that does not exist has that of inject."""

    tool: int
    """inject itself."""
    janitor: int
    agent: int
    """The guest's agent, without which the host gives the guest up."""


def own_processes(janitor: int = 0, agent: int = 0, namespace: Path = Path("/proc/self/ns/pid")) -> OwnProcesses:
    """The numbers for the BPF program, which sees those of the first PID namespace.

    ``janitor`` is its number here, 0 if it is not to be spared; ``agent`` is that in the first namespace. In another
    namespace only inject's own number can be learned: the janitor there goes on after errors (janitor.py).
    Raises CannotRun if the kernel does not tell it.
    """
    if not namespace.exists() or namespace.stat().st_ino == _INIT_NAMESPACE:
        tool = os.getpid()
        return OwnProcesses(tool, janitor or tool, agent or tool)
    try:
        tool = _own_number()
    except OSError as error:
        raise CannotRun(
            f"inject runs in its own PID namespace, and its number outside is unknown ({error.strerror})",
            "run outside the container; inside Linux 5.10 or newer is needed",
        ) from None
    return OwnProcesses(tool, tool, agent or tool)


def _own_number() -> int:
    """This process's number in the first PID namespace: a BPF program runs once in this process; raises OSError.

    A raw tracepoint's program can be run so since Linux 5.10 (bpf_prog_test_run_raw_tp(), net/bpf/test_run.c).
    """
    code = ctypes.create_string_buffer(_OWN_PROCESS, len(_OWN_PROCESS))
    terms = ctypes.create_string_buffer(b"GPL")
    count = len(_OWN_PROCESS) // 8
    load = struct.pack("<IIQQ", _RAW_TRACEPOINT, count, ctypes.addressof(code), ctypes.addressof(terms)).ljust(
        128, b"\0"
    )
    program = bpf(_PROG_LOAD, load)
    try:
        ran = bytearray(struct.pack("<I", program).ljust(80, b"\0"))
        bpf(_PROG_TEST_RUN, ran)
    finally:
        os.close(program)
    return int(struct.unpack_from("<I", ran, 4)[0])
