"""Bytecode from the cache or the compiler, and what is put into a program that is loaded."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from inject.engine import abi
from inject.engine import loader as loaders
from inject.engine.bytecode import INSTRUCTION, Bytecode
from inject.engine.loaded import MOST, LoadedPrograms
from inject.engine.loader import PROGRAMS, SOURCE, Constants, Loader, bytecode_of
from inject.engine.rule import Cast, PerCpu
from inject.engine.syscall import ProgramRefused
from inject.errors import CannotRun
from tests.support.instructions import constants, load_64

CODE = Bytecode(
    {
        name: load_64(abi.SLOT_MARK) + load_64(abi.USES_MARK) + load_64(abi.TRACE_MARK) + load_64(0, 1)
        for name in PROGRAMS
    },
    tuple(abi.TABLES),
)


class Compiler:
    """bcc, as far as bytecode_of() asks it."""

    version = "0.31.0"

    def __init__(self) -> None:
        self.compiled = 0

    def compile(self, source: str, programs: Any, tables: Any, release: str) -> Bytecode:
        """The same for any source."""
        assert source == SOURCE.read_text() and set(programs) == set(PROGRAMS) and set(tables) == set(abi.TABLES)
        self.compiled += 1
        return CODE


def kernel(build_id: str = "deadbeef") -> Any:
    return SimpleNamespace(build_id=build_id, release="6.12")


def test_the_second_time_nothing_is_compiled(tmp_path: Path) -> None:
    bcc: Any = Compiler()
    assert bytecode_of(bcc, kernel(), tmp_path) == (CODE, True)
    assert bytecode_of(bcc, kernel(), tmp_path) == (CODE, False)
    assert bytecode_of(bcc, kernel("other"), tmp_path) == (CODE, True)
    assert bcc.compiled == 2


def test_a_kernel_without_a_name_is_not_kept(tmp_path: Path) -> None:
    bcc: Any = Compiler()
    for _ in range(2):
        assert bytecode_of(bcc, kernel(""), tmp_path) == (CODE, True)
        assert bytecode_of(bcc, kernel(), None) == (CODE, True)
    assert list(tmp_path.iterdir()) == []


def test_bytecode_of_another_program_is_not_used(tmp_path: Path) -> None:
    bcc: Any = Compiler()
    bcc.compile = lambda *_: Bytecode({"on_kprobe": b""}, tuple(abi.TABLES))
    assert bytecode_of(bcc, kernel(), tmp_path)[1]
    assert bytecode_of(Compiler(), kernel(), tmp_path) == (CODE, True)  # type: ignore[arg-type]


class Maps:
    """Descriptors, as they go into a program."""

    descriptors = {name: 100 + number for number, name in enumerate((*abi.TABLES, "marks"))}

    def addresses(self, slot: int) -> dict[int, tuple[int, int]]:
        """No program of this test has any."""
        return {}


def loader(answer: int, noise: str = "", number: int = 0) -> tuple[Loader, list[Any]]:
    """With a libbcc that answers so, and what it was asked."""
    asked: list[Any] = []

    def bcc_prog_load(*arguments: Any) -> int:
        asked.append(arguments)
        os.write(2, noise.encode())
        ctypes.set_errno(number)
        return os.open(os.devnull, os.O_RDONLY) if answer >= 0 else answer

    bcc: Any = SimpleNamespace(lib=SimpleNamespace(bcc_prog_load=bcc_prog_load))
    maps: Any = Maps()
    return Loader(bcc, maps, CODE), asked


def test_constants_are_put_in() -> None:
    made, _ = loader(3)
    found = constants(made.bound("on_kprobe", Constants(9, 0x30001, traced=True)))
    assert found == [9, 0x30001, 1, 100]
    unknown = abi.USES_EVERYTHING & ~abi.USES_CONTEXT
    assert constants(made.bound("on_kprobe", Constants())) == [0, unknown, 0, 100]
    known = Constants(context=PerCpu(77, 8))
    assert constants(made.bound("on_kprobe", known)) == [0, abi.USES_EVERYTHING, 0, 100]


@pytest.mark.parametrize(
    ("options", "trampoline", "used"),
    [
        ({"CONFIG_UNWINDER_FRAME_POINTER", "CONFIG_X86_64"}, 0x10, abi.USES_FRAMES),
        ({"CONFIG_UNWINDER_ORC", "CONFIG_X86_64"}, 0x10, 0),
        ({"CONFIG_UNWINDER_FRAME_POINTER", "CONFIG_ARM64"}, 0x10, 0),
        ({"CONFIG_UNWINDER_FRAME_POINTER", "CONFIG_X86_64"}, 0, 0),
        ({"CONFIG_UNWINDER_FRAME_POINTER", "CONFIG_X86_64"}, None, 0),
    ],
)
def test_frame_pointers_are_followed_where_the_kernel_does(
    options: set[str], trampoline: Optional[int], used: int
) -> None:
    """And if return probes can be told from return addresses, which a kernel may hide."""
    symbols = SimpleNamespace(first={"arch_rethook_trampoline": trampoline}.get)
    kernel: Any = SimpleNamespace(symbols=symbols, config=SimpleNamespace(has=options.__contains__))
    maps: Any = Maps()
    bcc: Any = SimpleNamespace(lib=None)
    made = Loader(bcc, maps, CODE, kernel)
    assert constants(made.bound("on_kprobe", Constants(9, 0x30001)))[1] == 0x30001 | used


@pytest.mark.parametrize(("jit", "able"), [("1", True), ("2", True), ("0", False), ("", False)])
def test_the_stack_is_read_without_a_helper_where_the_kernel_compiles_programs(
    tmp_path: Path, jit: str, able: bool
) -> None:
    setting = tmp_path / "proc/sys/net/core/bpf_jit_enable"
    setting.parent.mkdir(parents=True)
    setting.write_text(jit)
    words = call(8)
    code = Bytecode({"on_kprobe": load_64(abi.USES_MARK) + load_64(abi.WORDS_MARK) + words + call(58)}, CODE.maps)
    symbols = SimpleNamespace(first=lambda _: None)
    kernel: Any = SimpleNamespace(symbols=symbols, config=SimpleNamespace(has=lambda _: False), root=tmp_path)
    maps: Any = Maps()
    bcc: Any = SimpleNamespace(lib=None)
    made = Loader(bcc, maps, code, kernel)
    for cast in (Cast(4711, 815), None):
        bound = made.bound("on_kprobe", Constants(9, 0x30001, cast=cast))
        used = able and cast is not None
        assert constants(bound) == ([0x30001 | abi.USES_CAST, 815] if used else [0x30001, 0])
        assert bound[-16:] == (call(4711, 2) if used else words) + call(58)


def call(number: int, of: int = 0) -> bytes:
    """A call of a helper, or with 2 of a kfunc."""
    return INSTRUCTION.pack(0x85, of << 4, 0, number)


def test_a_program_is_loaded_by_its_type_and_name() -> None:
    made, asked = loader(3)
    for _ in range(2):  # the second time both are in the kernel already
        os.close(made.load("on_kprobe", Constants()))
        os.close(made.load("on_trampoline", Constants(), "kmod_ret__open_ctree"))
    assert [(arguments[0], arguments[1]) for arguments in asked] == [(2, b"on_kprobe"), (26, b"kmod_ret__open_ctree")]
    os.close(made.load("on_kprobe", Constants(slot=1)))
    assert len(asked) == 3
    made.close()


def test_few_programs_are_kept() -> None:
    kept, made = LoadedPrograms(), []

    def load() -> int:
        made.append(os.open(os.devnull, os.O_RDONLY))
        return made[-1]

    for key in (*range(MOST), 0, MOST, 0, 1):
        os.close(kept.get(key, load))
    assert len(made) == MOST + 2, "1 had to go for MOST, 0 was used since"
    kept.close()
    for descriptor in made:
        with pytest.raises(OSError):
            os.fstat(descriptor)


def test_a_function_is_found_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libbcc, which would look for its name."""
    numbers: list[int] = []
    answers: list[Any] = [os.open(os.devnull, os.O_RDONLY), ProgramRefused(OSError(errno.EINVAL, "no"), "R2 invalid")]

    def load_program(*arguments: Any, **more: Any) -> int:
        assert (arguments[0], arguments[2], more["attach_type"]) == (26, "on_trampoline", 26)
        numbers.append(more["btf_id"])
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return int(answer)

    monkeypatch.setattr(loaders, "load_program", load_program)
    made, asked = loader(3)
    os.close(made.load("on_trampoline", Constants(), "kmod_ret__open_ctree", 4711))
    with pytest.raises(CannotRun, match=r"refuses the BPF program \(no\): R2 invalid"):
        made.load("on_trampoline", Constants(), "kmod_ret__open_ctree", 4712)
    assert (numbers, asked) == ([4711, 4712], [])
    made.close()


def test_a_refused_program_says_the_kernels_last_word() -> None:
    made, _ = loader(-1, "0: R1=ctx\nR2 invalid mem access\nprocessed 7 insns\n", errno.EACCES)
    with pytest.raises(
        CannotRun, match=r"refuses the BPF program \(Permission denied\): R2 invalid mem access; `inject d"
    ):
        made.load("on_kprobe", Constants())
