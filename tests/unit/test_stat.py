"""/proc/PID/stat, whatever a task calls itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inject.process.stat import TaskStat, stat_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7 (sh) S 3 7 7 0 -1 4194560 1 2", TaskStat("S", 3, 4194560)),
        ("7 (a) b) D 2 0 0 0 -1 2097216 0", TaskStat("D", 2, 2097216)),
        ("7 (cut", None),
        ("7 (sh) S 3", None),
        ("", None),
    ],
)
def test_fields(tmp_path: Path, text: str, expected: TaskStat | None) -> None:
    (tmp_path / "stat").write_text(text)
    assert stat_of(tmp_path) == expected


def test_kernel_threads_are_told_apart() -> None:
    assert TaskStat("D", 2, 0x00200040).kernel_thread
    own = stat_of(Path("/proc/self"))
    assert own is not None and own.parent == os.getppid() and not own.kernel_thread


def test_a_task_that_has_ended(tmp_path: Path) -> None:
    assert stat_of(tmp_path / "gone") is None
