"""Files that a command writes for the user."""

from __future__ import annotations

from pathlib import Path

from inject.errors import ExitStatus, InjectError
from inject.store import write_file


class FileThere(InjectError):
    """The file exists and must not be overwritten."""

    status = ExitStatus.USAGE

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists", "choose another file, or overwrite it with --force")


def write_text(path: Path, text: str, *, option: str, force: bool = True) -> None:
    """Write ``text`` to ``path``, on the disk when this returns; ``option`` is how the user named the path.

    A symbolic link stays and its target is written. Raises FileThere if ``path`` exists and not
    ``force``, InjectError if it cannot be written.
    """
    try:
        if force:
            path = path.resolve()
            if path.exists() and not path.is_file():
                # A rename would put a file in the place of /dev/null.
                raise InjectError(f"{path} is not a regular file", f"choose another file for {option}")
        write_file(path, text, mode=0o666, replace=force, durable=True)
    except FileExistsError:
        raise FileThere(path) from None
    except OSError as error:
        raise InjectError(f"cannot write {path}: {error.strerror}", f"choose another file for {option}") from None
