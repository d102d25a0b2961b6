"""What is kept of what guests compiled: of several checkouts side by side, not for ever, only of new guests."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Optional

import pytest

from inject.engine.bytecode import LARGEST, Bytecode, keep
from inject.engine.loader import OVERRIDE
from inject.engine.recorder import RECORD
from inject.errors import InjectError
from inject.vm.carry import checkout, programs
from inject.vm.guest import GuestOptions

ONE = "a" * 32 + ".bpf"


class Holder:
    """Stands for a new guest that compiles the file ``name``, a program unless ``data`` is given."""

    def __init__(self, tree: Path, name: str = ONE, taint: int = 0, data: Optional[bytes] = None) -> None:
        self.options = GuestOptions(modules=None, checkout=tree)
        self.name = name
        self.taint = taint
        self.data = program() if data is None else data
        self.requests = self
        self.is_new = True
        self.compiled = 0
        self.written: dict[str, bytes] = {}

    def exec(self, argv: list[str], *, on_stdout: Optional[Any] = None, **_: Any) -> int:
        if "bytecode_of" in argv[2]:
            self.compiled += 1
            on_stdout(self.name.encode("utf-8", "surrogateescape") + b"\n")
        return 0

    def read_file(self, path: str, limit: int) -> bytes:
        return b"%d\n" % self.taint if path == "/proc/sys/kernel/tainted" else self.data

    def write_file(self, path: str, data: bytes, mode: int) -> None:
        self.written[path] = data


def program(text: bytes = b"") -> bytes:
    """The file of a program."""
    with tempfile.TemporaryDirectory() as directory:
        keep(Path(directory), "x", Bytecode({"p": text}, ("m",)))
        return (Path(directory) / "x.bpf").read_bytes()


def tree(folder: Path, text: str = "a program") -> Path:
    """A checkout with that program text."""
    source = folder / programs.SOURCE
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text)
    return folder


def push(holder: Holder, kept: Path) -> list[str]:
    """The names in ``kept`` after ``holder`` was new, without the state of the text."""
    programs.push(holder, kept)  # type: ignore[arg-type]
    return sorted(file.name.partition("-")[2] for file in kept.iterdir()) if kept.is_dir() else []


def test_the_text_is_where_the_host_looks_for_it() -> None:
    for place in (programs.ENGINE, programs.RECORDER):
        assert (checkout.root() / place.source).is_file()
    assert [place.source.name for place in (programs.ENGINE, programs.RECORDER)] == [
        OVERRIDE.file.name,
        RECORD.file.name,
    ]


def test_the_first_guest_compiles_and_the_next_one_gets_it(tmp_path: Path) -> None:
    kept, one, two = tmp_path / "kept", Holder(tree(tmp_path)), Holder(tree(tmp_path))
    assert push(one, kept) == [ONE]
    assert push(two, kept) == [ONE]
    assert (one.compiled, one.written) == (1, {})
    assert (two.compiled, two.written) == (0, {f"{programs.IN_GUEST}/{ONE}": one.data})


def test_the_program_that_records_is_kept_apart(tmp_path: Path) -> None:
    """A guest that was saved gets it as well; its directory in the guest is its own."""
    kept, one, two = tmp_path / "kept", Holder(tree(tmp_path)), Holder(tree(tmp_path))
    (tmp_path / programs.RECORDER.source).write_text("another text")
    two.is_new = False
    push(one, kept)
    programs.push_recorder(one, kept)  # type: ignore[arg-type]
    programs.push_recorder(two, kept)  # type: ignore[arg-type]
    assert (one.compiled, two.compiled) == (2, 0)
    assert list(two.written) == [f"{programs.RECORDER.directory}/{ONE}"]
    assert len(list(kept.iterdir())) == 2


def test_another_text_is_another_program(tmp_path: Path) -> None:
    """Each checkout gets its own back."""
    kept, first, second = tmp_path / "kept", tree(tmp_path / "1"), tree(tmp_path / "2", "another program")
    push(Holder(first, data=program(b"1")), kept)
    push(Holder(second, data=program(b"2")), kept)
    again = Holder(first)
    push(again, kept)
    assert (again.compiled, list(again.written.values())) == (0, [program(b"1")])


@pytest.mark.parametrize("damage", ["cut", "huge", "folder", "fifo", "link"])
def test_a_damaged_file_is_replaced(tmp_path: Path, damage: str) -> None:
    kept = tmp_path / "kept"
    push(Holder(tree(tmp_path)), kept)
    (file,) = kept.iterdir()
    if damage == "cut":
        file.write_bytes(program()[:-1])
    elif damage == "huge":
        os.truncate(file, LARGEST + 1)
    else:
        file.unlink()
        if damage == "folder":
            file.mkdir()
        elif damage == "fifo":
            os.mkfifo(file)
        else:
            file.symlink_to("/dev/zero")
    again = Holder(tree(tmp_path))
    push(again, kept)
    assert (again.compiled, again.written) == (1, {})
    assert damage == "folder" or file.read_bytes() == program()


@pytest.mark.parametrize(
    "name", ["\udcff", "a" * 32 + ".bpf/../x", "A" * 32 + ".bpf", "\x1b[2J.bpf", "x" * 100_000, f"{ONE} {ONE}", ""]
)
def test_a_name_that_the_engine_never_gives_is_not_asked_for(tmp_path: Path, name: str) -> None:
    assert push(Holder(tree(tmp_path), name), tmp_path / "kept") == []


@pytest.mark.parametrize("bit", [5, 7, 9, 14])
def test_nothing_is_kept_of_a_broken_kernel(tmp_path: Path, bit: int) -> None:
    assert push(Holder(tree(tmp_path), taint=1 << bit), tmp_path / "kept") == []
    assert push(Holder(tree(tmp_path), taint=1 << 12), tmp_path / "kept") == [ONE]


@pytest.mark.parametrize("data", [b"", b"[" * 200_000, b"\xff" * 100, program()[:-1]])
def test_what_is_not_a_program_is_not_kept(tmp_path: Path, data: bytes) -> None:
    assert push(Holder(tree(tmp_path), data=data), tmp_path / "kept") == []


def test_a_guest_that_cannot_compile_says_so_itself_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Holder(tree(tmp_path))

    def refuse(*_: Any, **__: Any) -> int:
        raise InjectError("the command did not end within 300 s")

    monkeypatch.setattr(holder, "exec", refuse)
    assert push(holder, tmp_path / "kept") == []


def test_the_oldest_programs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "KEPT", 2)
    kept = tmp_path / "kept"
    names = [f"{letter * 32}.bpf" for letter in "abc"]
    for number, name in enumerate(names):
        found = push(Holder(tree(tmp_path, f"text {number}"), name), kept)
        for file in kept.glob(f"*-{name}"):
            os.utime(file, (1000 + number, 1000 + number))
    assert found == names[1:]
