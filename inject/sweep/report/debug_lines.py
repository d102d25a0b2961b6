"""Lines of the kernel's source by `symbol+0xoff`, from the debug information in the tree that it was built in.

binutils read it: objdump lists the symbols, addr2line names the lines.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun, ExitStatus, InjectError
from inject.kernel.config import options_of, short_name
from inject.model.text import printable
from inject.store import read_file

LIMIT = 300.0
"""Seconds that one program may take; measured: below 1 for a vmlinux of 141 MB."""

VMLINUX = "vmlinux"
RELEASE = "include/config/kernel.release"
CONFIG = ".config"
MODULES = "modules.order"
LARGEST = 4 << 20
"""Bytes of a file of source, and of the list of modules, that are read."""

SHORTEST = 2
"""Parts of a path, at least, by which a file is looked for in the source: fs/open.c."""

_FRAME = re.compile(r"(\S+)\+0x([0-9a-f]{1,8})(?: \[(\S+)\])?")
_SYMBOL = re.compile(r"([0-9a-f]+) .{7} (\S*text\S*)\t([0-9a-f]+)(?: \.\w+)? (\S+)")
_ASKED = re.compile(r"0x([0-9a-f]+)")
_BUILD_ID = re.compile(r"Build ID: ([0-9a-f]+)")
_LINE = re.compile(r"(.+):([1-9]\d*)(?: \(discriminator \d+\))?")


class BadTree(InjectError):
    """A directory is not the tree that the kernel of a sweep was built in, or has no debug information."""

    status = ExitStatus.USAGE


@dataclass(frozen=True, order=True)
class SourcePlace:
    """A line, counted from 1, of a file; its path is relative to the source."""

    file: str
    line: int


@dataclass(frozen=True)
class _Symbol:
    section: str
    address: int
    size: int
    """0 for what is written in assembler."""


class BuildTree:
    """The tree that a kernel was built in, and its source, which may be another directory."""

    def __init__(self, built: Path, source: Path) -> None:
        self._built = built
        self.source = source
        if not (built / VMLINUX).is_file():
            raise BadTree(f"{built} has no {VMLINUX}", "give the directory that the kernel was built in")

    def require(self, release: str, config: str, build_id: str) -> None:
        """Raise BadTree unless the tree's kernel has this release, configuration and GNU build id of vmlinux.

        What is "" is not known.
        """
        for file, swept, read in (
            (RELEASE, release, str.strip),
            (CONFIG, config, lambda text: short_name(options_of(text))),
        ):
            with contextlib.suppress(OSError):
                _same(self._built / file, read(read_file(self._built / file, LARGEST).decode(errors="replace")), swept)
        if build_id:
            found = _BUILD_ID.search(_run(["readelf", "--notes", "--wide", str(self._built / VMLINUX)]))
            _same(self._built / VMLINUX, found[1] if found else "", build_id)

    def text(self, file: str) -> Sequence[str]:
        """The lines of a file of the source; () if it cannot be read."""
        try:
            return read_file(self.source / file, LARGEST).decode(errors="replace").split("\n")
        except OSError:
            return ()

    def places(self, frames: Iterable[str]) -> dict[str, SourcePlace]:
        """The line of the call that returns to each of ``frames``, innermost if it was inlined; not of all.

        Raises BadTree if vmlinux or a module has no debug information, and CannotRun without binutils.
        """
        of: dict[str, dict[str, tuple[str, int]]] = {}
        for frame in frames:
            found = _FRAME.fullmatch(frame)
            if found is not None:
                of.setdefault(found[3] or "", {})[frame] = found[1], int(found[2], 16)
        files = self._modules() if of.keys() - {""} else {}
        places: dict[str, SourcePlace] = {}
        for module, wanted in of.items():
            file = files.get(module) if module else self._built / VMLINUX
            if file is not None:
                places.update(self._places(file, wanted))
        return places

    def _modules(self) -> dict[str, Path]:
        """The files of modules, by the names that the kernel gives them (scripts/Makefile.lib, name-fix, v6.12)."""
        try:
            order = read_file(self._built / MODULES, LARGEST).decode(errors="replace").split()
        except OSError:
            return {}
        paths = [(self._built / path.removeprefix("kernel/")).with_suffix(".ko") for path in order]
        return {path.stem.replace("-", "_"): path for path in paths if path.is_file()}

    def _places(self, file: Path, wanted: Mapping[str, tuple[str, int]]) -> Iterator[tuple[str, SourcePlace]]:
        """Lines for frames of one file. A name that several functions have counts if all agree."""
        symbols = _symbols(file, {name for name, _ in wanted.values()})
        asked: dict[str, list[tuple[str, int]]] = {}
        for frame, (name, offset) in wanted.items():
            # A return address is that of the next instruction, which may be of another line.
            asked[frame] = [
                (one.section, one.address + offset - 1)
                for one in symbols.get(name, ())
                if 0 < offset <= (one.size or offset)
            ]
        lines: dict[tuple[str, int], Optional[SourcePlace]] = {}
        for section in {section for some in asked.values() for section, _ in some}:
            addresses = sorted({address for some in asked.values() for name, address in some if name == section})
            # In a module, addresses are relative to their section.
            options = [] if file.name == VMLINUX else ["-j", section]
            for address, line in zip(addresses, _lines(file, options, addresses)):
                lines[section, address] = self._place(line)
        if lines and not any(lines.values()):
            raise BadTree(
                f"{file} does not say from which lines its code is, or {self.source} is not its source",
                "build the kernel with CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y",
            )
        for frame, some in asked.items():
            found = {lines[one] for one in some}
            place = found.pop() if len(found) == 1 else None
            if place is not None:
                yield frame, place

    def _place(self, line: str) -> Optional[SourcePlace]:
        """The place that addr2line names, if that file is in the source: the tree may have been moved since."""
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        parts = [part for part in Path(os.path.normpath(found[1])).parts if part not in ("/", "..")]
        for first in range(len(parts) - SHORTEST + 1):
            path = Path(*parts[first:])
            if (self.source / path).is_file():
                return SourcePlace(str(path), int(found[2]))
        return None


def _same(file: Path, own: str, swept: str) -> None:
    """Raise BadTree if ``own``, which ``file`` says, is another one than ``swept``; either may be "", not known."""
    if swept and own and own != swept:
        raise BadTree(
            f"{file} is of {printable(own)}, and the sweep was made on {printable(swept)}",
            "give the tree of the kernel that was swept",
        )


def _symbols(file: Path, names: set[str]) -> dict[str, list[_Symbol]]:
    """The symbols in code that have one of ``names``."""
    found: dict[str, list[_Symbol]] = {}
    for line in _run(["objdump", "--syms", str(file)]).splitlines():
        told = _SYMBOL.fullmatch(line)
        if told is not None and told[4] in names:
            found.setdefault(told[4], []).append(_Symbol(told[2], int(told[1], 16), int(told[3], 16)))
    return found


def _lines(file: Path, options: Sequence[str], addresses: Sequence[int]) -> list[str]:
    """What addr2line says of each address: the line of the innermost function that was inlined there."""
    asked = "".join(f"{address:#x}\n" for address in addresses)
    said = _run(["addr2line", "--addresses", "--exe", str(file), *options], asked).splitlines()
    found = {int(one[1], 16): said[place + 1] for place, one in _numbered(said[:-1])}
    return [found.get(address, "") for address in addresses]


def _numbered(lines: Sequence[str]) -> Iterator[tuple[int, re.Match[str]]]:
    for place, line in enumerate(lines):
        found = _ASKED.fullmatch(line)
        if found is not None:
            yield place, found


def _run(words: Sequence[str], asked: str = "") -> str:
    """What a program of binutils prints; raises InjectError if it fails, CannotRun if it is not installed."""
    try:
        done = subprocess.run(
            words,
            input=asked,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError:
        raise CannotRun(f"{words[0]} is not installed", "apt install binutils") from None
    except subprocess.TimeoutExpired:
        raise InjectError(f"{words[0]} took longer than {LIMIT:g} s") from None
    if done.returncode != 0:
        last = printable(done.stderr.strip().rpartition("\n")[2])
        raise InjectError(f"{words[0]} failed with exit code {done.returncode}: {last}")
    return done.stdout
