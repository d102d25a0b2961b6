"""Durations of scenarios on earlier hosts of a kernel: an estimate, so a damaged or unwritable file is ignored."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from inject.model.verdict import Status, Verdict
from inject.store import read_json, write_file

MOST = 10_000
"""Scenarios that are remembered for one kernel."""

LONGEST = 1e9
"""Seconds that no scenario takes."""


def file(cache: Path, kernel_key: str) -> Path:
    """The file that keeps the durations for one kernel."""
    return cache / "seconds" / f"{kernel_key}.json"


def known(path: Path) -> dict[str, float]:
    """Seconds by a scenario's name; {} for a missing or damaged file."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: float(s) for name, s in found.items() if type(s) in (int, float) and 0 <= s < LONGEST}


def learn(path: Path, verdicts: Iterable[Verdict]) -> None:
    """Remember how long each scenario took that came to its end."""
    seconds = known(path)
    for verdict in verdicts:
        if verdict.status in (Status.PASS, Status.FAIL) and verdict.seconds:
            seconds.pop(verdict.scenario, None)
            seconds[verdict.scenario] = round(verdict.seconds, 2)
    newest = dict(list(seconds.items())[-MOST:])
    with contextlib.suppress(OSError):
        write_file(path, json.dumps(newest, indent=0), parents=True)
