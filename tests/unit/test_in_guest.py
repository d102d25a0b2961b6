"""`inject vm fail` and `inject vm watch`: which files go with the command, and which come back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inject.cli.in_guest import LARGEST, named_files, written_files
from inject.errors import CannotRun, InjectError
from inject.vm import luggage as module
from inject.vm.luggage import NOTHING, Luggage


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        (["./test.sh", "a", "./test.sh"], ("./test.sh",)),
        (["sh", "sub/more", "-c", "", "test.sh"], ("sub/more", "test.sh")),
        (["/etc/passwd", "sub", "absent", "large"], ()),
    ],
)
def test_relative_files_of_the_command_line_go_with_it(tmp_path: Path, words: list[str], taken: tuple[str]) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("test.sh", "sub/more", "large"):
        (tmp_path / name).write_bytes(b"x" * (LARGEST + 1 if name == "large" else 1))
    assert named_files(words, tmp_path) == taken


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["f", "--save", "a.yaml", "--json=b.jsonl"], ("a.yaml", "b.jsonl")),
        (["f", "--json", "-", "--return", "-EIO"], ()),
        (["f", "--save"], ()),
    ],
)
def test_files_that_options_name_come_back(words: Sequence[str], written: tuple[str, ...]) -> None:
    assert written_files(words) == written


class FakeGuest:
    """Files of a guest, and what it was asked to do."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.did: list[Any] = []
        self.requests = self

    def exec(self, argv: Sequence[str], timeout: float) -> int:
        self.did.append(list(argv))
        return 0

    def read_file(self, path: str, limit: int) -> bytes:
        if path not in self.files:
            raise InjectError("no such regular file")
        return self.files[path]


class FakeHost:
    def __init__(self, guest: FakeGuest, _kept: Path) -> None:
        self._guest = guest

    def carry(self, files: Sequence[str], cwd: Path) -> None:
        self._guest.did.append(("carry", tuple(files), cwd))


def test_luggage_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GuestHost", FakeHost)
    monkeypatch.setattr(module.programs, "directory", lambda *_: tmp_path)
    monkeypatch.setattr(module.programs, "push", lambda guest, _kept: guest.did.append("push"))
    guest: Any = FakeGuest({str(tmp_path / "a.yaml"): b"faults: ..."})
    one = Luggage(tmp_path, ("t.sh",), ("a.yaml", "b.jsonl"))
    assert one.pack(guest, None, tmp_path) == str(tmp_path)  # type: ignore[arg-type]
    assert guest.did == [("carry", ("t.sh",), tmp_path), *[["mkdir", "-p", str(tmp_path)]] * 2]
    one.unpack(guest)
    assert (tmp_path / "a.yaml").read_bytes() == b"faults: ..." and not (tmp_path / "b.jsonl").exists()
    guest.files[str(tmp_path / "none/c")] = b""
    with pytest.raises(CannotRun, match="cannot write none/c: No such file or directory"):
        Luggage(tmp_path, (), ("none/c",)).unpack(guest)


def test_a_command_without_luggage_runs_where_the_guest_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.programs, "directory", lambda *_: tmp_path)
    monkeypatch.setattr(module.tables, "directory", lambda *_: tmp_path)
    for name in ("programs", "tables"):
        did = lambda guest, _kept, name=name: guest.did.append(name)  # noqa: E731
        monkeypatch.setattr(getattr(module, name), "push", did)
    monkeypatch.setattr(module.tables, "fetch", lambda guest, kept: guest.did.append(kept))
    guest: Any = FakeGuest({})
    assert NOTHING.pack(guest, None, tmp_path) is None  # type: ignore[arg-type]
    assert guest.did == ["programs", "tables"]
    NOTHING.unpack(guest)
    Luggage(table=tmp_path).unpack(guest)
    assert guest.did == ["programs", "tables", tmp_path]
