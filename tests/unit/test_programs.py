"""What is kept of what guests compiled: of several checkouts side by side, and not for ever."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

import pytest

from inject.vm.carry import programs
from inject.vm.guest import GuestOptions


class Holder:
    """Stands for a guest whose folder of programs holds ``names``."""

    options = GuestOptions(modules=None)

    def __init__(self, *names: str) -> None:
        self.names = names
        self.requests = self
        self.written: list[str] = []

    def exec(self, _argv: list[str], *, on_stdout: Optional[Any] = None, **_: Any) -> int:
        if on_stdout is not None:
            on_stdout("\n".join(self.names).encode())
        return 0

    def read_file(self, path: str, limit: int) -> bytes:
        return path.encode()

    def write_file(self, path: str, data: bytes, mode: int) -> None:
        self.written.append(Path(path).name)


def pull(holder: Holder, kept: Path) -> list[str]:
    programs.pull(holder, kept)  # type: ignore[arg-type]
    return sorted(file.name for file in kept.iterdir())


def test_a_program_of_another_checkout_stays(tmp_path: Path) -> None:
    kept = tmp_path / "guest"
    assert pull(Holder("one.bpf", "../evil.bpf", "notes.txt"), kept) == ["one.bpf"]
    assert pull(Holder("two.bpf"), kept) == ["one.bpf", "two.bpf"]
    holder = Holder()
    programs.push(holder, kept)  # type: ignore[arg-type]
    assert holder.written == ["one.bpf", "two.bpf"]


def test_the_oldest_programs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "KEPT", 2)
    for number, name in enumerate(("a.bpf", "b.bpf", "c.bpf")):
        found = pull(Holder(name), tmp_path)
        os.utime(tmp_path / name, (1000 + number, 1000 + number))
    assert found == ["b.bpf", "c.bpf"]
