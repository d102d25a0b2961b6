"""On the host: `inject vm run`, killed at one system call after the other."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from inject.process.stat import stat_of
from inject.store import cache_root
from inject.vm import template
from tests.kills.choice import changing, name_of
from tests.kills.result import Result
from tests.kills.tracer import Traced
from tests.support import ROOT

MARK = "INJECT_KILLS_MARK"
"""Variable of the environment by which the processes of a run are found."""

PATIENCE = 30.0
"""Seconds in which all must be gone after a kill."""

SCENARIO = """\
name: killed
faults:
  - function: __x64_sys_mkdir
    return: -EIO
run: mkdir x || true
"""


class Place:
    """A cache of its own, which has the real kernel and image, and a directory for temporary files."""

    def __init__(self, root: Path) -> None:
        self.temporary = root / "tmp"
        self.cache = root / "cache"
        self.file = root / "killed.yaml"
        self.temporary.mkdir()
        self.cache.mkdir()
        for kind in ("kernel", "stock", "image", "module"):
            if (cache_root() / kind).is_dir():
                (self.cache / kind).symlink_to(cache_root() / kind)
        self.file.write_text(SCENARIO)

    def run(self, at: int | None = None) -> tuple[Traced, list[str]]:
        """One run, killed at call ``at``, and what of it stayed."""
        mark = f"{MARK}={secrets.token_hex(8)}"
        own = {"TMPDIR": str(self.temporary), "INJECT_CACHE": str(self.cache), MARK: mark.partition("=")[2]}
        argv = [sys.executable, "-m", "inject", "vm", "run", str(self.file)]
        traced = Traced(argv, {**os.environ, **own}, str(ROOT), at)
        return traced, self._stays(mark)

    def _stays(self, mark: str) -> list[str]:
        deadline = time.monotonic() + PATIENCE
        while True:
            found = [f"process {name}" for name in _marked(mark)]
            found += [f"file {file}" for file in self.temporary.iterdir()]
            found += [f"file {file}" for part in ("staging", "locks") for file in (self.cache / part).glob("*")]
            found = [line for line in found if f"/locks/{template.KIND}-" not in line]  # made by the first run
            if not found or time.monotonic() >= deadline:
                return found
            time.sleep(0.05)


def _marked(mark: str) -> Iterator[str]:
    """Processes with ``mark`` in their environment."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes()
            name = (directory / "comm").read_text().strip()
        except OSError:
            continue
        task = stat_of(directory)
        if mark.encode() in environment and task is not None and task.state != "Z":
            yield f"{name}/{directory.name}"


@contextmanager
def place() -> Iterator[Place]:
    """A place, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="inject-kills-") as root:
        yield Place(Path(root))


def kill(choose: Callable[[Sequence[int]], Sequence[int]], seconds: float, say: Callable[[str], None]) -> Result:
    """Kill it at the calls that ``choose`` names, for ``seconds`` at most."""
    deadline = time.monotonic() + seconds
    with place() as here:
        for _ in range(2):  # the first one fills the cache
            traced, left = here.run()
            assert (traced.status, left) == (0, []), f"exit {traced.status} if nobody kills it, {left}"
        result = Result("vm run", len(traced.calls), len(changing(traced.calls)))
        places = list(choose(traced.calls))
        for index, at in enumerate(places):
            if time.monotonic() > deadline:
                result.left = len(places) - index
                break
            traced, left = here.run(at + 1)  # a tracer kills before a call, the killer of the guest after it
            result.steps += traced.status == -signal.SIGKILL or bool(left)
            if left:
                around = " ".join(map(name_of, traced.calls[-6:]))
                result.stayed[at] = f"before {around}: {'; '.join(left)}"
                say(f"{result.kind}: call {at}: {result.stayed[at]}")
        traced, left = here.run()
        assert (traced.status, left) == (0, []), f"after the kills a run ends with {traced.status}, {left}"
    return result
