"""The tables of callers that guests make: the next guest gets them, if they are what they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from inject.kernel.calls import Checks
from inject.vm.carry import checkout, tables
from inject.vm.guest import GuestOptions

NAME = "ab" * 20 + ".json"
TABLE = json.dumps({"4096": list(range(8)), "16": [0] * 8}).encode()


class Holder:
    """Stands for a guest whose `inject list` left files in IN_GUEST, all with the content ``data``."""

    def __init__(self, tree: Path, data: bytes = TABLE, names: str = NAME, taint: int = 0) -> None:
        self.options = GuestOptions(modules=None, checkout=tree)
        self.requests = self
        self._data, self._names, self._taint = data, names, taint
        self.written: dict[str, bytes] = {}

    def exec(self, argv: list[str], *, timeout: float, on_stdout: Callable[[bytes], None]) -> int:
        on_stdout(self._names.encode())
        return 0 if self._names else 2

    def read_file(self, path: str, limit: int) -> bytes:
        return b"%d\n" % self._taint if path == "/proc/sys/kernel/tainted" else self._data

    def write_file(self, path: str, data: bytes, mode: int) -> None:
        self.written[path] = data


def tree(folder: Path, text: str = "") -> Path:
    for name in tables.SOURCES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def fetched(kept: Path, **rest: Any) -> list[str]:
    tables.fetch(Holder(tree(kept.parent / "tree"), **rest), kept)  # type: ignore[arg-type]
    return sorted(file.name.partition("-")[2] for file in kept.iterdir()) if kept.is_dir() else []


def test_the_sources_are_there_and_a_row_has_the_numbers_of_checks() -> None:
    assert all((checkout.root() / name).is_file() for name in tables.SOURCES)
    assert len(Checks().numbers) == tables.NUMBERS


def test_the_next_guest_gets_what_one_made(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert fetched(kept) == [NAME]
    second = Holder(tree(tmp_path / "tree"))
    tables.push(second, kept)  # type: ignore[arg-type]
    assert second.written == {f"{tables.IN_GUEST}/{NAME}": TABLE}
    other = Holder(tree(tmp_path / "other", "another decoder"))
    tables.push(other, kept)  # type: ignore[arg-type]
    assert other.written == {}


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"1": [0]}', b'{"x": [0, 0, 0, 0, 0, 0, 0, 0]}', b'{"1": [0, 0, 0, 0, 0, 0, 0, -1]}'],
)
def test_what_is_no_table_is_not_kept(tmp_path: Path, data: bytes) -> None:
    assert fetched(tmp_path / "kept", data=data) == []
    kept = tmp_path / "kept"
    assert fetched(kept) == [NAME]
    next(kept.iterdir()).write_bytes(data)
    second = Holder(tree(tmp_path / "tree"))
    tables.push(second, kept)  # type: ignore[arg-type]
    assert second.written == {}


@pytest.mark.parametrize("rest", [{"names": ""}, {"names": f"{NAME} x"}, {"names": "../x.json"}, {"taint": 1 << 7}])
def test_a_guest_that_is_not_to_be_trusted(tmp_path: Path, rest: dict[str, Any]) -> None:
    assert fetched(tmp_path / "kept", **rest) == []


def test_the_oldest_go(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for number in range(tables.KEPT + 3):
        tables.fetch(Holder(tree(tmp_path / "tree", str(number))), kept)  # type: ignore[arg-type]
    assert len(list(kept.iterdir())) == tables.KEPT
