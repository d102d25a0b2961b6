"""Many functions, one link."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Sequence

from inject.engine.syscall import load_program, new_descriptor
from inject.errors import CannotRun

LINK_CREATE = 28
KPROBE = 2
"""BPF_PROG_TYPE_KPROBE"""
KPROBE_MULTI, KPROBE_SESSION = 42, 56
"""enum bpf_attach_type: at entry or return; at both, and the entry decides whether the return is reported."""
RETURNS = 1
"""BPF_F_KPROBE_MULTI_RETURN"""
MOST = 1 << 20
"""MAX_KPROBE_MULTI_CNT, kernel/trace/bpf_trace.c"""


def _link(program: int, attach_type: int, flags: int, addresses: Sequence[int]) -> int:
    array = (ctypes.c_uint64 * len(addresses))(*addresses)
    # union bpf_attr of BPF_LINK_CREATE with kprobe_multi
    attributes = struct.pack(
        "<IIIIIIQQQ", program, 0, attach_type, 0, flags, len(addresses), 0, ctypes.addressof(array), 0
    )
    return new_descriptor(LINK_CREATE, attributes)


def _attached(code: bytes, attach_type: int, flags: int, addresses: Sequence[int], name: str) -> tuple[int, int]:
    """Link and program, descriptors to close; raises OSError."""
    with contextlib.ExitStack() as stack:
        program = load_program(KPROBE, code, name, attach_type=attach_type)
        stack.callback(os.close, program)
        link = _link(program, attach_type, flags, addresses)
        stack.pop_all()
        return link, program


def probe_entries(code: bytes, addresses: Sequence[int], name: str) -> tuple[int, int]:
    """Attach the kprobe program ``code`` to the entry of all functions at ``addresses``.

    Returns link and program, descriptors to close. Raises OSError if the kernel refuses.
    """
    return _attached(code, KPROBE_MULTI, 0, addresses[:MOST], name)


def load_entries(code: bytes, name: str) -> int:
    """Load the kprobe program ``code`` for :func:`attach_entries`; raises OSError if the kernel refuses it."""
    return load_program(KPROBE, code, name, attach_type=KPROBE_MULTI)


def attach_entries(program: int, addresses: Sequence[int]) -> int:
    """Attach a loaded ``program`` to the entry of all functions; the link. Raises OSError if the kernel refuses."""
    return _link(program, KPROBE_MULTI, 0, addresses[:MOST])


def probe_returns(code: bytes, addresses: Sequence[int], name: str, session: bool = True) -> tuple[int, int]:
    """Attach the kprobe program ``code`` to the entry and return of all functions at ``addresses``.

    Returns link and program, descriptors to close. Without ``session``, or on a kernel
    older than 6.10, which has no sessions, the program sees returns only. Raises
    CannotRun with what the kernel needs.
    """
    kinds = [(KPROBE_SESSION, 0)] * session + [(KPROBE_MULTI, RETURNS)]
    said = ""
    for attach_type, flags in kinds:
        try:
            return _attached(code, attach_type, flags, addresses[:MOST], name)
        except OSError as error:
            said = error.strerror or str(error)
    raise CannotRun(
        f"this kernel cannot trace errors by return probes ({said})",
        "it needs CONFIG_FPROBE=y (Linux 5.18 or newer); without --trace and `error` nothing needs them",
    )
