"""Other CPUs are kept busy for as long as they must be, and not a moment longer."""

from __future__ import annotations

import os
import threading

import pytest

from inject.engine.quiesce import others_still


def spinning() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("still-")]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU alone has no others")
def test_one_thread_for_every_other_cpu() -> None:
    before = os.sched_getaffinity(0)
    with others_still(True):
        assert len(spinning()) == min(len(before) - 1, 64)
        assert len(os.sched_getaffinity(0)) == 1
    assert not spinning()
    assert os.sched_getaffinity(0) == before


def test_an_error_ends_it_too() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), others_still(True):
        raise ZeroDivisionError
    assert not spinning() and os.sched_getaffinity(0) == before


def test_real_processors_need_none() -> None:
    with others_still(False):
        assert not spinning()
