"""Make names in a directory until an operation fails: names.py OPERATION COUNT DIRECTORY.

Prints the first error and exits with 1. If the failed operation left a name behind,
exits with 9. Exits with 0 if all COUNT operations succeeded.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PAD = "x" * 40
"""Long names fill the leaves of a btree sooner."""


def operate(operation: str, directory: Path, number: int) -> Path:
    """Do operation number ``number`` and return the name that it makes."""
    name = directory / f"{operation}-{number}-{PAD}"
    source = directory / "source"
    if operation == "create":
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    elif operation == "mkdir":
        name.mkdir()
    elif operation == "link":
        os.link(source, name)
    elif operation == "rename":
        before = directory / f"{operation}-{number - 1}-{PAD}" if number else source
        os.rename(before, name)  # noqa: PTH104
        os.link(name, directory / f"old-{number}")
    elif operation == "xattr":
        os.setxattr(source, f"user.{number}", PAD.encode() * 2, os.XATTR_CREATE)
    return name


def main(operation: str, count: str, directory: str) -> int:
    """Exit code of the script."""
    place = Path(directory)
    (place / "source").touch()
    for number in range(int(count)):
        try:
            operate(operation, place, number)
        except OSError as error:
            print(f"{operation} {number}: {error.strerror}")
            half = place / f"{operation}-{number}-{PAD}"
            return 9 if operation != "rename" and os.path.lexists(half) else 1  # noqa: PTH110
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
