"""A point is its function and all frames of its stack trace; its id is the same everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inject.model.reached import Point, named

POINT = Point("bch2_write", "bcachefs", ("vfs_write+0x45", "ksys_write+0x6d"), 3, 2)


def test_the_id_is_the_same_on_every_machine_and_in_every_version() -> None:
    """Journals and command lines keep it."""
    assert POINT.id == "28817e4b6baeb370"
    assert replace(POINT, module="").id == "58b80d5719ebabc0"


def test_how_often_it_was_reached_does_not_change_the_point() -> None:
    again = replace(POINT, hits=9, first=1)
    assert (again.id, again.where) == (POINT.id, POINT.where)


@pytest.mark.parametrize(
    "change",
    [
        {"function": "bch2_read"},
        {"module": ""},
        {"stack": POINT.stack[:1]},
        {"stack": (*POINT.stack, "do_syscall_64+0x87")},
        {"stack": ("vfs_write+0x46", "ksys_write+0x6d")},
        {"stack": POINT.stack[::-1]},
        {"stack": ()},
    ],
)
def test_any_other_frame_is_another_point(change: dict[str, object]) -> None:
    other = replace(POINT, **change)  # type: ignore[arg-type]
    assert other.id != POINT.id
    assert other.where != POINT.where


def test_a_name_is_as_the_kernel_prints_it() -> None:
    assert (named("f", "xfs"), named("f", "")) == ("f [xfs]", "f")
