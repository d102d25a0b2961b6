"""BTF written by hand, for tests that cannot wait for a kernel to have just that type.

The layout is that of Documentation/bpf/btf.rst; libbpf reads it as it reads a kernel's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional, Union

from inject.kernel import btf

MAGIC = 0xEB9F
HEADER = struct.Struct("<HBBIIIII")
SIGNED, BOOL = 1, 4
Member = Union[tuple[str, int, int], tuple[str, int, int, int]]
"""Name, type, bit offset and, of a bit field, its width."""


class Blob:
    """Types in the order in which they are added; each call returns the new type's id.

    With ``base`` the types of a module, numbered on from those of vmlinux.
    """

    def __init__(self, base: Optional[Blob] = None) -> None:
        self._next: int = base._next if base else 1
        self._string_start: int = base._string_start + len(base._strings) if base else 0
        self._strings: bytes = b"" if base else b"\0"
        self._types = b""

    def _string(self, text: str) -> int:
        if not text:
            return 0
        offset = self._string_start + len(self._strings)
        self._strings += text.encode() + b"\0"
        return offset

    def _add(self, name: str, kind: int, size: int, entries: Sequence[bytes] = (), flag: bool = False) -> int:
        return self._raw(name, kind, size, len(entries), b"".join(entries), flag)

    def _raw(self, name: str, kind: int, size: int, count: int, tail: bytes, flag: bool = False) -> int:
        info = flag << 31 | kind << 24 | count
        self._types += struct.pack("<III", self._string(name), info, size) + tail
        self._next += 1
        return self._next - 1

    def integer(self, name: str, size: int, encoding: int = 0) -> int:
        """``size`` in bytes; ``encoding`` of SIGNED and BOOL."""
        return self._raw(name, btf.INT, size, 0, struct.pack("<I", encoding << 24 | size * 8))

    def to(self, type_id: int, kind: int = btf.PTR, name: str = "") -> int:
        """A pointer, or with ``kind`` a typedef or qualifier."""
        return self._add(name, kind, type_id)

    def forward(self, name: str) -> int:
        """A structure that is only declared."""
        return self._add(name, btf.FWD, 0)

    def array(self, type_id: int, count: int) -> int:
        """``count`` of ``type_id``."""
        return self._raw("", btf.ARRAY, 0, 0, struct.pack("<III", type_id, type_id, count))

    def structure(self, name: str, size: int, members: Sequence[Member], kind: int = btf.STRUCT) -> int:
        """``size`` in bytes."""
        fields = any(len(member) > 3 for member in members)
        entries = []
        for member in members:
            width = member[3] if len(member) > 3 else 0
            entries.append(struct.pack("<III", self._string(member[0]), member[1], width << 24 | member[2]))
        return self._add(name, kind, size, entries, flag=fields)

    def enumeration(self, name: str, values: Mapping[str, int], size: int = 4) -> int:
        """``size`` 8 makes an ENUM64."""
        layout, kind = ("<IQ", btf.ENUM64) if size == 8 else ("<II", btf.ENUM)
        bits = (1 << size * 8) - 1
        entries = [struct.pack(layout, self._string(key), value & bits) for key, value in values.items()]
        return self._add(name, kind, size, entries, flag=any(value < 0 for value in values.values()))

    def function(self, name: str, returns: int, parameters: Sequence[tuple[str, int]]) -> int:
        """A function and its prototype."""
        entries = [struct.pack("<II", self._string(parameter), type_id) for parameter, type_id in parameters]
        proto = self._add("", btf.PROTO, returns, entries)
        return self._add(name, btf.FUNC, proto)

    def variable(self, name: str, type_id: int) -> int:
        """A global variable."""
        return self._raw(name, btf.VAR, type_id, 0, struct.pack("<I", 1))

    def pack(self) -> bytes:
        """All of it as a file of /sys/kernel/btf."""
        types, strings = len(self._types), len(self._strings)
        header = HEADER.pack(MAGIC, 1, 0, HEADER.size, 0, types, types, strings)
        return header + self._types + self._strings

    def write(self, root: Path, module: str = "vmlinux") -> None:
        """Below the ``root`` of a fake kernel."""
        path = root / "sys/kernel/btf" / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.pack())


def kernel_types() -> Blob:
    """A few types such as a kernel has, and the functions of fake_kernel.LIST that take them."""
    blob = Blob()
    u8, u16 = blob.integer("u8", 1), blob.integer("u16", 2)
    u32, u64 = blob.integer("unsigned int", 4), blob.integer("long unsigned int", 8)
    s32, s64 = blob.integer("int", 4, SIGNED), blob.integer("long int", 8, SIGNED)
    char = blob.integer("char", 1, SIGNED)
    text = blob.to(blob.to(char, btf.CONST))
    gfp = blob.to(u32, btf.TYPEDEF, "gfp_t")
    huge = blob.integer("__int128", 16, SIGNED)
    errors = blob.enumeration("bch_errcode", {"BCH_ERR_START": 2048, "BCH_ERR_ENOSPC_disk_reservation": 2160})
    signed = blob.enumeration("level", {"LOW": -3, "HIGH": 7})
    wide = blob.enumeration("wide", {"WIDE_ALL": -1, "WIDE_TOP": 1 << 40}, size=8)
    blob.enumeration("bch_reservation_flags", {"BCH_DISK_RESERVATION_NOFAIL": 1, "BCH_DISK_RESERVATION_GC": 2})
    block = blob.structure("block_device", 16, [("bd_start", u64, 0), ("bd_dev", u32, 64)])
    inner = blob.structure("bvec_iter", 16, [("bi_sector", u64, 0), ("bi_size", u32, 64), ("bi_idx", s32, 96)])
    union = blob.structure("", 8, [("number", u64, 0), ("handle", blob.to(block), 0)], btf.UNION)
    bio = blob.structure(
        "bio",
        64,
        [
            ("bi_next", blob.to(0), 0),
            ("bi_bdev", blob.to(block), 64),
            ("bi_iter", inner, 128),
            ("", union, 256),
            ("name", text, 320),
            ("tag", blob.array(char, 8), 384),
            ("links", blob.array(u64, 1), 448),
        ],
    )
    packed = blob.structure("bpos", 20, [("snapshot", u32, 0), ("offset", u64, 32), ("inode", u64, 96)])
    odd = blob.structure("odd", 12, [("kind", u8, 0), ("count", u32, 8), ("cell", u64, 40)])
    bits = blob.structure(
        "bits",
        16,
        [
            ("low", u32, 0, 3),
            ("high", s32, 3, 7),
            ("second", u32, 32, 32),
            ("across", u32, 92, 8),
            ("late", u64, 70, 20),
            ("level", signed, 100, 4),
        ],
    )
    small = blob.structure("subvol_inum", 16, [("subvol", u32, 0), ("inum", u64, 64)])
    key = blob.structure("bkey_s_c", 16, [("k", blob.to(bits), 0), ("v", blob.to(bio), 64)])
    blob.structure("task_struct", 64, [("state", u32, 0), ("flags", u32, 352)])
    sub = blob.to(small, btf.TYPEDEF, "subvol_inum_t")
    blob.function("open_ctree", s32, [("bio", blob.to(bio)), ("flags", gfp), ("class", text), ("count", s64)])
    blob.function("bch2_alloc", blob.to(0), [("pos", blob.to(packed)), ("odd", blob.to(odd)), ("bits", blob.to(bits))])
    blob.function("bch2_free", 0, [("iter", inner), ("inum", sub), ("rest", u32), ("late", u64), ("more", u16)])
    blob.function("weak_one", s32, [("pos", packed), ("odd", odd), ("key", key), ("err", errors), ("level", signed)])
    large = blob.structure("large", 24, [("first", u64, 0), ("second", u64, 64), ("third", u64, 128)])
    blob.function("large_one", s32, [("large", large), ("after", u32)])
    many = [(name, u64) for name in "abcdefg"]
    blob.function("twin", s32, [*many, ("huge", huge)])
    blob.function("huge_one", s32, [("first", u64), ("huge", huge), ("wide", wide), ("later", u8)])
    blob.function("__do_sys_getpid", s64, [("regs", blob.to(blob.to(blob.forward("pt_regs"), btf.CONST)))])
    blob.function("__bch2_disk_reservation_add", s32, [("c", blob.to(0)), ("sectors", u64), ("flags", u32)])
    return blob
