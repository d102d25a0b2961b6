"""Which accelerators are tried, and what is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.errors import CannotRun
from inject.vm import accel


@pytest.fixture()
def memory(tmp_path: Path) -> Path:
    return accel.memory_file(tmp_path, "kernel-key")


def offer(monkeypatch: pytest.MonkeyPatch, device: Path) -> None:
    monkeypatch.setattr(accel, "DEVICE", device)


def test_auto_tries_kvm_until_it_is_known_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, memory: Path) -> None:
    offer(monkeypatch, tmp_path)
    assert accel.candidates("auto", memory) == ["kvm", "tcg"]
    accel.remember_bad(memory, "no sign of life")
    assert accel.candidates("auto", memory) == ["tcg"]
    assert accel.candidates("kvm", memory) == ["kvm"]
    assert accel.candidates("tcg", memory) == ["tcg"]


def test_without_kvm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, memory: Path) -> None:
    offer(monkeypatch, tmp_path / "absent")
    assert accel.candidates("auto", memory) == ["tcg"]
    with pytest.raises(CannotRun, match="does not exist; use --accel auto"):
        accel.candidates("kvm", memory)


def test_unknown_name(memory: Path) -> None:
    with pytest.raises(CannotRun, match="'warp'"):
        accel.candidates("warp", memory)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"kvm": null}', '{"kvm": true}', "\0\xff"])
def test_a_damaged_memory_is_no_answer(memory: Path, text: str) -> None:
    memory.parent.mkdir()
    memory.write_text(text)
    assert not accel.known_bad(memory)


def test_another_kernel_is_another_question(tmp_path: Path) -> None:
    accel.remember_bad(accel.memory_file(tmp_path, "one"), "")
    assert accel.known_bad(accel.memory_file(tmp_path, "one"))
    assert not accel.known_bad(accel.memory_file(tmp_path, "two"))


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    accel.remember_bad(accel.memory_file(blocked, "key"), "")
    assert not accel.known_bad(accel.memory_file(blocked, "key"))
