"""The kernel of a sweep: that of its recording, whose stack traces are those of no other build. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inject.errors import InjectError
from inject.model.event import Event, RunStarted
from inject.model.text import shown
from inject.sweep.journal import Line

KEYS = {
    "release": "its release",
    "config": "its configuration",
    "build_id": "the build id of its vmlinux",
}
"""What the journal says of a kernel, and what that is called."""


def kernel_line(event: RunStarted) -> dict[str, Any]:
    """The journal's line for the kernel of a recording."""
    return {"type": "kernel", "release": event.kernel, "config": event.config_hash, "build_id": event.build_id}


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first of KEYS by which two ``kernel`` lines are of two kernels; "" if none is. What is not known is equal."""
    return next((key for key in KEYS if one.get(key) and other.get(key) and one[key] != other[key]), "")


def refuse_another(lines: Sequence[Line], event: Event) -> None:
    """Raise InjectError if a run that ``event`` begins is on another kernel than the recording in ``lines``."""
    if not isinstance(event, RunStarted):
        return
    recorded = next((line for line in reversed(lines) if line["type"] == "kernel"), {})
    now = kernel_line(event)
    key = difference(recorded, now)
    if key:
        raise InjectError(
            f"the points were recorded on another kernel: {KEYS[key]} was {shown(str(recorded[key]))} "
            f"and is {shown(str(now[key]))}",
            "go on with that kernel, or begin anew in another -o",
        )
