"""BTF objects of the kernel, by the module that they describe."""

from __future__ import annotations

import ctypes
import os
import struct

from inject.engine.syscall import OBJ_GET_INFO_BY_FD, bpf
from inject.errors import CannotRun

BTF_GET_FD_BY_ID, BTF_GET_NEXT_ID = 19, 23
"""enum bpf_cmd, include/uapi/linux/bpf.h"""
MOST_BTFS = 65536
"""Maximum BTF objects to look at: one for each module, and those of BPF programs."""
_INFO = struct.Struct("<QIIQII")
"""struct bpf_btf_info: btf, btf_size, id, name, name_len, kernel_btf."""


def btf_of(module: str) -> int:
    """Descriptor of the BTF of a loaded ``module``, to be closed. Raises CannotRun if the kernel shows none."""
    try:
        return _btf_of(module)
    except OSError as error:
        raise CannotRun(f"cannot open the BTF of the module {module}: {error.strerror}") from None


def _btf_of(module: str) -> int:
    """Descriptor of the BTF of a loaded module; raises OSError."""
    number = 0
    for _ in range(MOST_BTFS):
        attributes = bytearray(struct.pack("<III", number, 0, 0))
        bpf(BTF_GET_NEXT_ID, attributes)
        _, number, _ = struct.unpack("<III", attributes)
        descriptor = bpf(BTF_GET_FD_BY_ID, struct.pack("<III", number, 0, 0))
        if _name_of(descriptor) == module:
            os.set_inheritable(descriptor, False)
            return descriptor
        os.close(descriptor)
    raise OSError(2, os.strerror(2))


def _name_of(btf: int) -> str:
    """Name of a BTF object: of the module that it belongs to, or "vmlinux"; "" if it is a program's."""
    name = ctypes.create_string_buffer(64)
    info = ctypes.create_string_buffer(_INFO.pack(0, 0, 0, ctypes.addressof(name), len(name), 0))
    bpf(OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", btf, _INFO.size, ctypes.addressof(info)))
    return name.value.decode(errors="replace") if _INFO.unpack(info.raw[: _INFO.size])[5] else ""
