"""Tracefiles of lcov (geninfo(1)): which lines ran, in which file; read, written, merged and counted.

An error line (error_lines.py) is also a branch in them, BRDA, so that genhtml and gcovr show how many
of them were reached, and that nothing but the tracefile is needed to count them. Its block
is 0 if the error is one of the filesystem's own codes, else 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inject.errors import ExitStatus, InjectError
from inject.model.text import printable
from inject.store import read_file

LARGEST = 256 << 20
"""Bytes of a tracefile that are read; that of fs/bcachefs has some 700 kB."""

_PRIVATE, _COMMON = 0, 1


class BadTracefile(InjectError):
    """A file is no tracefile."""

    status = ExitStatus.USAGE
    placed = True


@dataclass
class FileCounts:
    """How often the lines and functions of one source file ran; ``errors`` has private or not by error line."""

    lines: dict[int, int] = field(default_factory=dict)
    functions: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First line and calls, by name."""
    errors: dict[int, bool] = field(default_factory=dict)

    def add(self, other: FileCounts) -> None:
        """Add the counts of another run."""
        for line, count in other.lines.items():
            self.lines[line] = self.lines.get(line, 0) + count
        for name, (line, count) in other.functions.items():
            self.functions[name] = line, self.functions.get(name, (line, 0))[1] + count
        self.errors.update(other.errors)


Trace = dict[str, FileCounts]
"""By the path of the source file."""


@dataclass(frozen=True)
class ErrorTally:
    """How many error lines there are, and how many of them ran; ``own``: of those with a private code."""

    reached: int = 0
    lines: int = 0
    own_reached: int = 0
    own: int = 0

    def __str__(self) -> str:
        own = f" (with a code of the filesystem's own: {self.own_reached} of {self.own})" if self.own else ""
        return f"{self.reached} of {self.lines}{own}"


def merge(traces: Iterable[Mapping[str, FileCounts]]) -> Trace:
    """The sum of several traces; these are left as they are."""
    total: Trace = {}
    for trace in traces:
        for path, counts in trace.items():
            total.setdefault(path, FileCounts()).add(counts)
    return total


def tally(files: Iterable[FileCounts]) -> ErrorTally:
    """Count the error lines of ``files``, as ``tally(merge(traces).values())``."""
    reached = lines = own_reached = own = 0
    for counts in files:
        for line, private in counts.errors.items():
            ran = counts.lines.get(line, 0) > 0
            lines, reached = lines + 1, reached + ran
            own, own_reached = own + private, own_reached + (ran and private)
    return ErrorTally(reached, lines, own_reached, own)


def reached(trace: Mapping[str, FileCounts]) -> dict[tuple[str, int], bool]:
    """Each error line, by file and number, and whether it ran."""
    return {
        (path, line): counts.lines.get(line, 0) > 0 for path, counts in trace.items() for line in sorted(counts.errors)
    }


# ---------------------------------------------------------------- write


def text_of(trace: Mapping[str, FileCounts], test: str = "inject") -> str:
    """The tracefile; ``test`` names the run, in letters, digits and ``_``."""
    return "".join(f"{line}\n" for path in sorted(trace) for line in _section(path, trace[path], test))


def _section(path: str, counts: FileCounts, test: str) -> Iterator[str]:
    yield from (f"TN:{test}", f"SF:{path}")
    functions = sorted(counts.functions.items(), key=lambda pair: (pair[1][0], pair[0]))
    yield from (f"FN:{line},{name}" for name, (line, _) in functions)
    yield from (f"FNDA:{count},{name}" for name, (_, count) in functions)
    yield from (f"FNF:{len(functions)}", f"FNH:{sum(count > 0 for _, (_, count) in functions)}")
    for line, private in sorted(counts.errors.items()):
        yield f"BRDA:{line},{_PRIVATE if private else _COMMON},0,{counts.lines.get(line, 0)}"
    found = tally([counts])
    yield from (f"BRF:{found.lines}", f"BRH:{found.reached}")
    yield from (f"DA:{line},{count}" for line, count in sorted(counts.lines.items()))
    yield from (f"LF:{len(counts.lines)}", f"LH:{sum(count > 0 for count in counts.lines.values())}", "end_of_record")


# ---------------------------------------------------------------- read


def read(path: Path) -> Trace:
    """The trace in a file; raises BadTracefile with the place of what is wrong."""
    try:
        data = read_file(path, LARGEST)
    except OSError as error:
        raise BadTracefile(f"{path}: cannot be read: {error.strerror}") from None
    return parse(data.decode(errors="replace"), str(path))


def parse(text: str, name: str) -> Trace:
    """The trace in ``text``; lines of other kinds than inject writes are left out."""
    trace: Trace = {}
    counts = None
    number = 0
    for number, line in enumerate(text.splitlines(), 1):
        key, _, value = line.partition(":")
        if key == "SF":
            counts = trace.setdefault(value, FileCounts())
        elif line == "end_of_record":
            counts = None
        elif key in ("FN", "FNDA", "BRDA", "DA"):
            try:
                if counts is None:
                    raise ValueError
                _take(counts, key, value)
            except ValueError:
                raise BadTracefile(
                    f"{name}:{number}: `{printable(line[:60])}` does not belong there", "give a file of --coverage"
                ) from None
    if not trace or counts is not None:
        what = "ends in the middle" if trace else "is no tracefile of lcov"
        raise BadTracefile(f"{name}:{max(number, 1)}: {what}", "give a whole file of --coverage")
    return trace


def _take(counts: FileCounts, key: str, value: str) -> None:
    """Add one line of a tracefile; raises ValueError if it is none."""
    if key == "DA":
        line, count = value.split(",")[:2]
        counts.lines[int(line)] = counts.lines.get(int(line), 0) + int(count)
    elif key == "FN":
        # lcov 2 has the last line of the function in between.
        first, *_, name = value.split(",")
        counts.functions[name] = int(first), counts.functions.get(name, (0, 0))[1]
    elif key == "FNDA":
        calls, name = value.split(",", 1)
        at, before = counts.functions.get(name, (0, 0))
        counts.functions[name] = at, before + int(calls)
    else:
        line, block = value.split(",")[:2]
        counts.errors[int(line)] = int(block) == _PRIVATE
