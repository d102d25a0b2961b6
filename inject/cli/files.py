"""Files that a command writes for the user: whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from inject.errors import ExitStatus, InjectError


class FileThere(InjectError):
    """A file that would be overwritten."""

    status = ExitStatus.USAGE


def write_text(path: Path, text: str, *, option: str, force: bool = True) -> None:
    """Put ``text`` at ``path``, on the disk when this returns; ``option`` is what the user gave the path with.

    Raises FileThere when something is there and not ``force``, InjectError when it cannot be written.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staged.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if force:
            staged.replace(path)
        else:
            os.link(staged, path)  # unlike a rename it never replaces anything
    except FileExistsError:
        raise FileThere(f"{path} is there already", "choose another file, or overwrite it with --force") from None
    except OSError as error:
        raise InjectError(f"cannot write {path}: {error.strerror}", f"choose another file for {option}") from None
    finally:
        with contextlib.suppress(OSError):
            staged.unlink()
