"""Facts about a running kernel, read from a root that tests can replace."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun
from inject.kernel.modules import file_of, module_with
from inject.model.glob import is_glob, to_regex
from inject.model.point import ErrorType, FaultPoint

DEBUGFS = "sys/kernel/debug"
MOUNT_DEBUGFS = "mount -t debugfs none /sys/kernel/debug"
SYMBOL_LIMIT = 64 << 20
"""Bytes of /proc/kallsyms that are read at most; a big distribution kernel has about 15 MB."""
ENDBR64 = b"\xf3\x0f\x1e\xfa"
FTRACE_ENTRIES = (b"\x0f\x1f\x44\0\0", b"\xe8", b"\xe9")
REALIGNING = b"\x4c\x8d\x54\x24\x08\x48\x83\xe4"
"""``lea 0x8(%rsp),%r10; and $-N,%rsp``, but for the N."""
PROLOGUE = 32
"""Bytes of a function in which that would stand: the call for ftrace and a few pushes may come before."""
BLOCK = 32 << 20
"""Bytes of memory that are read together at most."""


MOST_NAMED = 6
"""Names that a sentence lists; of the others it gives the number."""


def listed(names: Sequence[str]) -> str:
    """``a, b, c and 7 more``."""
    shown = ", ".join(names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"


@dataclass(frozen=True)
class Symbol:
    """One line of /proc/kallsyms. ``kind`` is nm's letter; ``module`` "" for vmlinux."""

    name: str
    address: int
    kind: str
    module: str = ""


class Kernel:
    """The kernel whose /proc and /sys lie under ``root``.

    Everything is read when first asked for and kept: one object is one moment of
    one kernel. Nothing here writes.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self._ftrace: dict[FaultPoint, bool] = {}
        self._functions: dict[str, list[Symbol]] = {}

    def path(self, relative: str) -> Path:
        """``relative`` below this kernel's root."""
        return self.root / relative

    def _text(self, relative: str) -> str:
        try:
            return self.path(relative).read_text(errors="replace").strip()
        except OSError:
            return ""

    @cached_property
    def release(self) -> str:
        """As ``uname -r`` says; "" where /proc is not mounted."""
        return self._text("proc/sys/kernel/osrelease")

    @cached_property
    def build_id(self) -> str:
        """The GNU build id of vmlinux in hex, from /sys/kernel/notes; "" if unreadable."""
        try:
            notes = self.path("sys/kernel/notes").read_bytes()
        except OSError:
            return ""
        mark = notes.find(b"GNU\0")  # include/uapi/linux/elf.h: namesz, descsz, type, name, desc
        if mark < 12:
            return ""
        size = int.from_bytes(notes[mark - 8 : mark - 4], "little")
        return notes[mark + 4 : mark + 4 + size].hex()

    # ------------------------------------------------------------ configuration

    @cached_property
    def config(self) -> dict[str, str]:
        """CONFIG_* as the kernel was built, without those that are not set; {} if unknown."""
        for text in self._config_texts():
            found = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE))
            if found:
                return found
        return {}

    def _config_texts(self) -> list[str]:
        texts = []
        packed = self.path("proc/config.gz")
        with contextlib.suppress(OSError, EOFError):
            texts.append(gzip.decompress(packed.read_bytes()).decode(errors="replace"))
        texts.append(self._text(f"boot/config-{self.release}"))
        texts.append(self._text(f"lib/modules/{self.release}/build/.config"))
        return texts

    def has_config(self, wanted: str) -> bool:
        """Whether ``CONFIG_X`` (built in or module) or ``CONFIG_X=value`` holds."""
        name, _, value = wanted.partition("=")
        present = self.config.get(name)
        return present is not None and (not value or present.strip('"') == value.strip('"'))

    # ------------------------------------------------------------ symbols

    @cached_property
    def _kallsyms(self) -> bytes:
        try:
            with self.path("proc/kallsyms").open("rb") as file:
                return file.read(SYMBOL_LIMIT)
        except OSError:
            return b""

    def symbols(self, pattern: str) -> list[Symbol]:
        """Text symbols whose whole name matches the regular expression ``pattern``."""
        line = re.compile(rb"^([0-9a-f]+) ([tTwW]) (" + pattern.encode() + rb")(?:\t\[(\S+)\])?$", re.MULTILINE)
        return [
            Symbol(name.decode(), int(address, 16), kind.decode(), (module or b"").decode())
            for address, kind, name, module in line.findall(self._kallsyms)
        ]

    def symbol(self, name: str) -> list[Symbol]:
        """All text symbols called exactly ``name``; several when static functions share it."""
        found = (self._line(at) for at in self._find(b" %s" % name.encode()))
        return [symbol for symbol in found if symbol is not None and symbol.name == name]

    def addresses(self, name: str) -> list[int]:
        """Of every symbol called exactly ``name``, data included."""
        found = []
        for at in self._find(b" %s" % name.encode()):
            start = self._kallsyms.rfind(b"\n", 0, at) + 1
            words = self._kallsyms[start : self._kallsyms.find(b"\n", at)].decode().split()
            if len(words) >= 3 and words[2] == name:
                found.append(int(words[0], 16))
        return found

    def _find(self, needle: bytes) -> Iterator[int]:
        """Where ``needle`` occurs in kallsyms: a plain search costs a hundredth of a regular expression."""
        at = self._kallsyms.find(needle)
        while at >= 0:
            yield at
            at = self._kallsyms.find(needle, at + 1)

    def _line(self, at: int) -> Optional[Symbol]:
        """The text symbol on the line around offset ``at``, None for data symbols."""
        start = self._kallsyms.rfind(b"\n", 0, at) + 1
        end = self._kallsyms.find(b"\n", at + 1)
        words = self._kallsyms[start : end if end >= 0 else None].decode().split()
        if len(words) < 3 or words[1] not in "tTwW":
            return None
        return Symbol(words[2], int(words[0], 16), words[1], words[3].strip("[]") if len(words) > 3 else "")

    def names_at(self, address: int) -> tuple[str, ...]:
        """Every text symbol at ``address``: folded functions share one."""
        if not address:
            return ()
        found = (self._line(at + 1) for at in self._find(b"%016x " % address))
        return tuple(sorted({symbol.name for symbol in found if symbol is not None}))

    def functions(self, name: str) -> list[Symbol]:
        """Text symbols called ``name``, or matching it if it is a glob, and the compiler's clones of them."""
        if name not in self._functions:
            found = self.symbols(to_regex(name)) if is_glob(name) else self.symbol(name)
            clones = [] if is_glob(name) else self._lines_with(b" %s." % name.encode())
            self._functions[name] = found + clones
        return self._functions[name]

    def clones(self, name: str) -> tuple[str, ...]:
        """What the compiler made of ``name`` and lets callers use in its place: ``.isra.0`` and the like."""
        wanted = re.compile(re.escape(name) + r"\.(?:constprop|isra|part)\b.*")
        found = {symbol.name for symbol in self._lines_with(b" %s." % name.encode())}
        return tuple(sorted(clone for clone in found if wanted.fullmatch(clone) and ".cold" not in clone))

    def inlined_into(self, name: str) -> Optional[tuple[str, ...]]:
        """Functions that the compiler inlined ``name`` into, sorted; None where the kernel's build did not say.

        Only kernels that `inject vm` builds do, in a file beside their modules.
        """
        text = self._inlined
        if not text:
            return None
        start = text.find(b"\n%s\t" % name.encode())
        if start < 0:
            return ()
        end = text.find(b"\n", start + 1)
        callers = text[start : end if end >= 0 else None].decode().split("\t", 1)[1].split()
        return tuple(sorted(set(callers) - {name}))  # a part of its own that was split off and put back

    @cached_property
    def _inlined(self) -> bytes:
        """A line for each inlined function, ``callee<TAB>caller caller ...``, with a newline in front."""
        try:
            with self.path(f"lib/modules/{self.release}/inlined").open("rb") as file:
                return b"\n" + file.read(SYMBOL_LIMIT)
        except OSError:
            return b""

    def lacks_ftrace(self, point: FaultPoint) -> bool:
        """Whether ``point`` surely does not begin with the call that ftrace puts probes on.

        On x86 that is a five-byte no-op, or a call or jump while something is attached, perhaps after an
        ENDBR64 (arch/x86/kernel/ftrace.c). Where memory cannot be read, tracefs' list decides.
        """
        if point not in self._ftrace:
            self._ftrace[point] = self._lacks_ftrace(point)
        return self._ftrace[point]

    def _lacks_ftrace(self, point: FaultPoint) -> bool:
        start = self.memory(point.address, 16) if point.address and self.has_config("CONFIG_X86_64") else b""
        if start:
            body = start[len(ENDBR64) :] if start.startswith(ENDBR64) else start
            return not body.startswith(FTRACE_ENTRIES)
        return bool(self.traceable) and not self.traceable & {point.function, *point.names}

    def _lines_with(self, needle: bytes) -> list[Symbol]:
        found = (self._line(at) for at in self._find(needle))
        return [symbol for symbol in found if symbol is not None]

    def module_symbols(self, module: str) -> list[Symbol]:
        """Text symbols of a loaded ``module``."""
        return self._lines_with(b"\t[%s]" % module.encode())

    @cached_property
    def text_addresses(self) -> list[int]:
        """Where text symbols begin, sorted."""
        return sorted({int(word, 16) for word in re.findall(rb"^([0-9a-f]+) [tTwW] ", self._kallsyms, re.MULTILINE)})

    @cached_property
    def kprobe_blacklist(self) -> frozenset[str]:
        """Functions that refuse probes, from debugfs kprobes/blacklist."""
        return frozenset(re.findall(r"\t(\S+)", self._text(f"{DEBUGFS}/kprobes/blacklist")))

    @cached_property
    def traceable(self) -> frozenset[str]:
        """Functions built with ftrace, from tracefs; empty where that cannot be read."""
        for tracefs in ("sys/kernel/tracing", f"{DEBUGFS}/tracing"):
            lines = self._text(f"{tracefs}/available_filter_functions")
            if lines:
                return frozenset(line.split(None, 1)[0] for line in lines.splitlines())
        return frozenset()

    def event_format(self, event: str) -> str:
        """How tracefs describes ``event`` (``syscalls/sys_enter_openat``); "" where there is no such event."""
        for tracefs in ("sys/kernel/tracing", f"{DEBUGFS}/tracing"):
            text = self._text(f"{tracefs}/events/{event}/format")
            if text:
                return text
        return ""

    def traceable_at(self, pattern: str) -> dict[int, str]:
        """Functions built with ftrace whose whole name matches the regular expression, by address.

        From tracefs' available_filter_functions_addrs (Linux 6.5), else from the
        names alone, leaving out those that several functions share. {} where neither
        can be read.
        """
        line = re.compile(r"^([0-9a-f]+) (" + pattern + r")(?: \[\S+\])?$", re.MULTILINE)
        for tracefs in ("sys/kernel/tracing", f"{DEBUGFS}/tracing"):
            found = line.findall(self._text(f"{tracefs}/available_filter_functions_addrs"))
            if found:
                return {int(address, 16): name for address, name, *_ in found}
        named = [symbol for symbol in self.symbols(pattern) if symbol.name in self.traceable]
        often = Counter(symbol.name for symbol in named)
        return {symbol.address: symbol.name for symbol in named if often[symbol.name] == 1 and symbol.address}

    def realigned(self, addresses: Iterable[int]) -> set[int]:
        """Of the functions at ``addresses``, those that gcc makes align their stack frame.

        They begin with ``lea 0x8(%rsp),%r10; and $-N,%rsp; push -0x8(%r10)``: the frame gets a copy of
        the return address. A return probe (kernel/trace/rethook.c) puts its own address in the place
        of the original, the copy is taken from that, and unwinding by frame pointers ends there,
        because nobody knows it. Empty where memory cannot be read.
        """
        found: set[int] = set()
        for block in _blocks(sorted(addresses)):
            code = self.memory(block[0], block[-1] - block[0] + PROLOGUE)
            starts = ((address, address - block[0]) for address in block)
            found.update(address for address, at in starts if REALIGNING in code[at : at + PROLOGUE])
        return found

    def memory(self, address: int, size: int) -> bytes:
        """``size`` bytes of kernel memory at ``address``, from /proc/kcore; b"" where they cannot be read."""
        try:
            with self.path("proc/kcore").open("rb") as file:
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

    # ------------------------------------------------------------ fault points

    @cached_property
    def fault_points(self) -> tuple[FaultPoint, ...]:
        """The error-injection list by name (lib/error-inject.c, ei_seq_show: name, tab, type).

        Raises CannotRun, with the fix, when the list cannot be read.
        """
        where = self.path(f"{DEBUGFS}/error_injection/list")
        try:
            text = where.read_text()
        except FileNotFoundError:
            raise self._no_list() from None
        except PermissionError:
            raise CannotRun("the list of injectable functions is readable by root only", "run with sudo") from None
        except OSError as error:
            raise CannotRun(f"cannot read {where}: {error.strerror}", MOUNT_DEBUGFS) from None
        points = []
        for line in text.splitlines():
            match = re.fullmatch(r"(\S+)(?: \[(\S+)\])?\t(\w+)", line)
            if match and match[3] in ErrorType.__members__:
                points.append(FaultPoint(match[1], ErrorType[match[3]], match[2] or ""))
        return tuple(sorted(points, key=lambda point: (point.function, point.module)))

    def _no_list(self) -> CannotRun:
        if self.config and not self.has_config("CONFIG_FUNCTION_ERROR_INJECTION"):
            return CannotRun(
                "this kernel was built without CONFIG_FUNCTION_ERROR_INJECTION",
                "build it with CONFIG_FUNCTION_ERROR_INJECTION=y and CONFIG_BPF_KPROBE_OVERRIDE=y, "
                "or use `inject vm run`, whose kernel has both",
            )
        if not self.path(DEBUGFS).is_dir() or not any(self._entries(DEBUGFS)):
            if os.geteuid() and self.path(DEBUGFS).is_dir():
                return CannotRun("debugfs is readable by root only", "run with sudo")
            return CannotRun("debugfs is not mounted", MOUNT_DEBUGFS)
        return CannotRun(
            "this kernel has no list of injectable functions", "it needs CONFIG_FUNCTION_ERROR_INJECTION=y"
        )

    def _entries(self, relative: str) -> list[str]:
        try:
            return [entry.name for entry in self.path(relative).iterdir()]
        except OSError:
            return []

    def fault_point(self, function: str) -> FaultPoint:
        """The injectable function called ``function``, by any of its names.

        Raises CannotRun saying why there is none: unknown, only clones exist,
        ambiguous, not tagged.
        """
        named = [point for point in self.fault_points if point.function == function]
        symbols = self.symbol(function)
        addresses = {symbol.address for symbol in symbols}
        if named and len(addresses) <= 1:
            address = addresses.pop() if addresses else 0
            return self._complete(named[0], function, address)
        if len(addresses) > 1:
            raise CannotRun(
                f"{len(addresses)} functions are called {function}",
                "an ambiguous name cannot be probed: tag a uniquely named function instead",
            )
        if not addresses or addresses == {0}:
            raise CannotRun(f"{function} is not in this kernel", self._suggestion(function))
        address = addresses.pop()
        for name in self.names_at(address):
            for point in self.fault_points:
                if point.function == name:
                    return self._complete(point, function, address)
        raise CannotRun(
            f"{function} is not tagged for error injection",
            f"add ALLOW_ERROR_INJECTION({function}, ERRNO) after its body and rebuild the kernel, "
            "or choose one of `inject list`",
        )

    def _complete(self, point: FaultPoint, function: str, address: int) -> FaultPoint:
        names = self.names_at(address) or (function,)
        return FaultPoint(function, point.error_type, point.module, address, names)

    def _suggestion(self, function: str) -> str:
        """What became of a ``function`` that has no symbol, and what to do about it."""
        clones = self.clones(function)
        if clones:
            return (
                f"the compiler kept only the clone {clones[0]}, which callers use instead: "
                "mark the function noinline __noclone"
            )
        callers = self.inlined_into(function)
        if callers:
            return f"the compiler inlined it into {listed(callers)}: mark it noinline"
        unloaded = self.unloaded_module_with(function)
        if unloaded:
            return unloaded
        known = [point.function for point in self.fault_points]
        close = get_close_matches(function, known, n=3, cutoff=0.7)
        if close:
            return f"did you mean {' or '.join(close)}?"
        if callers is None:
            return "it may be inlined, in a module that is not loaded, or misspelt; see `inject list`"
        return "it may be in a module that is not loaded, or misspelt; see `inject list`"

    def unloaded_module_with(self, function: str) -> str:
        """In words, the module that has ``function`` and has to be loaded first; "" if none is found."""
        folder = self.path(f"lib/modules/{self.release}")
        module = module_with(folder, function, self.loaded_modules())
        if not module:
            return ""
        return f"it is in the module {module}, which is not loaded: {self._load_command(module)}"

    def _load_command(self, module: str) -> str:
        """modprobe goes by an index, which a module that somebody built is often not in."""
        folder = self.path(f"lib/modules/{self.release}")
        path = file_of(folder, module)
        with contextlib.suppress(OSError):
            index = (folder / "modules.dep").read_text(errors="replace")
            if path and f"{path.relative_to(folder)}:" in index:
                return f"modprobe {module}"
        return f"insmod {path}" if path else f"modprobe {module}"

    def absent_module(self, module: str) -> str:
        """Why ``module`` has no functions here, and what to do; for one that is not loaded."""
        if file_of(self.path(f"lib/modules/{self.release}"), module):
            return f"the module is not loaded: {self._load_command(module)}"
        return "no module of that name is loaded or on disk; `inject list` names those of tagged functions"

    # ------------------------------------------------------------ state

    def loaded_modules(self) -> Sequence[str]:
        """Names of the loaded modules."""
        return [line.split()[0] for line in self._text("proc/modules").splitlines()]

    @cached_property
    def lockdown(self) -> str:
        """``none``, ``integrity`` or ``confidentiality``; "" where the LSM is absent."""
        match = re.search(r"\[(\w+)\]", self._text("sys/kernel/security/lockdown"))
        return match[1] if match else ""

    def oopsed(self) -> bool:
        """Whether it has died once (TAINT_DIE, bit 7, include/linux/panic.h) and cannot be trusted with more."""
        taint = self._text("proc/sys/kernel/tainted")
        return taint.isdigit() and bool(int(taint) >> 7 & 1)

    def is_emulated(self) -> bool:
        """Whether the processor is QEMU's own emulation (TCG) and no hardware."""
        return "QEMU TCG" in self._text("proc/cpuinfo")

    def is_guest(self) -> bool:
        """Whether this is a virtual machine: the processor says that a hypervisor is there (CPUID 1, ECX bit 31)."""
        return re.search(r"^flags\s*:.*\bhypervisor\b", self._text("proc/cpuinfo"), re.MULTILINE) is not None


def _blocks(addresses: Sequence[int]) -> list[list[int]]:
    """Sorted ``addresses`` in runs that lie within BLOCK bytes, to be read together."""
    blocks: list[list[int]] = []
    for address in addresses:
        if not blocks or address - blocks[-1][0] > BLOCK:
            blocks.append([])
        blocks[-1].append(address)
    return blocks
