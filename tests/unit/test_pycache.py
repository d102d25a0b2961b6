"""Which compiled modules travel with the checkout, and which are kept of what a guest sends."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import py_compile
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inject.vm.carry import checkout, pycache

SOURCE = Path("inject/vm/x.py")
COMPILED = "inject/vm/__pycache__/x.cpython-313.pyc"


@pytest.fixture()
def tree(tmp_path: Path) -> Path:
    """A checkout of one module."""
    top = tmp_path / "checkout"
    for name in (str(SOURCE), "inject/vm/inguest/init"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("X = 1\n")
    return top


@pytest.fixture()
def kept(tmp_path: Path, tree: Path) -> Path:
    """Its compiled form, as a guest would have made it."""
    folder = tmp_path / "kept"
    py_compile.compile(
        str(tree / SOURCE),
        cfile=str(folder / COMPILED),
        invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP,
    )
    return folder


def archive(members: dict[str, bytes], link: str = "") -> bytes:
    """A tar of ``members``, and of a link if one is named."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return buffer.getvalue()


def test_a_module_that_fits_travels(tree: Path, kept: Path, tmp_path: Path) -> None:
    checkout.pack(tree, tmp_path / "tar", kept)
    with tarfile.open(tmp_path / "tar") as tar:
        assert COMPILED in tar.getnames()


@pytest.mark.parametrize("change", ["time", "size", "truncated", "unchecked"])
def test_a_module_that_does_not_fit_stays(tree: Path, kept: Path, change: str) -> None:
    source, file = tree / SOURCE, kept / COMPILED
    status = source.stat()
    if change == "time":
        os.utime(source, (0, status.st_mtime + 2))
    elif change == "size":
        source.write_text("X = 12\n")
        os.utime(source, (0, status.st_mtime))
    elif change == "truncated":
        file.write_bytes(file.read_bytes()[:8])
    else:
        data = bytearray(file.read_bytes())
        data[4] = 1
        file.write_bytes(data)
    assert pycache.matching(tree, [SOURCE], kept) == []


def test_without_a_folder_nothing_is_looked_for(tree: Path, tmp_path: Path) -> None:
    assert pycache.matching(tree, [SOURCE], tmp_path / "none") == []


def test_only_modules_of_the_package_are_kept(tmp_path: Path) -> None:
    foreign = ["../evil.cpython-313.pyc", "/etc/x.pyc", "inject/../../x/__pycache__/a.cpython-313.pyc", "inject/x.py"]
    members = {COMPILED: b"good", **{name: b"bad" for name in foreign}}
    kept = tmp_path / "deep" / "kept"
    assert pycache.keep(archive(members, link="inject/__pycache__/l.cpython-313.pyc"), kept, "now") == 1
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir())
    assert files == [f"deep/kept/{pycache._STATE}", f"deep/kept/{COMPILED}"]
    assert pycache.fetched(kept) == "now"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_nothing_is_decompressed(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """A MiB of it may be a GiB of zeroes."""
    with pytest.raises(tarfile.TarError):
        pycache.keep(compress(archive({COMPILED: bytes(1 << 20)})), tmp_path, "now")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.write_bytes(bytes(pycache.LARGEST + 1))])
def test_what_is_no_module_does_not_travel(tree: Path, kept: Path, make: Callable[[Path], object]) -> None:
    (kept / COMPILED).unlink()
    make(kept / COMPILED)
    assert pycache.matching(tree, [SOURCE], kept) == []


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.write_bytes(b"\xff" * 9)])
def test_a_damaged_state_is_another_one(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / pycache._STATE)
    assert pycache.fetched(tmp_path) != "now"


def test_what_is_no_tar_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(tarfile.TarError):
        pycache.keep(b"no tar" * 100, tmp_path, "now")
    assert pycache.fetched(tmp_path) == ""


def test_the_state_follows_the_sources(tree: Path) -> None:
    before = pycache.state(tree, [SOURCE])
    (tree / SOURCE).write_text("X = 123\n")
    assert pycache.state(tree, [SOURCE]) != before
