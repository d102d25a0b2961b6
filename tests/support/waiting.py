"""Waiting for what happens in another process, with a bound."""

from __future__ import annotations

import time
from typing import Any, Callable, Optional, TypeVar, Union

LIMIT = 300.0
"""Seconds after which a wait fails the test: far more than any of them takes on a busy machine."""

T = TypeVar("T")


def wait_for(
    condition: Callable[[], Optional[T]],
    what: Union[str, Callable[[], object]],
    *,
    process: Any = None,
    seconds: float = LIMIT,
    pause: float = 0.02,
) -> T:
    """Poll until ``condition()`` is true, and return its value.

    Fail the test after ``seconds``, or as soon as ``process`` has ended without the condition, with
    ``what`` was waited for (a function is called to say how things stand).
    """
    deadline = time.monotonic() + seconds
    while True:
        ended: Optional[int] = process.poll() if process is not None else None
        if found := condition():
            return found
        said = "" if time.monotonic() < deadline and ended is None else what() if callable(what) else what
        assert ended is None, f"the process ended with {ended} before: {said}"
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {said}"
        time.sleep(pause)
