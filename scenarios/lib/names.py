"""Make names in a directory until one is refused: names.py OPERATION COUNT FOLDER.

Prints the first error and exits with 1; a refused operation must leave nothing
behind, else the exit code is 9. Exits with 0 when all COUNT operations went well.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PAD = "x" * 40
"""Long names fill the leaves of a btree sooner."""


def operate(operation: str, folder: Path, number: int) -> Path:
    """Do operation number ``number``; the name that it makes."""
    name = folder / f"{operation}-{number}-{PAD}"
    source = folder / "source"
    if operation == "create":
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    elif operation == "mkdir":
        name.mkdir()
    elif operation == "link":
        os.link(source, name)
    elif operation == "rename":
        before = folder / f"{operation}-{number - 1}-{PAD}" if number else source
        os.rename(before, name)  # noqa: PTH104
        os.link(name, folder / f"old-{number}")
    elif operation == "xattr":
        os.setxattr(source, f"user.{number}", PAD.encode() * 2, os.XATTR_CREATE)
    return name


def main(operation: str, count: str, folder: str) -> int:
    """The exit code."""
    place = Path(folder)
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
