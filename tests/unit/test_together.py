"""Two builds side by side: results, failures, and that neither outlives the other's end."""

from __future__ import annotations

import threading

import pytest

from inject.errors import InjectError
from inject.vm.build.cache import Progress
from inject.vm.build.together import Cancelled, together
from tests.support.waiting import wait_for

PATIENCE = 30.0


def test_both_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=PATIENCE)

    def meet(_: object, *__: object) -> int:
        return meeting.wait()

    assert sorted(together(meet, meet, lambda _: None)) == [0, 1]


def test_the_second_is_ended_when_the_first_fails_and_is_waited_for() -> None:
    ended: list[str] = []

    def first(_: Progress) -> None:
        raise KeyboardInterrupt

    def second(_: Progress, cancelled: Cancelled) -> None:
        wait_for(cancelled, "the other build to fail")
        ended.append("tidied up")

    with pytest.raises(KeyboardInterrupt):
        together(first, second, lambda _: None)
    assert ended == ["tidied up"]


def test_a_failure_of_the_second_is_raised_after_the_first_has_ended() -> None:
    failed = threading.Event()
    done: list[str] = []

    def first(_: Progress) -> None:
        assert failed.wait(PATIENCE)
        done.append("first")

    def second(_: Progress, __: Cancelled) -> None:
        failed.set()
        raise InjectError("no mirror")

    with pytest.raises(InjectError, match="no mirror"):
        together(first, second, lambda _: None)
    assert done == ["first"]


def test_progress_is_of_one_at_a_time() -> None:
    inside = threading.Lock()
    lines: list[str] = []

    def progress(line: str) -> None:
        assert inside.acquire(blocking=False), "two at once"
        lines.append(line)
        inside.release()

    def speak(say: Progress, *_: object) -> None:
        for number in range(300):
            say(str(number))

    together(speak, speak, progress)
    assert len(lines) == 600
