"""Kernel configuration fragments: read, and verified against the ``.config`` that came out.

The kernel's own scripts/kconfig/merge_config.sh merges the fragments (strict: two
fragments that set one option to different values are an error). Kconfig silently
drops what a dependency rules out, and merge_config.sh only warns about that, so every
option of every fragment is looked up again here.

Runs inside the build root, too, where only the standard library is:
``python3 kconfig.py GOT FRAGMENT...`` prints which options did not stick.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_SET = re.compile(r"(CONFIG_\w+)=(.*)")
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")
_VALUE = re.compile(r'y|m|n|-?\d+|0[xX][0-9a-fA-F]+|"(?:[^"\\]|\\.)*"')

_OFF = "n"


def parse(text: str) -> dict[str, str]:
    """Values by name from a finished .config; an option that is not set is ``n``."""
    values = {}
    for line in text.splitlines():
        option = _option(line.strip())
        if option:
            values[option[0]] = option[1]
    return values


def _option(line: str) -> tuple[str, str] | None:
    unset = _UNSET.fullmatch(line)
    if unset:
        return unset[1], _OFF
    assignment = _SET.fullmatch(line)
    return (assignment[1], assignment[2]) if assignment else None


def wanted(fragments: Iterable[Path]) -> dict[str, str]:
    """What ``fragments`` set, together; raises ValueError, with ``file:line``, for a line that is not understood."""
    options: dict[str, str] = {}
    for path in fragments:
        for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            line = raw.strip()
            option = _option(line)
            if option is None and line and not line.startswith("#"):
                raise ValueError(
                    f"{path}:{number}: {line!r} is not a configuration line; "
                    "write CONFIG_X=value, # CONFIG_X is not set, or a comment"
                )
            if option and not _VALUE.fullmatch(option[1]):
                raise ValueError(
                    f"{path}:{number}: {option[1]!r} is not a value for {option[0]}; "
                    "use y, m, n, a number or a quoted string"
                )
            if option:
                options[option[0]] = option[1]
    return options


def verify(wanted: Mapping[str, str], got: Mapping[str, str]) -> list[str]:
    """One sentence for each option of ``wanted`` that ``got`` does not have; empty if all stuck.

    An option that ``got`` does not mention at all is off: Kconfig leaves out
    what has unmet dependencies.
    """
    problems = []
    for name, value in wanted.items():
        actual = got.get(name, _OFF)
        if _canonical(actual) == _canonical(value):
            continue
        if value == _OFF:
            problems.append(f"{name} should be off and is {actual}: another option selects it")
        elif name not in got:
            problems.append(
                f"{name} should be {value} and does not exist: a dependency is missing, or this source does not know it"
            )
        elif actual == _OFF:
            problems.append(f"{name} should be {value} and is off")
        else:
            problems.append(f"{name} should be {value} and is {actual}")
    return problems


def _canonical(value: str) -> str:
    if re.fullmatch(r"-?\d+|0[xX][0-9a-fA-F]+", value):
        return str(int(value, 16 if value[:2].lower() == "0x" else 10))
    return value


def main(argv: list[str]) -> int:
    """``kconfig.py GOT FRAGMENT...``: exit code 0 if every option of the fragments is in GOT."""
    try:
        options = wanted(map(Path, argv[1:]))
    except ValueError as error:
        sys.stdout.write(f"configuration: {error}\n")
        return 1
    problems = verify(options, parse(Path(argv[0]).read_text(encoding="utf-8")))
    for problem in problems:
        sys.stdout.write(f"configuration: {problem}\n")
    if problems:
        sys.stdout.write(f"configuration: {len(problems)} of {len(options)} options did not stick\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
