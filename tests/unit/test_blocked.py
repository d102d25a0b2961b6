"""Stacks of blocked tasks: at most LIMIT, and a count of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.process.blocked import LIMIT, kernel_threads, tasks_of

KERNEL, USER = 0x00200040, 0x00400000


def thread(directory: Path, state: str = "D", flags: int = USER) -> None:
    directory.mkdir(parents=True)
    (directory / "stat").write_text(f"{directory.name} (dd) {state} 2 0 0 0 -1 {flags} 0")
    (directory / "comm").write_text("dd\n")
    (directory / "stack").write_text("[<0>] folio_wait_bit+0x1/0x2\n")


@pytest.mark.parametrize("more", [0, 1, 36])
def test_threads_beyond_the_limit_are_counted(tmp_path: Path, more: int) -> None:
    for number in range(100, 100 + LIMIT + more):
        thread(tmp_path / "7" / "task" / str(number))
    (tmp_path / "7" / "task" / "999").mkdir()  # it has ended
    tasks = tasks_of([7], tmp_path)
    assert len(tasks) == LIMIT
    assert [task.left_out for task in tasks] == [0] * (LIMIT - 1) + [more]
    lines = [line for task in tasks for line in task.lines()]
    assert lines[:2] == ["dd/100 state D", "    folio_wait_bit+0x1"]
    assert [line for line in lines if "more" in line] == (
        [f"[... {more} more task{'s' * (more > 1)} ...]"] if more else []
    )


def test_only_kernel_threads_that_wait(tmp_path: Path) -> None:
    for number in range(100, 100 + LIMIT + 3):
        thread(tmp_path / str(number), flags=KERNEL)
    thread(tmp_path / "900", state="S", flags=KERNEL)
    thread(tmp_path / "901")
    tasks = kernel_threads(tmp_path)
    assert (len(tasks), tasks[-1].left_out) == (LIMIT, 3)
