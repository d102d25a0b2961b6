"""Kernel memory, read through /proc/kcore."""

from __future__ import annotations

import struct
from pathlib import Path


class Memory:
    """The memory of the kernel below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes of kernel memory at ``address``, from /proc/kcore; b"" if they cannot be read."""
        try:
            with (self._root / "proc/kcore").open("rb") as file:
                head = file.read(64)
                offset, entry, count = *struct.unpack_from("<32xQ14xH", head), struct.unpack_from("<56xH", head)[0]
                file.seek(offset)
                table = file.read(entry * count)
                for at in range(0, len(table) - entry + 1, entry):  # Elf64_Phdr: PT_LOAD is 1
                    kind, where, start, length = struct.unpack_from("<I4xQQ8xQ", table, at)
                    if kind == 1 and start <= address and address + size <= start + length:
                        file.seek(where + address - start)
                        return file.read(size)
        except (OSError, struct.error):
            return b""
        return b""
