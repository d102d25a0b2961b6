"""Removal in a fork: what stays is said, and what the kernel blocks costs the time that it may take and no more."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from inject.process import janitor
from inject.process.tool import Hung
from inject.process.undo import undo


def test_what_goes_and_what_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(janitor.UNDO, "loop", lambda path: f"loop device of {path} stays: 'busy'")
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "below" / "file").write_text("x")
    assert undo([("dir", str(tmp_path / "tree")), ("loop", "/x")]) == ["", "loop device of /x stays: 'busy'"]
    assert not (tmp_path / "tree").exists()
    assert undo([]) == []


def test_an_error_is_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setitem(janitor.UNDO, "loop", refused)
    assert undo([("loop", "/x")]) == ["loop /x stays: Input/output error"]


def test_a_removal_that_never_ends_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocked(path: str) -> str:
        if path == "/second":
            time.sleep(1000)
        return ""

    monkeypatch.setitem(janitor.UNDO, "dir", blocked)
    with pytest.raises(Hung, match="`rm -r /second` did not end in time and was killed") as caught:
        undo([("dir", "/first"), ("dir", "/second"), ("dir", "/third")], timeout=0.5)
    assert caught.value.blocked


def test_the_janitor_goes_on_after_a_removal_that_never_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    monkeypatch.setitem(janitor.UNDO, "loop", lambda path: str(time.sleep(5)))
    monkeypatch.setattr(janitor, "_LIMIT", 0.2)
    assert janitor.sweep([("dir", str(tmp_path / "tree")), ("loop", "/x")]) == [
        "loop /x stays: its removal hangs in the kernel"
    ]
    assert not (tmp_path / "tree").exists()
