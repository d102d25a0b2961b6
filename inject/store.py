"""The cache directory, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any, Union

from inject.errors import InjectError


def cache_root() -> Path:
    """Return the cache directory: ``$INJECT_CACHE``, ``$XDG_CACHE_HOME/inject`` or ``~/.cache/inject``.

    Raises InjectError if none of the three is known.
    """
    own = os.environ.get("INJECT_CACHE")
    if own:
        return Path(own).absolute()
    xdg = os.environ.get("XDG_CACHE_HOME")
    # The XDG base directory specification: a relative path must be ignored.
    if xdg and Path(xdg).is_absolute():
        return Path(xdg) / "inject"
    try:
        return Path.home() / ".cache" / "inject"
    except RuntimeError:
        raise InjectError("no home directory to keep the cache in", "set INJECT_CACHE") from None


MOST_JSON = 4 << 20
"""Bytes of a JSON file of the cache that are read; the longest is some hundred KiB."""

LONGEST_NUMBER = 100
"""Digits of an integer; none of inject has more than 20."""


def read_file(path: Path, most: int) -> bytes:
    """The content of a regular file; never waits, as for the writer of a fifo.

    Raises OSError if it cannot be read, is not a regular file, or has more than ``most`` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
    return data


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """The value in a JSON file; raises OSError as read_file() does, ValueError for what is not JSON."""
    return loads(read_file(path, most))


def loads(data: Union[str, bytes]) -> Any:
    """The value in JSON that may be damaged or hostile; raises ValueError for anything else.

    An integer has at most LONGEST_NUMBER digits: before Python 3.9.14 (bpo-95778) int() took minutes for a million.
    """
    try:
        return json.loads(data, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError("an integer of too many digits")
    return int(text)


def temporary_place() -> Path:
    """The directory for temporary files, that of tempfile.gettempdir(), which would write a file into it to find out.

    If inject were killed then, the file would stay. Raises InjectError if none can be written.
    """
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    for place in (*named, "/tmp", "/var/tmp", "/usr/tmp", "."):
        if os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):  # noqa: PTH112
            return Path(place).absolute()
    raise InjectError("no directory for temporary files can be written", "set TMPDIR")


def write_file(
    path: Path,
    content: Union[str, bytes],
    *,
    mode: int = 0o600,
    parents: bool = False,
    replace: bool = True,
    durable: bool = False,
) -> None:
    """Write ``content`` to ``path``, so that a reader finds all of it or what was there before.

    Text becomes UTF-8. ``mode`` is what the umask is applied to. ``parents`` makes missing
    directories. With ``durable`` the file and its name are on the disk when this returns.
    Processes may write the same file at once: the last one wins. A failed write leaves nothing behind. SIGKILL
    may leave one file beside ``path``, while another content replaces that; the next one removes it.

    Raises FileExistsError if ``path`` exists and ``replace`` is false, else OSError.
    """
    data = content.encode() if isinstance(content, str) else content
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    # The name does not contain the file's own, which may be as long as a name can be.
    staged = path.with_name(f".inject-{secrets.token_hex(8)}")
    descriptor, named = _new_file(path.parent, staged, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            if replace and not durable and _is(path, data, os.fstat(file.fileno())):
                os.utime(path)
            elif not named:
                _name(file.fileno(), path, staged, replace)
            elif replace:
                staged.replace(path)
            else:
                os.link(staged, path)  # unlike rename(2), link(2) never replaces a file
    finally:
        with contextlib.suppress(OSError):
            staged.unlink()
    if durable:
        sync(path.parent)


def _is(path: Path, data: bytes, like: os.stat_result) -> bool:
    """True if ``path`` is a file with that content, and with the mode and the owner of ``like``."""
    try:
        there = os.lstat(path)
        same = (there.st_mode, there.st_uid, there.st_gid) == (like.st_mode, like.st_uid, like.st_gid)
        return same and read_file(path, len(data)) == data
    except OSError:
        return False


def _new_file(directory: Path, staged: Path, mode: int) -> tuple[int, bool]:
    """A descriptor of a new file in ``directory``, and whether it is called ``staged``; SIGKILL leaves it only then."""
    with contextlib.suppress(OSError):  # a filesystem without O_TMPFILE, or what the next open says
        return os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode), False
    return os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), True


def _name(descriptor: int, path: Path, staged: Path, replace: bool) -> None:
    """Give a file without a name the name ``path``. Raises FileExistsError if that exists and ``replace`` is false.

    Linux has no call that links a file over another one, so then it has another name for a moment: the same one
    for all who write ``path``, so that what SIGKILL leaves is there only until the next one writes it. Who finds
    another one at it takes ``staged``.
    """
    own = f"/proc/self/fd/{descriptor}"
    try:
        os.link(own, path, src_dir_fd=descriptor)  # with a src_dir_fd Python follows the link (linkat(2))
        return
    except FileExistsError:
        if not replace:
            raise
    spare = path.with_name(f".inject-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}")
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):
            spare.unlink()
        staged = spare
    except BlockingIOError:
        pass
    try:
        os.link(own, staged, src_dir_fd=descriptor)
        staged.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise
    finally:
        os.close(directory)


def sync(path: Path) -> None:
    """Bring a file or a directory to the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # fsync(2): this filesystem cannot synchronize a directory
            raise
    finally:
        os.close(descriptor)
