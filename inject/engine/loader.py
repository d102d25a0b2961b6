"""The program's bytecode, from the cache or the compiler, bound to maps and constants and loaded into the kernel."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple, Optional

from inject.engine import abi, bytecode, kprobe_multi
from inject.engine.bcc import Bcc, captured_stderr
from inject.engine.loaded import LoadedPrograms
from inject.engine.maps import Maps
from inject.engine.module_btf import btf_of
from inject.engine.rule import Cast, PerCpu
from inject.engine.syscall import ProgramRefused, load_program
from inject.errors import CannotRun
from inject.kernel.files import text_of
from inject.kernel.kernel import Kernel

SOURCE = Path(__file__).with_name("override.bpf.c")
KPROBE, RAW_TRACEPOINT, RAW_TRACEPOINT_WRITABLE, TRACING = 2, 17, 24, 26
"""enum bpf_prog_type, include/uapi/linux/bpf.h"""
MODIFY_RETURN = 26
"""BPF_MODIFY_RETURN of enum bpf_attach_type"""
RETURN_PROBES = ("arch_rethook_trampoline", "__kretprobe_trampoline", "return_to_handler")
"""What the kernel puts in place of a return address: arch/x86/kernel/{rethook.c,kprobes/core.c,ftrace_64.S}, v6.12."""
PROGRAMS: Mapping[str, int] = {
    "on_kprobe": KPROBE,
    "on_probe": RAW_TRACEPOINT_WRITABLE,
    "on_trampoline": TRACING,
    "on_enter": KPROBE,
    "on_sys_exit": RAW_TRACEPOINT,
    "on_return": KPROBE,
    "on_leave": RAW_TRACEPOINT,
}
"""The functions of SOURCE that are programs, and their types."""


class ProgramText(NamedTuple):
    """A C text, the programs in it and the maps that these name."""

    file: Path
    programs: Mapping[str, int]
    tables: Mapping[str, abi.Table]


OVERRIDE = ProgramText(SOURCE, PROGRAMS, abi.TABLES)
"""What fails calls."""


class Constants(NamedTuple):
    """Numbers put into a program when it is loaded."""

    slot: int = 0
    """The rule that it serves."""
    uses: int = abi.USES_EVERYTHING
    """What that rule uses (encode.uses())."""
    traced: bool = False
    """True if errors are traced on their way up."""
    context: Optional[PerCpu] = None
    """Where preempt_count is; None: unknown."""
    cast: Optional[Cast] = None
    """How it reads the stack without a helper; None: it cannot."""
    inside: int = 0
    """The group of functions that its path must have, or whose entry the program sees (abi.USES_INSIDE) ..."""
    forbidden: int = 0
    """... and that of functions which it must not have (abi.USES_FORBIDDEN)."""
    probe: int = 0
    """Number of the module's probe that it answers for."""


def bytecode_of(
    bcc: Bcc, kernel: Kernel, cache: Optional[Path], source: ProgramText = OVERRIDE
) -> tuple[bytecode.Bytecode, bool]:
    """The compiled ``source``, and True if it was not in ``cache``. Raises CannotRun if it cannot be compiled."""
    text = source.file.read_text()
    key = bytecode.cache_key(text, bcc.version, kernel.build_id, kernel.release)
    if cache is not None and kernel.build_id:
        kept = bytecode.load(cache, key)
        if kept is not None and set(kept.programs) == set(source.programs) and set(kept.maps) == set(source.tables):
            return kept, False
    fresh = bcc.compile(text, source.programs, source.tables, kernel.release)
    if cache is not None and kernel.build_id:
        bytecode.keep(cache, key, fresh)
    return fresh, True


class Loader:
    """Loads programs of one bytecode that share one set of maps."""

    def __init__(self, bcc: Bcc, maps: Maps, code: bytecode.Bytecode, kernel: Optional[Kernel] = None) -> None:
        self._kernel = kernel
        self._lib = bcc.lib
        self._maps = maps
        self._code = code
        self._loaded = LoadedPrograms()

    def close(self) -> None:
        """Let go of the programs that are kept for the next attaching."""
        self._loaded.close()

    @cached_property
    def _returns(self) -> tuple[int, ...]:
        """Addresses that the kernel's return probes put in place of a return address."""
        if self._kernel is None:
            return ()
        found = (self._kernel.symbols.first(name) for name in RETURN_PROBES)
        return tuple(address for address in found if address)

    @cached_property
    def _frames(self) -> int:
        """USES_FRAMES if a stack can be followed by frame pointers, and return probes on the way be seen."""
        config = self._kernel.config if self._kernel is not None else None
        able = config is not None and config.has("CONFIG_UNWINDER_FRAME_POINTER") and config.has("CONFIG_X86_64")
        return abi.USES_FRAMES if able and self._returns else 0

    @cached_property
    def _compiles(self) -> bool:
        """True if the kernel compiles programs: it interprets none that calls a kfunc (kernel/bpf/core.c, 6.12)."""
        root = self._kernel.root if self._kernel is not None else None
        return root is not None and text_of(root / "proc/sys/net/core/bpf_jit_enable") in ("1", "2")

    def bound(self, program: str, constants: Constants) -> bytes:
        """Instructions of ``program``, ready to be loaded."""
        context = constants.context
        cast = constants.cast if constants.cast and self._compiles else None
        numbers = {
            abi.SLOT_MARK: constants.slot,
            abi.PROBE_MARK: constants.probe,
            abi.TRACE_MARK: int(constants.traced),
            abi.USES_MARK: self._uses(constants, cast),
            abi.WORDS_MARK: cast.words if cast else 0,
            abi.CONTEXT_OFFSET_MARK: context.offset if context else 0,
            **dict(zip_longest(abi.RETURN_MARKS, self._returns, fillvalue=0)),
        }
        variables = {abi.CONTEXT_MARK: context.variable} if context else {}
        addresses = self._maps.addresses(constants.slot)
        marks = self._maps.descriptors["marks"]
        for mark, group in ((abi.INSIDE_MARK, constants.inside), (abi.FORBIDDEN_MARK, constants.forbidden)):
            addresses[mark] = (marks, group * abi.MARKS * abi.COUNTER.size)
        code = self._code.bind(program, self._maps.descriptors, numbers, addresses, variables)
        return bytecode.with_cast(code, cast.kfunc) if cast else code

    def _uses(self, constants: Constants, cast: Optional[Cast]) -> int:
        """What the program may do in this kernel, of what its rule uses."""
        uses = constants.uses if constants.context else constants.uses & ~abi.USES_CONTEXT
        return uses | self._frames | (abi.USES_CAST if cast else 0)

    def load(self, program: str, constants: Constants, name: str = "", btf_id: int = 0) -> int:
        """A descriptor of ``program``, loaded as ``name``. Raises CannotRun if the kernel refuses it.

        libbcc reads all of vmlinux's BTF to find the function in ``name``; ``btf_id``, its number there, saves that.
        """
        code = self.bound(program, constants)
        return self._loaded.get((program, code, name, btf_id), lambda: self._load(program, code, name, btf_id))

    def _load(self, program: str, code: bytes, name: str, btf_id: int) -> int:
        if btf_id:
            try:
                return load_program(PROGRAMS[program], code, program, attach_type=MODIFY_RETURN, btf_id=btf_id)
            except ProgramRefused as error:
                raise _refused(error.strerror or "no reason given", error.said) from None
        buffer = ctypes.create_string_buffer(code, len(code))
        with captured_stderr() as noise:
            descriptor = self._lib.bcc_prog_load(
                PROGRAMS[program], (name or program).encode(), buffer, len(code), b"GPL", 0, 0, None, 0
            )
            number = ctypes.get_errno()
            said = [line for line in noise().splitlines() if line.strip() and not line.startswith("processed ")]
        if descriptor < 0:
            raise _refused(os.strerror(number) if number else "no reason given", said[-1] if said else "")
        return int(descriptor)

    def load_with_kfunc(self, program: str, constants: Constants, module: str, number: int) -> int:
        """As load(), with kfunc ``number`` of ``module`` in place of the helper bpf_override_return()."""
        code = bytecode.with_kfunc(self.bound(program, constants), number, 1)
        return self._loaded.get((program, code, module), lambda: self._load_with_btf(program, code, module))

    def load_entries(self, constants: Constants) -> int:
        """A descriptor of on_enter(), to be attached to many functions. Raises OSError if the kernel refuses it."""
        code = self.bound("on_enter", constants)
        return self._loaded.get(("on_enter", code), lambda: kprobe_multi.load_entries(code, "on_enter"))

    def _load_with_btf(self, program: str, code: bytes, module: str) -> int:
        btf = btf_of(module)
        try:
            return load_program(PROGRAMS[program], code, program, btfs=(0, btf))
        except ProgramRefused as error:
            raise _refused(error.strerror or "no reason given", error.said) from None
        finally:
            os.close(btf)


def _refused(reason: str, said: str) -> CannotRun:
    return CannotRun(
        f"the kernel refuses the BPF program ({reason})" + (f": {said}" if said else ""),
        "`inject doctor` lists what it needs",
    )
