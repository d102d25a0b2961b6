"""The tests of tests/guest, which need a kernel that can be injected: a few files at a time in a guest, as root.

The guest stays for the next part, unless one has lost it. `make guest-test` runs them
all in one guest, with everything that they print.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from inject.vm.boot import boot
from inject.vm.build.artifacts import Artifacts
from inject.vm.carry import checkout, programs
from inject.vm.guest import Guest, GuestOptions
from tests.support import ROOT

LIMIT = 3000.0
"""Seconds after which a part counts as hung."""
PARTS = 2
"""Few, since each starts pytest and reads the kernel's types anew; what else needs a guest fills up the time."""
SHOWN = 30_000
"""Characters of what a failed part printed last."""


class Place:
    """A guest that is booted when it is needed, and again after it was lost."""

    def __init__(self, artifacts: Artifacts, cache: Path) -> None:
        self._artifacts = artifacts
        self._cache = cache
        self._kept = programs.directory(cache, artifacts.kernel_key)
        self._open = contextlib.ExitStack()
        self._guest: Optional[Guest] = None

    def run(self, argv: list[str], env: dict[str, str]) -> tuple[int, str]:
        """Exit status and output of a command; raises Lost, and forgets the guest, when it dies."""
        printed = bytearray()
        guest = self._guest or self._boot()
        try:
            status = guest.requests.exec(
                argv, env=env, timeout=LIMIT, on_stdout=printed.extend, on_stderr=printed.extend
            )
        except BaseException:
            self._guest = None
            self._open.close()
            raise
        return status, printed.decode(errors="replace")

    def _boot(self) -> Guest:
        self._guest = self._open.enter_context(boot(self._artifacts, GuestOptions(), cache=self._cache))
        programs.push(self._guest, self._kept)
        return self._guest

    def close(self) -> None:
        """Keep what the guest compiled for the next one, and end it."""
        if self._guest is not None:
            programs.pull(self._guest, self._kept)
        self._open.close()


@pytest.fixture(scope="session")
def place(artifacts: Artifacts, cache_root: Path) -> Iterator[Place]:
    """Where the files run: one guest for all that this process is given."""
    made = Place(artifacts, cache_root)
    yield made
    made.close()


def dealt() -> list[list[str]]:
    """The names of the test files in PARTS parts of about the same size in bytes."""
    parts: list[list[Path]] = [[] for _ in range(PARTS)]
    size = {path: path.stat().st_size for path in (ROOT / "tests/guest").glob("test_*.py")}
    for path in sorted(size, key=lambda path: (-size[path], path)):
        min(parts, key=lambda part: sum(size[own] for own in part)).append(path)
    return [sorted(path.name for path in part) for part in parts]


@pytest.mark.parametrize("files", dealt(), ids=[f"{number + 1}-of-{PARTS}" for number in range(PARTS)])
def test_in_guest(place: Place, files: list[str], request: pytest.FixtureRequest) -> None:
    """pytest's own word: all passed, none skipped. What is left out here (-m) is left out there."""
    home = checkout.HOME
    command = ["python3", "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={home}", "-c", f"{home}/setup.cfg"]
    env = {"PYTHONPATH": home, "INJECT_NO_SKIP": "1", "INJECT_SAMPLE": os.environ.get("INJECT_SAMPLE", "")}
    chosen = request.config.getoption("markexpr")
    status, printed = place.run(
        [*command, "-m", chosen, "--durations=10", *(f"{home}/tests/guest/{file}" for file in files)], env
    )
    assert status == 0, printed[-SHOWN:]
    print(printed)
