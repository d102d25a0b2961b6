"""What scenarios took before: learnt from verdicts, harmless when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.fleet import durations
from inject.model.verdict import Reason, Status, Verdict


def test_learnt_and_known(tmp_path: Path) -> None:
    path = durations.file(tmp_path, "key")
    assert durations.known(path) == {}
    took = [Verdict("a", Status.PASS, seconds=1.234), Verdict("b", Status.FAIL, Reason.HANG, seconds=60.0)]
    durations.learn(path, [*took, Verdict("c", Status.ERROR, seconds=5.0), Verdict("d", Status.SKIP, seconds=5.0)])
    assert durations.known(path) == {"a": 1.23, "b": 60.0}
    durations.learn(path, [Verdict("a", Status.PASS, seconds=3.0)])
    assert durations.known(path) == {"a": 3.0, "b": 60.0}


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "MOST", 2)
    path = durations.file(tmp_path, "key")
    for name in "abac":
        durations.learn(path, [Verdict(name, Status.PASS, seconds=1.0)])
    assert sorted(durations.known(path)) == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("", {}),
        ("[]", {}),
        ("{", {}),
        ('{"a": "x", "b": -1, "c": NaN, "d": 2, "e": 1e300}', {"d": 2.0}),
        ("[" * 100_000, {}),
        ('{"a": %s}' % ("9" * 99), {}),
        ('{"a": true, "b": 1}', {"b": 1.0}),
        ("\0", {}),
    ],
)
def test_damage_is_no_trouble(tmp_path: Path, text: str, known: dict[str, float]) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert durations.known(path) == known


def test_a_cache_that_cannot_be_written_is_no_trouble(powerless: Path) -> None:
    folder = powerless / "closed"
    folder.mkdir(mode=0o500)
    durations.learn(durations.file(folder, "key"), [Verdict("a", Status.PASS, seconds=1.0)])
    assert durations.known(durations.file(folder, "key")) == {}
