"""Kernel configuration from purpose-named fragments: merged, then verified.

A fragment holds the lines that a ``.config`` holds, and ``include FILE``. Two
files that want different things of one option are refused rather than letting
the later one win; and since Kconfig silently drops what a dependency rules out,
every option asked for is looked up again in the ``.config`` that came out.

The kernel's own scripts/kconfig/merge_config.sh does the first half with warnings.

Runs on its own, too, inside the build root, where only the standard library is:
``python3 -m inject.vm.kconfig WANTED GOT`` prints what did not stick.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.errors import InjectError

_SET = re.compile(r"(CONFIG_\w+)=(.*)")
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")
_INCLUDE = re.compile(r"include\s+(\S+)")
_VALUE = re.compile(r'y|m|n|-?\d+|0[xX][0-9a-fA-F]+|"(?:[^"\\]|\\.)*"')

_NO = "n"


@dataclass(frozen=True)
class Option:
    """What one line asks for. ``value`` is as in a .config; ``n`` stands for "is not set"."""

    name: str
    value: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} wants {self.name}={self.value}"


class BadFragment(InjectError):
    """A line of a fragment that cannot be taken: ``file:line: message``."""

    def __init__(self, message: str, *, file: str, line: int, hint: str = "") -> None:
        super().__init__(f"{file}:{line}: {message}", hint)


def load(path: Path) -> dict[str, Option]:
    """All options that ``path`` and what it includes ask for, by name, in reading order.

    Raises InjectError when a file cannot be read, a line is not understood, or
    two lines contradict each other.
    """
    options: dict[str, Option] = {}
    _read(path, options, [])
    return options


def _read(path: Path, options: dict[str, Option], done: list[Path]) -> None:
    # A file that is included twice says nothing new, and a cycle ends here.
    if path.resolve() in done:
        return
    done.append(path.resolve())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InjectError(f"cannot read the kernel configuration {path}: {reason}") from None
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        include = _INCLUDE.fullmatch(line)
        if include:
            _read(_included(path, number, include.group(1)), options, done)
            continue
        option = _parse(line, str(path), number)
        if option is None:
            continue
        earlier = options.setdefault(option.name, option)
        if earlier.value != option.value:
            raise InjectError(f"{option}, but {earlier}", "an option has one value; remove one of the two lines")


def _included(path: Path, number: int, name: str) -> Path:
    target = path.parent / name
    if not target.is_file():
        raise BadFragment(f"there is no {name} to include", file=str(path), line=number)
    return target


def _parse(line: str, file: str, number: int) -> Optional[Option]:
    unset = _UNSET.fullmatch(line)
    if unset:
        return Option(unset.group(1), _NO, file, number)
    if not line or line.startswith("#"):
        return None
    assignment = _SET.fullmatch(line)
    if not assignment:
        hint = "write CONFIG_X=value, # CONFIG_X is not set, include FILE, or a comment"
        raise BadFragment(f"{line!r} is no configuration line", file=file, line=number, hint=hint)
    name, value = assignment.groups()
    if not _VALUE.fullmatch(value):
        raise BadFragment(
            f"{value!r} is no value for {name}", file=file, line=number, hint="use y, m, n, a number or a quoted string"
        )
    return Option(name, value, file, number)


def render(options: Mapping[str, Option]) -> str:
    """The options as a .config, sorted: the same set gives the same text."""
    return "".join(
        f"# {name} is not set\n" if option.value == _NO else f"{name}={option.value}\n"
        for name, option in sorted(options.items())
    )


def parse(text: str) -> dict[str, str]:
    """Values by name from a finished .config; options that are not set are ``n``."""
    values = {}
    for line in text.splitlines():
        option = _parse_loose(line.strip())
        if option:
            values[option[0]] = option[1]
    return values


def _parse_loose(line: str) -> Optional[tuple[str, str]]:
    unset = _UNSET.fullmatch(line)
    if unset:
        return unset.group(1), _NO
    assignment = _SET.fullmatch(line)
    return (assignment.group(1), assignment.group(2)) if assignment else None


def verify(wanted: Mapping[str, str], got: Mapping[str, str]) -> list[str]:
    """One sentence for each option of ``wanted`` that ``got`` does not have; empty if all stuck.

    An option that ``got`` does not mention at all is off: Kconfig leaves out
    what has unmet dependencies.
    """
    problems = []
    for name, value in wanted.items():
        actual = got.get(name, _NO)
        if _canonical(actual) == _canonical(value):
            continue
        if value == _NO:
            problems.append(f"{name} should be off and is {actual}: another option selects it")
        elif name not in got:
            problems.append(
                f"{name} should be {value} and does not exist: a dependency is missing, or this source does not know it"
            )
        elif actual == _NO:
            problems.append(f"{name} should be {value} and is off")
        else:
            problems.append(f"{name} should be {value} and is {actual}")
    return problems


def _canonical(value: str) -> str:
    if re.fullmatch(r"-?\d+|0[xX][0-9a-fA-F]+", value):
        return str(int(value, 16 if value[:2].lower() == "0x" else 10))
    return value


def main(argv: list[str]) -> int:
    """``kconfig WANTED GOT``: exit code 0 when every option of WANTED is in GOT."""
    wanted, got = (parse(Path(name).read_text(encoding="utf-8")) for name in argv)
    problems = verify(wanted, got)
    for problem in problems:
        sys.stdout.write(f"configuration: {problem}\n")
    if problems:
        sys.stdout.write(f"configuration: {len(problems)} of {len(wanted)} options did not stick\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
