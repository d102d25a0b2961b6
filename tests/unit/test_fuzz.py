"""Damaged data: inject's readers stand them, and what one would not stand is noticed. `make fuzz` reads more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz import child
from tests.fuzz.child import hunt
from tests.fuzz.damage import MOST, damaged
from tests.fuzz.target import TARGETS, Target, scenarios

FILES = int(os.environ.get("INJECT_FUZZ", "100"))


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_stands_damaged_data(name: str) -> None:
    """The same data in every run: what is red today is red tomorrow."""
    files = FILES * (10 if name == "scenario" else 1)
    assert hunt(TARGETS[name], "suite", files=files) == (files, [])


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_reads_what_is_whole(name: str, tmp_path: Path) -> None:
    originals = TARGETS[name].originals()
    assert originals
    for data in originals[:: max(1, len(originals) // 20)]:
        TARGETS[name].check(data, tmp_path)


def test_the_same_seed_makes_the_same_file() -> None:
    originals = scenarios()
    assert len(originals) > 200
    seeds = [f"s/{number}" for number in range(50)]
    files = [damaged(seed, originals) for seed in seeds]
    assert files == [damaged(seed, originals) for seed in seeds]
    assert len(set(files)) > 45 and max(map(len, files)) <= MOST


def _fails() -> None:
    raise KeyError("no such key")


def _allocates() -> None:
    bytes(child.MEMORY * 2)


def _spins() -> None:
    while True:
        pass


def _dies() -> None:
    os.abort()


@pytest.mark.parametrize(
    ("reads", "said"),
    [(_fails, "no such key"), (_allocates, "MemoryError"), (_spins, "took more than 1 s"), (_dies, "ended with -6")],
)
def test_what_the_reader_does_not_stand_is_noticed(reads: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(data: bytes, _: Path) -> None:
        if data == b"bad":
            reads()  # type: ignore[operator]

    monkeypatch.setattr(child, "EACH", 1.0)
    monkeypatch.setattr(child, "damaged", lambda seed, _: b"bad" if seed == "s/2" else b"good")
    read, (wrong,) = hunt(Target("x", list, check), "s", files=5)
    assert (read, wrong.target, wrong.seed) == (5, "x", "s/2")
    assert said in wrong.what
