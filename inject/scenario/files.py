"""Scenario files: found by path, and read as text."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from inject.errors import Place, ScenarioError
from inject.model.text import printable, size_text
from inject.scenario.problems import ScenarioErrors, place_at, wrong
from inject.scenario.tree import nul_byte

SUFFIXES = (".yaml", ".yml")
SHARED = "lib"
"""A directory of this name holds what scenarios share, not scenarios."""

MAX_BYTES = 1 << 20
MAX_FILES = 10_000
"""Most entries of the directories of one call."""

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a block device"),
)


@dataclass(frozen=True)
class Source:
    """A scenario file, and the default name of a single scenario in it."""

    path: Path
    name: str


def find_files(paths: Sequence[Union[str, Path]], root: Optional[Path] = None) -> list[Source]:
    """The scenario files at ``paths``, each once: files as given, directories searched.

    Raises ScenarioErrors naming every path that cannot be used.
    """
    sources, errors = search(paths, root)
    if errors:
        raise ScenarioErrors(errors)
    return sources


def search(paths: Sequence[Union[str, Path]], root: Optional[Path] = None) -> tuple[list[Source], list[ScenarioError]]:
    """As :func:`find_files`, but returns the errors beside what was found."""
    sources: dict[Path, Source] = {}
    errors: list[ScenarioError] = []
    for given in paths:
        path = Path(given)
        try:
            found = _in_directory(path, errors) if _is_directory(path) else [path]
        except ScenarioError as error:
            errors.append(error)
            continue
        for file in found:
            base = root if root is not None else (path if file is not path else None)
            sources.setdefault(_absolute(file), Source(file, default_name(file, base)))
    return list(sources.values()), errors


def default_name(file: Path, base: Optional[Path]) -> str:
    """The name of a file's only scenario: its path without suffix, from the nearest directory ``scenarios``.

    Without one, its path from ``base`` if the file is below it; otherwise the bare file name.
    """
    absolute = _absolute(file)
    above = [index for index, part in enumerate(absolute.parts[:-1]) if part == "scenarios"]
    if above:
        return "/".join(absolute.with_suffix("").parts[above[-1] + 1 :])
    if base is not None:
        try:
            return absolute.relative_to(_absolute(base)).with_suffix("").as_posix()
        except ValueError:
            pass
    return absolute.stem


def shared_directory(file: Path) -> Optional[Path]:
    """The directory ``lib`` in the nearest directory ``scenarios`` above ``file``; None if there is none."""
    for directory in _absolute(file).parents:
        if directory.name == "scenarios":
            shared = directory / SHARED
            return shared if shared.is_dir() else None
    return None


def _absolute(path: Path) -> Path:
    """The path from /, without `..`; links are kept, because the name is that of the link."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _in_directory(directory: Path, errors: list[ScenarioError]) -> list[Path]:
    before = len(errors)
    found = list(_walk(directory, set(), errors, [MAX_FILES]))
    if not found and len(errors) == before:
        raise wrong(_top(directory), "no scenario in this directory", "give a directory with *.yaml files, or a file")
    return found


def _walk(directory: Path, seen: set[tuple[int, int]], errors: list[ScenarioError], left: list[int]) -> Iterator[Path]:
    """Scenario files below a directory, sorted. Links are resolved, and each directory is entered once."""
    try:
        here = directory.stat()
        entries = sorted(directory.iterdir())
    except OSError as error:
        errors.append(_unreadable(directory, error))
        return
    if (here.st_dev, here.st_ino) in seen:
        return
    seen.add((here.st_dev, here.st_ino))
    for path in entries:
        if path.name.startswith("."):  # editors' lock and swap files among them
            continue
        left[0] -= 1
        if left[0] < 0:
            raise wrong(_top(directory), f"more than {MAX_FILES} files in this directory", "give a smaller directory")
        if path.is_dir():
            if path.name != SHARED:
                yield from _walk(path, seen, errors, left)
        elif path.suffix in SUFFIXES:
            yield path


def read_text(path: Path) -> str:
    """The text of a scenario file; raises ScenarioError if it cannot be read, is too large or is not UTF-8."""
    try:
        data = _read_bytes(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if len(data) > MAX_BYTES:
        what = f"larger than {size_text(MAX_BYTES)}"
        raise wrong(_top(path), what, "give the YAML file of a scenario")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise wrong(_top(path), "the text is UTF-16", "save it as UTF-8")
    nul = data.find(b"\0")
    if nul >= 0:
        before = data[:nul].decode("utf-8", "replace")
        raise nul_byte(place_at(before, len(before), printable(str(path))))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        place = place_at(before, len(before), printable(str(path)))
        what = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        raise wrong(place, what, "save the file as UTF-8 text") from None


def _read_bytes(path: Path) -> bytes:
    """At most MAX_BYTES + 1 bytes; O_NONBLOCK so that a pipe without a writer cannot block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        for is_kind, what in _KINDS:
            if is_kind(mode):
                raise wrong(_top(path), f"{what}, not a file", "give the YAML file of a scenario")
        return file.read(MAX_BYTES + 1)


def _top(path: Path) -> Place:
    return Place(printable(str(path)))


def _unreadable(path: Path, error: Exception) -> ScenarioError:
    """The error for what the system refused."""
    number = error.errno if isinstance(error, OSError) else None
    words = {
        errno.ENOENT: ("no such file or directory", "check the path"),
        errno.EACCES: ("permission denied", "make it readable"),
        errno.ELOOP: ("a loop of symbolic links", "fix the link"),
        errno.ENXIO: ("a socket or a missing device, not a file", "give the YAML file of a scenario"),
        errno.ENOTDIR: ("part of this path is a file, not a directory", "check the path"),
        errno.ENAMETOOLONG: ("the path is too long", "check the path"),
    }
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    what, hint = words.get(number or 0, (f"cannot be read: {text.lower()}", "check the path"))
    return wrong(_top(path), what, hint)
