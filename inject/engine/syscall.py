"""bpf(2), for the calls that neither bcc nor libbcc makes."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from typing import Union

NUMBERS = {"x86_64": 321, "aarch64": 280}
"""The system call's number (include/uapi/asm-generic/unistd.h, arch/x86/entry/syscalls/syscall_64.tbl)."""
PROG_LOAD, OBJ_GET_INFO_BY_FD = 5, 15
"""enum bpf_cmd, include/uapi/linux/bpf.h"""
RECURSION_MISSES = 208
"""Offset of ``recursion_misses`` in struct bpf_prog_info (include/uapi/linux/bpf.h, since Linux 5.12)."""


def bpf(command: int, attributes: Union[bytes, bytearray]) -> int:
    """What the kernel returns, a descriptor for some commands; raises OSError.

    A bytearray afterwards has what the kernel wrote into it.
    """
    number = NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(38, f"bpf(2) is unknown on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    shared = attributes if isinstance(attributes, bytearray) else bytearray(attributes)
    buffer = (ctypes.c_char * len(shared)).from_buffer(shared)
    returned = int(libc.syscall(number, command, buffer, len(attributes)))
    if returned < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return returned


def new_descriptor(command: int, attributes: bytes) -> int:
    """The descriptor that the kernel returns; raises OSError."""
    descriptor = bpf(command, attributes)
    os.set_inheritable(descriptor, False)
    return descriptor


LOAD = struct.Struct("<IIQQIIQII16sIIIIQIIQIIIIQ")
"""union bpf_attr of BPF_PROG_LOAD up to fd_array (include/uapi/linux/bpf.h, since Linux 5.14)."""
MOST_LOG = 1 << 20
"""Bytes of the verifier's log that are kept."""


class ProgramRefused(OSError):
    """The kernel refuses a program; ``said`` is the last line of the verifier's log, if there is one."""

    def __init__(self, error: OSError, said: str) -> None:
        super().__init__(error.errno, error.strerror)
        self.said = said


def load_program(
    kind: int,
    code: bytes,
    name: str,
    *,
    attach_type: int = 0,
    btf_id: int = 0,
    btfs: Sequence[int] = (),
    log: bool = False,
) -> int:
    """A descriptor of the program ``code`` of type ``kind``; raises ProgramRefused.

    ``btf_id`` is the number in vmlinux's BTF of the function that a program of some types is for. ``btfs`` are
    descriptors of BTF objects: a call of a kfunc names one by its index.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    descriptors = (ctypes.c_int32 * max(1, len(btfs)))(*btfs)
    said = ctypes.create_string_buffer(MOST_LOG if log else 1)
    attributes = LOAD.pack(
        kind,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        int(log),
        MOST_LOG if log else 0,
        ctypes.addressof(said) if log else 0,
        0,
        0,
        name.encode()[:15],
        0,
        attach_type,
        *(0,) * 7,
        btf_id,
        0,
        0,
        ctypes.addressof(descriptors) if btfs else 0,
    )
    try:
        descriptor = bpf(PROG_LOAD, attributes)
    except OSError as error:
        if not log:
            return load_program(kind, code, name, attach_type=attach_type, btf_id=btf_id, btfs=btfs, log=True)
        lines = [line for line in said.value.decode(errors="replace").splitlines() if line.strip()]
        raise ProgramRefused(
            error, next((line for line in reversed(lines) if not line.startswith("processed ")), "")
        ) from None
    os.set_inheritable(descriptor, False)
    return descriptor


def missed(program: int) -> int:
    """Calls that the loaded ``program`` did not see, because a BPF program was busy on that CPU; 0 if unknown.

    The kernel counts them for fmod_ret (__bpf_prog_enter_recur(), kernel/bpf/trampoline.c, v6.12) and,
    since Linux 6.7, for kprobes (trace_call_bpf(), kernel/trace/bpf_trace.c).
    """
    info = ctypes.create_string_buffer(RECURSION_MISSES + 8)
    attributes = struct.pack("<IIQ", program, len(info), ctypes.addressof(info))
    try:
        bpf(OBJ_GET_INFO_BY_FD, attributes)
    except OSError:
        return 0
    (count,) = struct.unpack_from("<Q", info, RECURSION_MISSES)
    return int(count)
