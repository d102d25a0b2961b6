"""Reads of a mounted filesystem in several ways."""

from __future__ import annotations

from pathlib import Path

from inject.oracles.viewer import views


def test_a_root_that_cannot_be_looked_at_is_left_out(tmp_path: Path) -> None:
    """xfs after a shutdown: that is no difference, and no reader that failed."""
    rows = list(views(str(tmp_path / "absent"), 10, 10, blocks=False))
    assert rows == [("end", "nothing was looked at: No such file or directory", "")]
