"""The kernel's symbols: /proc/kallsyms, and which functions the compiler inlined where."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Optional

from inject.kernel import kept
from inject.kernel.files import text_of
from inject.model.glob import is_glob, to_regex

LIMIT = 64 << 20
"""Bytes of /proc/kallsyms that are read at most; a big distribution kernel has about 15 MB."""


@dataclass(frozen=True)
class KernelSymbol:
    """One line of /proc/kallsyms. ``kind`` is nm's letter; ``module`` "" for vmlinux."""

    name: str
    address: int
    kind: str
    module: str = ""


class Kallsyms:
    """Text symbols of the kernel below ``root``, read once, when first asked for."""

    def __init__(self, root: Path, release: str, build_id: str = "", cache: Optional[Path] = None) -> None:
        self._root = root
        self._release = release
        self._build_id = build_id
        self._cache = cache
        self._functions: dict[str, list[KernelSymbol]] = {}
        self._begun: dict[str, list[KernelSymbol]] = {}

    @cached_property
    def _kallsyms(self) -> kept.Text:
        """The kernel writes it anew, line by line, for each reader; so it is kept where another user cannot write."""
        key = kept.state(self._root, self._build_id) if self._cache is not None else ""
        found = kept.load(self._cache, "kallsyms", key) if self._cache is not None and key else None
        if found is not None:
            return found
        try:
            with (self._root / "proc/kallsyms").open("rb") as file:
                text = file.read(LIMIT)
        except OSError:
            return b""
        if self._cache is not None and key == kept.state(self._root, self._build_id) != "" and not _hides(text):
            kept.keep(self._cache, "kallsyms", key, text)
        return text

    @cached_property
    def hidden(self) -> bool:
        """True if the kernel shows every address as 0 (kallsyms_show_value(), kernel/ksyms_common.c, v6.12)."""
        for name in ("_text", "_stext"):
            address = self.first(name)
            if address is not None:
                return not address
        return bool(self.text_addresses) and not any(self.text_addresses)

    def first(self, name: str, start: int = 0) -> Optional[int]:
        """Address of the first symbol of vmlinux called exactly ``name`` from an offset on; None if there is none."""
        at = self._kallsyms.find(b" %s\n" % name.encode(), max(start, 0))
        if at < 0:
            return None
        return int(self._kallsyms[self._kallsyms.rfind(b"\n", 0, at) + 1 : at].split()[0], 16)

    def is_freed(self, address: int) -> bool:
        """True for a function of the kernel's start (__init): its memory is freed when the first process begins.

        Its symbols stay (free_initmem(), arch/x86/mm/init.c; _sinittext, include/asm-generic/vmlinux.lds.h, v6.12).
        """
        start, end = self._freed
        return start <= address < end

    @cached_property
    def _freed(self) -> tuple[int, int]:
        start = self._kallsyms.find(b" _sinittext\n")  # vmlinux's symbols are in the order of their addresses
        return self.first("_sinittext", start) or 0, self.first("_einittext", start) or 0

    @property
    def show(self) -> str:
        """What makes the kernel show its addresses."""
        if text_of(self._root / "proc/sys/kernel/kptr_restrict") == "2":
            return "sysctl kernel.kptr_restrict=1"
        return "run as root" if os.geteuid() else "give it CAP_SYSLOG"

    def distinct(self, symbols: Sequence[KernelSymbol]) -> int:
        """Number of functions that ``symbols`` are names of; where addresses are hidden, each counts as one."""
        return len(symbols) if self.hidden else len({symbol.address for symbol in symbols})

    def matching(self, pattern: str) -> list[KernelSymbol]:
        """Text symbols whose whole name matches the regular expression ``pattern``."""
        line = re.compile(rb"^([0-9a-f]+) ([tTwW]) (" + pattern.encode() + rb")(?:\t\[(\S+)\])?$", re.MULTILINE)
        return [
            KernelSymbol(name.decode(), int(address, 16), kind.decode(), (module or b"").decode())
            for address, kind, name, module in line.findall(self._kallsyms)
        ]

    def named(self, name: str) -> list[KernelSymbol]:
        """All text symbols called exactly ``name``; several when static functions share it."""
        return [symbol for symbol in self._begin(name) if symbol.name == name]

    def _begin(self, name: str) -> list[KernelSymbol]:
        """Text symbols whose names begin with ``name``: one search finds the function and its clones."""
        if name not in self._begun:
            self._begun[name] = self._lines_with(b" %s" % name.encode())
        return self._begun[name]

    def addresses(self, name: str) -> list[int]:
        """Addresses of every symbol called exactly ``name``, data included."""
        found = []
        for at in self._find(b" %s" % name.encode()):
            start = self._kallsyms.rfind(b"\n", 0, at) + 1
            words = self._kallsyms[start : self._kallsyms.find(b"\n", at)].decode().split()
            if len(words) >= 3 and words[2] == name:
                found.append(int(words[0], 16))
        return found

    def _find(self, needle: bytes) -> Iterator[int]:
        """Offsets of ``needle`` in kallsyms: a plain search costs a hundredth of a regular expression."""
        at = self._kallsyms.find(needle)
        while at >= 0:
            yield at
            at = self._kallsyms.find(needle, at + 1)

    def _line(self, at: int) -> Optional[KernelSymbol]:
        """The text symbol on the line around offset ``at``, None for data symbols."""
        start = self._kallsyms.rfind(b"\n", 0, at) + 1
        end = self._kallsyms.find(b"\n", at + 1)
        words = self._kallsyms[start : end if end >= 0 else None].decode().split()
        if len(words) < 3 or words[1] not in "tTwW":
            return None
        return KernelSymbol(words[2], int(words[0], 16), words[1], words[3].strip("[]") if len(words) > 3 else "")

    def names_at(self, address: int) -> tuple[str, ...]:
        """Every text symbol at ``address``: folded functions share one."""
        if not address:
            return ()
        found = (self._line(at + 1) for at in self._find(b"%016x " % address))
        return tuple(sorted({symbol.name for symbol in found if symbol is not None}))

    def functions(self, name: str) -> list[KernelSymbol]:
        """Text symbols called ``name``, or matching it if it is a glob, and the compiler's clones of them."""
        if name not in self._functions:
            found = self.matching(to_regex(name)) if is_glob(name) else self.named(name)
            clones = [] if is_glob(name) else [one for one in self._begin(name) if one.name.startswith(f"{name}.")]
            self._functions[name] = found + clones
        return self._functions[name]

    def clones(self, name: str) -> tuple[str, ...]:
        """Clones of ``name``, such as ``name.isra.0``, that the compiler lets callers use in its place."""
        wanted = re.compile(re.escape(name) + r"\.(?:constprop|isra|part)\b.*")
        found = {symbol.name for symbol in self._begin(name)}
        return tuple(sorted(clone for clone in found if wanted.fullmatch(clone) and ".cold" not in clone))

    def inlined_into(self, name: str) -> Optional[tuple[str, ...]]:
        """Functions that the compiler inlined ``name`` into, sorted; None if unknown.

        Only kernels that `inject vm` builds say so, in a file beside their modules.
        """
        text = self._inlined
        if not text:
            return None
        line = b"%s\t" % name.encode()
        start = 0 if text[: len(line)] == line else text.find(b"\n" + line)
        if start < 0:
            return ()
        end = text.find(b"\n", start + 1)
        callers = text[start : end if end >= 0 else None].decode().split("\t", 1)[1].split()
        return tuple(sorted(set(callers) - {name}))  # a part of its own that was split off and put back

    @cached_property
    def _inlined(self) -> kept.Text:
        """A line for each inlined function, ``callee<TAB>caller caller ...``."""
        try:
            with (self._root / f"lib/modules/{self._release}/inlined").open("rb") as file:
                return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            return b""

    def _lines_with(self, needle: bytes) -> list[KernelSymbol]:
        found = (self._line(at) for at in self._find(needle))
        return [symbol for symbol in found if symbol is not None]

    def of_module(self, module: str) -> list[KernelSymbol]:
        """Text symbols of a loaded ``module``."""
        return self._lines_with(b"\t[%s]" % module.encode())

    def text(self) -> list[tuple[int, str, str, str]]:
        """Address, kind, name and module of every text symbol, in the order of kallsyms; not kept."""
        lines = re.findall(rb"^([0-9a-f]+) ([tTwW]) (\S+)(?:\t\[(\S+)\])?$", self._kallsyms, re.MULTILINE)
        return [(int(at, 16), kind.decode(), name.decode(), module.decode()) for at, kind, name, module in lines]

    @cached_property
    def text_addresses(self) -> list[int]:
        """Addresses of all text symbols, sorted."""
        return sorted({int(word, 16) for word in re.findall(rb"^([0-9a-f]+) [tTwW] ", self._kallsyms, re.MULTILINE)})


def _hides(text: bytes) -> bool:
    """True if every address in ``text`` is 0."""
    return not re.search(rb"^0*[1-9a-f]", text, re.MULTILINE)
