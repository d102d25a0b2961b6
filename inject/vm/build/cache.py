"""A cache of what takes minutes to make, by a key of everything that goes into it.

An entry is a directory ``<root>/<kind>/<key>`` that holds files and, written
last, ``manifest.json``. It is made in ``<root>/staging`` on the same filesystem
and renamed into place when it is complete, and never changed afterwards: an
interrupted build cannot leave anything that looks finished.

Builders of the same entry exclude each other with flock(2), which the kernel
releases when a builder ends, even by SIGKILL. A staging directory whose lock is free therefore
belongs to a builder that died; the next build of anything removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

from inject.errors import InjectError
from inject.model.text import size_text
from inject.store import read_file, read_json, sync, write_file

MANIFEST = "manifest.json"
WORK = "work"
"""In a staging directory: the path of a working directory elsewhere that belongs to it."""

LOCK_TIMEOUT = 3 * 3600.0
"""Seconds to wait for another process that builds the same entry."""

_LONGEST_PATH = 4096
_WORK_NAME = re.compile(r"inject-\w{8}", re.ASCII)
"""What tempfile.mkdtemp() makes of the prefix in debian.work_directory()."""

_KEY_LENGTH = 20
_HASH_BLOCK = 1 << 20

Progress = Callable[[str], None]
Input = Union[str, bytes, Path]


def key_of(inputs: Mapping[str, Input]) -> str:
    """A name for ``inputs``: any change of a name or a content gives another one.

    A Path stands for the content of that file. Raises InjectError when it cannot be read.
    """
    total = hashlib.sha256()
    for name in sorted(inputs):
        total.update(name.encode() + b"\0" + _digest(inputs[name]))
    return total.hexdigest()[:_KEY_LENGTH]


def _digest(value: Input) -> bytes:
    if isinstance(value, Path):
        one = hashlib.sha256()
        try:
            with value.open("rb") as file:
                for block in iter(lambda: file.read(_HASH_BLOCK), b""):
                    one.update(block)
        except OSError as error:
            raise InjectError(f"cannot read {value}: {error.strerror}") from None
        return one.digest()
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).digest()


@dataclass(frozen=True)
class Entry:
    """A finished entry: its directory and what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """The path of one of its files."""
        return self.path / name


class Staging:
    """A directory in which one entry is being made."""

    def __init__(self, cache: Cache, kind: str, key: str, path: Path) -> None:
        self._cache = cache
        self._kind = kind
        self._key = key
        self.path = path

    def publish(self, manifest: Mapping[str, Any], *, durable: bool = True) -> Entry:
        """Move the directory into place, its manifest written last.

        Sub-directories are dropped: an entry is files. Raises InjectError when
        the disk is full or not writable. Without ``durable`` its files need not be whole
        after the machine has crashed.
        """
        files = {}
        try:
            for item in sorted(self.path.iterdir()):
                if item.is_dir():
                    remove_tree(item)
                elif item.name != WORK:
                    files[item.name] = item.stat().st_size
                    if durable:
                        sync(item)
            (self.path / WORK).unlink(missing_ok=True)
            text = json.dumps({**manifest, "kind": self._kind, "key": self._key, "files": files}, indent=1)
            write_file(self.path / MANIFEST, text + "\n", mode=0o666, durable=True)
            final = self._cache.place(self._kind, self._key)
            final.parent.mkdir(parents=True, exist_ok=True)
            _clear(final)  # not a finished entry, or it would not have been built again
            self.path.rename(final)
            sync(final.parent)
        except OSError as error:
            raise InjectError(f"cannot write {self.path}: {error.strerror}", _disk_hint(error)) from None
        entry = self._cache.find(self._kind, self._key)
        if entry is None:
            raise InjectError(f"the entry {final} is not complete right after it was written")
        return entry


class Cache:
    """All entries below ``root``, which is made when first needed.

    ``cleaner`` removes working directories that lie elsewhere.
    """

    def __init__(self, root: Path, cleaner: Optional[Callable[[Path], None]] = None) -> None:
        self.root = root
        self._cleaner = cleaner or remove_tree

    def place(self, kind: str, key: str) -> Path:
        """The directory where the entry is, or would be."""
        return self.root / kind / key

    def find(self, kind: str, key: str, files: Sequence[str] = (), facts: Sequence[str] = ()) -> Optional[Entry]:
        """The finished entry, or None. An entry that lost a file, or part of one, is not finished.

        Nor is one without ``files``, or whose manifest lacks one of ``facts``, each a text.
        """
        path = self.place(kind, key)
        try:
            manifest = read_json(path / MANIFEST)
            sizes = manifest["files"]
            found = all("/" not in name and _is_whole(path / name, size) for name, size in sizes.items())
            known = all(name in sizes for name in files) and all(isinstance(manifest[name], str) for name in facts)
            whole = found and known and (manifest["kind"], manifest["key"]) == (kind, key)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Entry(path, manifest) if whole else None

    def log(self, kind: str, key: str) -> Path:
        """The log file of a build of this entry; it outlives the build."""
        path = self.root / "logs" / f"{kind}-{key}.log"
        self._make(path.parent)
        return path

    @contextlib.contextmanager
    def building(self, kind: str, key: str, progress: Progress, timeout: float = LOCK_TIMEOUT) -> Iterator[Staging]:
        """Hold the right to build this entry, and a staging directory to do it in.

        Waits while another process builds it, at most ``timeout`` seconds; look
        with :meth:`find` again inside. What the body left in the staging
        directory is removed, unless it was published. Raises InjectError when
        the wait is over or the cache is not writable.
        """
        name = f"{kind}-{key}"
        staging = self.root / "staging"
        self._make(staging)
        with self._locked(name, progress, timeout):
            self._sweep(own=name)
            try:
                path = Path(tempfile.mkdtemp(prefix=name + ".", dir=staging))
            except OSError as error:
                raise InjectError(f"cannot write {staging}: {error.strerror}", _disk_hint(error)) from None
            try:
                yield Staging(self, kind, key, path)
            finally:
                self._discard(path)

    def free(self) -> int:
        """Bytes that may still be written where the cache is."""
        self._make(self.root)
        return shutil.disk_usage(self.root).free

    def _make(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "set INJECT_CACHE to a directory that can be written"
            raise InjectError(f"cannot make the cache directory {path}: {error.strerror}", hint) from None

    @contextlib.contextmanager
    def _locked(self, name: str, progress: Progress, timeout: float) -> Iterator[None]:
        locks = self.root / "locks"
        self._make(locks)
        with _lock_file(locks / name) as descriptor:
            deadline = time.monotonic() + timeout
            said = False
            while not _try_lock(descriptor):
                if not said:
                    progress(f"{name}: waiting for another process that builds it")
                    said = True
                if time.monotonic() >= deadline:
                    raise InjectError(
                        f"another process has been building {name} for {timeout:.0f} s",
                        "see who it is: fuser " + str(locks / name),
                    )
                time.sleep(0.2)
            yield

    def _sweep(self, own: str) -> None:
        """Remove the staging directories of builders that died; ``own`` is locked already."""
        for path in (self.root / "staging").iterdir():
            name = path.name.rpartition(".")[0]
            if name == own:
                self._discard(path)
                continue
            with contextlib.suppress(OSError, InjectError), _lock_file(self.root / "locks" / name) as descriptor:
                if _try_lock(descriptor):
                    self._discard(path)

    def _discard(self, path: Path) -> None:
        with contextlib.suppress(OSError, ValueError):
            work = Path(os.fsdecode(read_file(path / WORK, _LONGEST_PATH)).strip())
            if work.is_absolute() and _WORK_NAME.fullmatch(work.name):
                self._cleaner(work)
        remove_tree(path)


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    """A descriptor of the file, which is made; raises InjectError if it cannot be opened. Never waits for a fifo."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise InjectError(f"cannot open the lock {path}: {error.strerror}", "remove it") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_whole(path: Path, size: int) -> bool:
    """True for a regular file of ``size`` bytes; raises OSError if there is none."""
    status = path.stat()
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def _clear(path: Path) -> None:
    """Remove the file or directory of this name; raises OSError for a file that stays."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    else:
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a directory tree, read-only parts of it as well, never through a symbolic link.

    Dying processes may still be writing there, so it is tried a few times.
    What cannot be removed stays, for the next build to try again.
    """
    for pause in (0.2, 1.0, 0.0):
        if path.is_symlink() or not path.exists():
            return
        for directory, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                mode = stat.S_IMODE(os.lstat(directory).st_mode)
                if mode & stat.S_IRWXU != stat.S_IRWXU:
                    Path(directory).chmod(mode | stat.S_IRWXU)
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            time.sleep(pause)


def need_space(path: Path, needed: int, purpose: str) -> None:
    """Raise InjectError unless ``needed`` bytes are free where ``path`` is."""
    free = shutil.disk_usage(path).free
    if free < needed:
        raise InjectError(
            f"{purpose} needs {size_text(needed)} in {path}, where {size_text(free)} are free: "
            f"{size_text(needed - free)} are missing",
            "free some space, or point INJECT_CACHE elsewhere",
        )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _disk_hint(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space, or point INJECT_CACHE elsewhere"
    return "check its permissions, or point INJECT_CACHE elsewhere"
