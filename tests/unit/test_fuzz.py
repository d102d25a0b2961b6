"""Damaged scenario files: the reader stands them, and what it would not stand is noticed. `make fuzz` reads more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz import child
from tests.fuzz.child import hunt
from tests.fuzz.damage import MOST, corpus, damaged

FILES = int(os.environ.get("INJECT_FUZZ", "100")) * 10


def test_the_reader_stands_damaged_files() -> None:
    """The same files in every run: what is red today is red tomorrow."""
    assert hunt("suite", corpus(), files=FILES) == (FILES, [])


def test_the_same_seed_makes_the_same_file() -> None:
    originals = corpus()
    assert len(originals) > 200
    seeds = [f"s/{number}" for number in range(50)]
    files = [damaged(seed, originals) for seed in seeds]
    assert files == [damaged(seed, originals) for seed in seeds]
    assert len(set(files)) > 45 and max(map(len, files)) <= MOST


def _fails(_: Path) -> None:
    raise KeyError("no such key")


def _allocates(_: Path) -> None:
    bytes(child.MEMORY * 2)


def _spins(_: Path) -> None:
    while True:
        pass


def _dies(_: Path) -> None:
    os.abort()


@pytest.mark.parametrize(
    ("reads", "said"),
    [(_fails, "no such key"), (_allocates, "MemoryError"), (_spins, "took more than 1 s"), (_dies, "ended with -6")],
)
def test_what_the_reader_does_not_stand_is_noticed(reads: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(path: Path) -> None:
        if path.read_bytes() == b"bad":
            reads(path)  # type: ignore[operator]

    monkeypatch.setattr(child, "EACH", 1.0)
    monkeypatch.setattr(child, "check", check)
    monkeypatch.setattr(child, "damaged", lambda seed, _: b"bad" if seed == "s/2" else b"good")
    read, (wrong,) = hunt("s", [], files=5)
    assert (read, wrong.seed) == (5, "s/2")
    assert said in wrong.what
