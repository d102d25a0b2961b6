"""Two builds side by side: most of each is waiting for a mirror, a disk, or one CPU."""

from __future__ import annotations

import threading
from typing import Callable, Optional, TypeVar

from inject.vm.build.cache import Progress

A = TypeVar("A")
B = TypeVar("B")

Cancelled = Callable[[], bool]
"""True once a build should end, because it is of no more use."""


def never() -> bool:
    """A build that nothing ends early."""
    return False


def together(
    first: Callable[[Progress], A], second: Callable[[Progress, Cancelled], B], progress: Progress
) -> tuple[A, B]:
    """Run ``first`` in this thread and ``second`` in another one; both results.

    An exception in ``first``, KeyboardInterrupt too, has ``second`` end, which is waited for; one in
    ``second`` is raised when ``first`` has ended. ``progress`` is called by one of them at a time.
    """
    lock, over = threading.Lock(), threading.Event()
    result: list[B] = []
    failure: Optional[BaseException] = None

    def say(line: str) -> None:
        with lock:
            progress(line)

    def work() -> None:
        nonlocal failure
        try:
            result.append(second(say, over.is_set))
        except BaseException as error:
            failure = error

    other = threading.Thread(target=work, name="inject-build", daemon=True)
    other.start()
    try:
        own = first(say)
    except BaseException:
        over.set()
        raise
    finally:
        other.join()
    if failure is not None:
        raise failure
    return own, result[0]
