"""What is kept of what guests compiled: of several checkouts side by side, and not for ever."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Optional

import pytest

from inject.engine.bytecode import Bytecode, keep
from inject.vm.carry import programs
from inject.vm.guest import GuestOptions

ONE, TWO, THREE = (f"{letter * 32}.bpf" for letter in "abc")


class Holder:
    """Stands for a guest whose folder of programs holds ``names``, each a program unless ``data`` is given."""

    options = GuestOptions(modules=None)

    def __init__(self, *names: str, taint: int = 0, data: Optional[bytes] = None) -> None:
        self.names = names
        self.taint = taint
        self.data = program() if data is None else data
        self.requests = self
        self.written: list[str] = []

    def exec(self, _argv: list[str], *, on_stdout: Optional[Any] = None, **_: Any) -> int:
        if on_stdout is not None:
            on_stdout("\n".join(self.names).encode("utf-8", "surrogateescape"))
        return 0

    def read_file(self, path: str, limit: int) -> bytes:
        return b"%d\n" % self.taint if path == "/proc/sys/kernel/tainted" else self.data

    def write_file(self, path: str, data: bytes, mode: int) -> None:
        self.written.append(Path(path).name)


def program() -> bytes:
    """The file of a program without instructions."""
    with tempfile.TemporaryDirectory() as directory:
        keep(Path(directory), "x", Bytecode({"p": b""}, ("m",)))
        return (Path(directory) / "x.bpf").read_bytes()


def pull(holder: Holder, kept: Path) -> list[str]:
    programs.pull(holder, kept)  # type: ignore[arg-type]
    return sorted(file.name for file in kept.iterdir()) if kept.is_dir() else []


def test_a_program_of_another_checkout_stays(tmp_path: Path) -> None:
    kept = tmp_path / "guest"
    assert pull(Holder(ONE, "../evil.bpf", "notes.txt", "one.bpf"), kept) == [ONE]
    assert pull(Holder(TWO), kept) == [ONE, TWO]
    holder = Holder()
    programs.push(holder, kept)  # type: ignore[arg-type]
    assert holder.written == [ONE, TWO]


@pytest.mark.parametrize("name", ["\udcff", "a" * 32 + ".bpf/../x", "A" * 32 + ".bpf", "\x1b[2J.bpf", "x" * 100_000])
def test_a_name_that_the_engine_never_gives_is_not_asked_for(tmp_path: Path, name: str) -> None:
    assert pull(Holder(name), tmp_path / "kept") == []


@pytest.mark.parametrize("bit", [5, 7, 9, 14])
def test_nothing_is_kept_of_a_broken_kernel(tmp_path: Path, bit: int) -> None:
    assert pull(Holder(ONE, taint=1 << bit), tmp_path / "kept") == []
    assert pull(Holder(ONE, taint=1 << 12), tmp_path / "kept") == [ONE]


@pytest.mark.parametrize("data", [b"", b"[" * 200_000, b"\xff" * 100, program()[:-1]])
def test_what_is_not_a_program_is_not_kept(tmp_path: Path, data: bytes) -> None:
    assert pull(Holder(ONE, data=data), tmp_path / "kept") == []


def test_the_oldest_programs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "KEPT", 2)
    for number, name in enumerate((ONE, TWO, THREE)):
        found = pull(Holder(name), tmp_path)
        os.utime(tmp_path / name, (1000 + number, 1000 + number))
    assert found == [TWO, THREE]
