"""What is fuzzed: readers of inject, each with what it reads when all is well."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from inject.scenario import load_all
from tests.fuzz import cached, ports
from tests.fuzz.damage import MOST
from tests.support import DATA, ROOT

CORPUS = DATA / "fuzz"
"""One directory for each target: what a guest, QEMU or inject wrote."""

_LINE = re.compile(r"[^\n]+:\d+:\d+: [^\n]+")


@dataclass(frozen=True)
class Target:
    """A reader.

    ``check`` gives it data, with a directory for files; it raises, whatever the exception, for
    what inject must stand and does not. ``originals`` are data that are damaged.
    """

    name: str
    originals: Callable[[], Sequence[bytes]]
    check: Callable[[bytes, Path], None]


def _read(paths: Iterator[Path]) -> list[bytes]:
    return [data for data in (path.read_bytes() for path in sorted(paths)) if len(data) <= MOST]


def _recorded(name: str) -> Callable[[], Sequence[bytes]]:
    return lambda: _read(path for path in (CORPUS / name).iterdir())


def scenarios() -> Sequence[bytes]:
    """Every scenario file of the checkout, the good and the bad, in a fixed order."""
    return _read(path for folder in (DATA, ROOT / "scenarios") for path in folder.rglob("*.yaml"))


def check_scenario(data: bytes, folder: Path) -> None:
    """The answer is scenarios, or printable lines with a place."""
    path = folder / "f.yaml"
    path.write_bytes(data)
    found, errors = load_all([path])
    assert found or errors, "neither scenarios nor errors"
    for error in errors:
        assert _LINE.fullmatch(str(error)) and str(error).isprintable(), f"not one printable line: {error!r}"
    assert all(one.faults and one.run for one in found)


TARGETS = {
    target.name: target
    for target in (
        Target("scenario", scenarios, check_scenario),
        Target("agent", _recorded("agent"), ports.check_agent),
        Target("results", _recorded("results"), ports.check_results),
        Target("console", _recorded("console"), ports.check_console),
        Target("monitor", _recorded("monitor"), ports.check_monitor),
        Target("gdb", _recorded("gdb"), ports.check_gdb),
        Target("cache", _recorded("cache"), cached.check_cache),
        Target("modules", _recorded("modules"), cached.check_modules),
    )
}
"""By name."""
