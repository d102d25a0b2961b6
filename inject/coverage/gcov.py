"""The counters of kernels that were built with gcov: collected from guests, summed, and read by the compiler's gcov.

A kernel's entry in the cache keeps gcov of the compiler that built it, the compiler's notes (.gcno) and
the sources (kernel-config/coverage.sh). Only gcov reads counters: they are in a format of their compiler's own.
"""

from __future__ import annotations

import contextlib
import io
import posixpath
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from inject.coverage.error_lines import error_lines
from inject.coverage.tracefile import FileCounts, Trace, merge
from inject.errors import InjectError
from inject.model.text import printable
from inject.store import loads, temporary_place

PACKED = 64 << 20
"""Bytes that one guest may send, compressed; fs/bcachefs has some 100 kB."""

LARGEST = 8 << 20
"""Bytes of one file of counters."""

LIMIT = 300.0
"""Seconds for one run of gcov or gcov-tool; measured 3 and 0.1."""

COUNTERS = ".gcda"
NOTES = ".gcno"

_REFUSED = re.compile(r"mismatch|version|corrupt|overflow|not a gcov|cannot open", re.IGNORECASE)
"""What gcov says of counters that do not belong to the notes; its exit code is 0 then."""


class Kit:
    """What a kernel keeps for its counters, unpacked in ``place``."""

    def __init__(self, archive: Path, place: Path) -> None:
        self.place = place
        with tarfile.open(archive) as packed:
            if hasattr(tarfile, "data_filter"):  # a security fix of all Python versions
                packed.extraction_filter = tarfile.data_filter
            packed.extractall(place)
        self.units = frozenset(
            str(path.relative_to(place).with_suffix("")) for path in sorted(place.glob(f"fs/**/*{NOTES}"))
        )
        if not self.units:
            raise InjectError(f"{archive} has no notes of gcov", "remove that kernel from the cache and build it again")

    def sources(self) -> Iterator[tuple[str, str]]:
        """Path and text of each source file."""
        for path in sorted(self.place.glob("fs/**/*.[ch]")):
            yield str(path.relative_to(self.place)), path.read_text(encoding="utf-8", errors="replace")

    def run(self, tool: str, words: Sequence[str]) -> str:
        """Run ``gcov`` or ``gcov-tool`` in ``place``; raises InjectError if it fails or refuses a file."""
        home = self.place / "gcov"
        command = [str(home / "ld-linux-x86-64.so.2"), "--library-path", str(home), str(home / tool), *words]
        try:
            done = subprocess.run(
                command,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LIMIT,
                env={"LC_ALL": "C.UTF-8"},
            )
        except subprocess.TimeoutExpired:
            raise InjectError(f"{tool} took longer than {LIMIT:g} s") from None
        said = done.stderr.strip()
        if done.returncode != 0 or _REFUSED.search(said):
            last = printable(said.rpartition("\n")[2]) or f"it ended with {done.returncode}"
            raise InjectError(f"{tool} does not read the counters: {last}")
        return done.stdout


class Coverage:
    """Counters of all guests of a batch. Guests may come from several threads.

    ``guests`` gave theirs; ``lost`` says for each of the others why it gave none.
    """

    def __init__(self, kit: Kit) -> None:
        self.guests = 0
        self.lost: list[str] = []
        self._kit = kit
        self._lock = threading.Lock()
        self._sum = kit.place / "sum"
        self._sum.mkdir()

    def add(self, archive: bytes) -> None:
        """Add the counters of one guest, a tar of /sys/kernel/debug/gcov; raises InjectError for what is none."""
        with self._lock, tempfile.TemporaryDirectory(dir=self._kit.place) as directory:
            new, total = Path(directory) / "new", Path(directory) / "total"
            if not self._unpack(archive, new):
                raise InjectError("the guest's kernel has no counters")
            if not self.guests:
                self._kit.run("gcov-tool", ["merge", "-o", str(total), str(new), str(new), "-w", "1,0"])
            else:
                self._kit.run("gcov-tool", ["merge", "-o", str(total), str(self._sum), str(new)])
            shutil.rmtree(self._sum)
            total.replace(self._sum)
            self.guests += 1

    def lose(self, why: str) -> None:
        """Note a guest that gave no counters."""
        with self._lock:
            self.lost.append(why)

    def _unpack(self, archive: bytes, place: Path) -> int:
        """Write the counters that belong to the kit's notes into ``place``; their number."""
        found = 0
        try:
            with tarfile.open(fileobj=io.BytesIO(archive), mode="r|gz") as packed:
                for member in packed:
                    unit = self._unit(member.name)
                    if unit is None or not member.isreg():
                        continue
                    if member.size > LARGEST or found >= len(self._kit.units):
                        raise InjectError(
                            f"the guest's counters are more than the kernel has: {printable(member.name)}"
                        )
                    file = packed.extractfile(member)
                    target = place / f"{unit}{COUNTERS}"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(file.read() if file is not None else b"")
                    found += 1
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise InjectError(f"the guest's counters cannot be read: {error}") from None
        return found

    def _unit(self, name: str) -> Optional[str]:
        """The compiled file that counters belong to, fs/bcachefs/acl for ./build/fs/bcachefs/acl.gcda; None if none."""
        stem, suffix = posixpath.splitext(posixpath.normpath(name))
        _, mark, rest = f"/{stem}".partition("/fs/")
        unit = f"fs/{rest}"
        known = mark and suffix == COUNTERS and unit in self._kit.units
        return unit if known and ".." not in name.split("/") else None

    def trace(self) -> Trace:
        """How often each line of the sources ran, in all guests. Raises InjectError if gcov fails."""
        with self._lock:
            files = sorted(self._sum.glob(f"fs/**/*{COUNTERS}")) if self.guests else []
            for file in files:
                unit = file.relative_to(self._sum).with_suffix(NOTES)
                (file.with_suffix(NOTES)).symlink_to(self._kit.place / unit)
            names = [str(file.relative_to(self._kit.place)) for file in files]
            said = self._kit.run("gcov", ["--json-format", "--stdout", *names]) if names else ""
            for file in files:
                file.with_suffix(NOTES).unlink()
        sources = dict(self._kit.sources())
        trace = merge(_traces(said, sources))
        for path, counts in trace.items():
            counts.errors = {
                line.number: line.private for line in error_lines(sources[path]) if line.number in counts.lines
            }
        return trace


def _traces(said: str, sources: Mapping[str, str]) -> Iterator[Trace]:
    """The trace of each compiled file, from what ``gcov --json-format`` prints: a line of JSON for each."""
    for line in said.splitlines():
        if line.strip():
            try:
                yield trace_of(loads(line), sources)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InjectError(f"gcov printed what inject does not understand: {error!r}") from None


def trace_of(document: Mapping[str, Any], sources: Mapping[str, str]) -> Trace:
    """The trace in gcov's JSON of one compiled file (gcov(1), format 2), of the files that are among ``sources``."""
    trace: Trace = {}
    for file in document["files"]:
        path = posixpath.normpath(file["file"])
        if path not in sources:
            continue
        counts = trace.setdefault(path, FileCounts())
        found = FileCounts(functions={f["name"]: (f["start_line"], f["execution_count"]) for f in file["functions"]})
        for line in file["lines"]:
            number = line["line_number"]
            found.lines[number] = max(found.lines.get(number, 0), line["count"])
        counts.add(found)
    return trace


@contextlib.contextmanager
def coverage_of(archive: Path) -> Iterator[Coverage]:
    """The counters of guests whose kernel keeps ``archive``; none of them stays when the context is left."""
    with tempfile.TemporaryDirectory(prefix="inject-", dir=temporary_place()) as directory:
        yield Coverage(Kit(archive, Path(directory)))
