"""Files are written whole or not at all, on a full disk and in a directory that refuses, too."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inject import store
from inject.cli.files import FileThere, write_text
from inject.errors import InjectError
from inject.store import cache_root, read_file, read_json, temporary_place, write_file
from tests.support import ROOT


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


# ---------------------------------------------------------------- where


def test_the_explicit_directory_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("INJECT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == tmp_path / ".cache" / "inject"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == tmp_path / ".cache" / "inject"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "inject"
    monkeypatch.setenv("INJECT_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


def test_no_home_directory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("INJECT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(InjectError, match="set INJECT_CACHE"):
        cache_root()


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize("durable", [False, True])
def test_text_and_bytes(tmp_path: Path, durable: bool) -> None:
    write_file(tmp_path / "text", "né\n", durable=durable)
    write_file(tmp_path / "bytes", b"\0\xff", durable=durable)
    assert (tmp_path / "text").read_bytes() == b"n\xc3\xa9\n"
    assert (tmp_path / "bytes").read_bytes() == b"\0\xff"
    assert names(tmp_path) == ["bytes", "text"]


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mode", "found"), [(0o600, 0o600), (0o666, 0o644)])
def test_the_mode_and_the_umask(tmp_path: Path, mode: int, found: int) -> None:
    """A file that is replaced gets the new mode, too."""
    for _ in range(2):
        write_file(tmp_path / "file", "x", mode=mode)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == found
        (tmp_path / "file").chmod(0o640)


def test_missing_directories(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "a" / "b", "x")
    write_file(tmp_path / "a" / "b", "x", parents=True)
    assert (tmp_path / "a" / "b").read_text() == "x"


def test_the_longest_name(tmp_path: Path) -> None:
    write_file(tmp_path / ("x" * 255), "x")
    assert names(tmp_path) == ["x" * 255]


def test_a_file_that_must_not_be_replaced(tmp_path: Path) -> None:
    write_file(tmp_path / "file", "first", replace=False)
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "file", "second", replace=False)
    assert (tmp_path / "file").read_text() == "first"
    assert names(tmp_path) == ["file"]


WRITER = """
import sys
from pathlib import Path
from inject.store import write_file
for _ in range(200):
    write_file(Path(sys.argv[1]), sys.argv[2] * 50000)
"""


def test_several_writers_at_once(tmp_path: Path) -> None:
    """A reader finds one writer's whole file at any time."""
    file = tmp_path / "file"
    file.write_text("0" * 50000)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), str(n)], cwd=ROOT) for n in range(3)]
    while any(writer.poll() is None for writer in writers):
        text = file.read_text()
        assert len(text) == 50000 and len(set(text)) == 1
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert names(tmp_path) == ["file"]


# ---------------------------------------------------------------- what fails


@pytest.mark.parametrize("step", ["write", "fsync", "rename", "link"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Each step may be the one that fails: the old file stays and nothing else does."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_text("old")
    target = tmp_path / ("new" if step == "link" else "file")
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif step == "rename":
        monkeypatch.setattr(Path, "replace", full)
    elif step == "link":
        monkeypatch.setattr(os, "link", full)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if step == "write":  # the kernel itself cuts the write short; Python ignores SIGXFSZ
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(OSError):
            write_file(target, "x" * (1 << 20), replace=step != "link", durable=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("refusing", ["a file", "read-only"])
def test_a_directory_that_refuses(tmp_path: Path, refusing: str) -> None:
    if refusing == "a file":
        (tmp_path / "in-the-way").write_text("")
        directory = tmp_path / "in-the-way"
    else:
        directory = Path("/proc/self")  # refuses root, too
    with pytest.raises(OSError):
        write_file(directory / "file", "x")
    with pytest.raises(OSError):
        write_file(directory / "file", "x", parents=True)


def test_a_filesystem_that_cannot_sync_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(descriptor: int) -> None:
        asked.append(descriptor)
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    store.sync(tmp_path)
    assert len(asked) == 1


# ---------------------------------------------------------------- for the user


def test_a_file_of_the_users(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_text(file, "one", option="--save")
    with pytest.raises(FileThere, match="--force"):
        write_text(file, "two", option="-o", force=False)
    (tmp_path / "link").symlink_to(file)
    write_text(tmp_path / "link", "three", option="--save")
    assert (tmp_path / "link").is_symlink() and file.read_text() == "three"


def test_a_directory_that_is_missing_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InjectError, match="No such file or directory; choose another file for --save"):
        write_text(tmp_path / "none" / "file", "x", option="--save")


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_not_a_regular_file_stays(tmp_path: Path, kind: str) -> None:
    """As root, a rename would put a file in the place of /dev/null."""
    path = tmp_path / kind
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    before = path.stat()
    with pytest.raises(InjectError, match="is not a regular file"):
        write_text(path, "x", option="--save")
    assert path.stat().st_ino == before.st_ino


# ---------------------------------------------------------------- reading what may be damaged


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_file(file, 5) == b"12345"
    with pytest.raises(OSError, match="File too large"):
        read_file(file, 4)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda _: None])
def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "file")
    with pytest.raises(OSError):
        read_file(tmp_path / "file", 100)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"\0", b"[" * 100_000, b'"' + b"x" * 5000, b"1" * 100_000, b"\xfe\xff\xd8\x00"]
)
def test_what_is_not_json_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError):
        read_json(tmp_path / "file")


@pytest.mark.parametrize("name", ["TMPDIR", "TEMP", "TMP"])
def test_the_place_for_temporary_files_is_found_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """tempfile.gettempdir() writes one, which stays if inject is killed then."""
    for other in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, str(tmp_path))
    before = tmp_path.stat().st_mtime_ns
    assert temporary_place() == tmp_path
    assert tmp_path.stat().st_mtime_ns == before


def test_a_place_that_is_no_directory_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setenv("TEMP", str(tmp_path))
    assert temporary_place() == tmp_path


def tmpfiles(place: Path) -> bool:
    """True if the filesystem there has files without a name (open(2), O_TMPFILE)."""
    try:
        os.close(os.open(place, os.O_WRONLY | os.O_TMPFILE))
    except OSError:
        return False
    return True


def test_a_file_has_no_name_before_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the filesystem can do that (open(2), O_TMPFILE): SIGKILL leaves nothing then."""
    named = 0 if tmpfiles(tmp_path) else 1
    seen: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(len(list(tmp_path.iterdir()))))
    store.write_file(tmp_path / "new", "text", durable=True)
    assert (seen[0], (tmp_path / "new").read_text(), len(list(tmp_path.iterdir()))) == (named, "text", 1)


@pytest.mark.parametrize("durable", [True, False])
def test_what_sigkill_leaves_goes_with_the_next_write(tmp_path: Path, durable: bool) -> None:
    """Between the two calls that put a file in another one's place, for which Linux has no single one."""
    file = tmp_path / "file"
    file.write_text("old")
    killed = "from inject.store import *; from pathlib import Path; import os, signal, sys\n"
    killed += "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    killed += "write_file(Path(sys.argv[1]), 'killed', durable=True)"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", killed, str(file)], cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGKILL and len(names(tmp_path)) in (2, 3)
    write_file(file, "new", durable=durable)
    left = names(tmp_path)
    assert file.read_text() == "new" and (left == ["file"] or not tmpfiles(tmp_path)), left


def test_another_writer_of_the_directory_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    write_file(tmp_path / "file", "new")
    os.close(held)
    assert ((tmp_path / "file").read_text(), names(tmp_path)) == ("new", ["file"])


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    """So that there is no moment at which a file with another name lies beside it; the file is as new as if it were."""
    file = tmp_path / "file"
    write_file(file, "text")
    os.utime(file, (1, 1))
    before = file.stat()
    write_file(file, "text")
    assert file.stat().st_ino == before.st_ino and file.stat().st_mtime > 1
    write_file(file, "texts")
    assert file.stat().st_ino != before.st_ino and file.read_text() == "texts"
