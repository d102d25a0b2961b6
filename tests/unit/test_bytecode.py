"""A kept program is used only if inject wrote it, as it is, for this kernel; any other file is ignored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject.engine.abi import SLOT_MARK, TRACE_MARK
from inject.engine.bytecode import (
    INSTRUCTION,
    LARGEST,
    Bytecode,
    cache_key,
    keep,
    load,
    unbind,
)
from tests.support import ROOT
from tests.support.instructions import constants, load_64

KEY = cache_key("source", "0.31.0", "deadbeef", "6.12")
CODE = Bytecode({"on_kprobe": b"\x18" + bytes(15), "on_sys_exit": bytes(range(8))}, ("rules", "events"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keep(tmp_path / "cache", KEY, CODE)
    return tmp_path / "cache"


# ---------------------------------------------------------------- binding


def test_maps_and_marks_are_put_in() -> None:
    exit_ = INSTRUCTION.pack(0x95, 0, 0, 0)
    program = load_64(7, 1) + load_64(SLOT_MARK) + load_64(TRACE_MARK) + load_64(0x1234) + load_64(9, 1) + exit_
    free = unbind({"on_kprobe": program}, {"rules": 9, "events": 7})
    assert free.maps == ("rules", "events")
    assert constants(free.programs["on_kprobe"]) == [1, SLOT_MARK, TRACE_MARK, 0x1234, 0]
    bound = free.bind("on_kprobe", {"rules": 40, "events": 50}, {SLOT_MARK: 513, TRACE_MARK: 1}, {})
    assert constants(bound) == [50, 513, 1, 0x1234, 40]
    assert bound.endswith(exit_) and len(bound) == len(program)


def test_an_address_is_a_map_and_an_offset() -> None:
    """The second half of such a constant is no part of the number (BPF_PSEUDO_MAP_VALUE, include/uapi/linux/bpf.h)."""
    code = Bytecode({"p": load_64(99) + load_64(5)}, ())
    assert code.bind("p", {}, {}, {99: (32, 480)}) == load_64(480 << 32 | 32, source=2) + load_64(5)


def test_a_variable_of_the_kernel_is_loaded_by_its_type() -> None:
    code = Bytecode({"p": load_64(99) + load_64(5)}, ())
    assert code.bind("p", {}, {}, {}, {99: 1234}) == load_64(1234, source=3) + load_64(5)


def test_a_map_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="map 5 of 1"):
        Bytecode({"p": load_64(5, 1)}, ("rules",)).bind("p", {"rules": 3}, {}, {})


# ---------------------------------------------------------------- trust


def test_what_was_kept_comes_back(folder: Path) -> None:
    assert load(folder, KEY) == CODE
    assert (folder / f"{KEY}.bpf").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == [f"{KEY}.bpf"]


@pytest.mark.parametrize(
    "facts",
    [("other", "0.31.0", "deadbeef", "6.12"), ("source", "0.32.0", "deadbeef", "6.12")]
    + [("source", "0.31.0", "deadbeee", "6.12"), ("source", "0.31.0", "deadbeef", "6.13")]
    + [("source", "0.31.0deadbeef", "", "6.12")],
    ids=["program", "bcc", "build", "release", "shifted"],
)
def test_what_is_stale_is_not_found(folder: Path, facts: tuple[str, ...]) -> None:
    """Another program text, bcc, build id or release is another name."""
    assert cache_key(*facts) != KEY
    assert load(folder, cache_key(*facts)) is None


def test_every_truncation(folder: Path) -> None:
    path = folder / f"{KEY}.bpf"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert load(folder, KEY) is None, length
    path.write_bytes(whole + b"x")
    assert load(folder, KEY) is None


def test_every_byte_counts(folder: Path) -> None:
    path = folder / f"{KEY}.bpf"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert load(folder, KEY) is None, at


@given(st.binary(max_size=200))
def test_rubbish_with_the_right_digest(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    """The digest is no secret: what it vouches for is still looked at."""
    import hashlib

    folder = tmp_path_factory.mktemp("cache")
    (folder / f"{KEY}.bpf").write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    assert load(folder, KEY) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write(folder: Path, mode: int) -> None:
    (folder / f"{KEY}.bpf").chmod(mode)
    assert load(folder, KEY) is None


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_may_write(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    assert load(folder, KEY) is None


@pytest.mark.parametrize("what", ["file", "folder"])
def test_another_users_file(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Root must not run what another user left in a folder that both use."""
    if os.geteuid() == 0:
        os.chown(folder / f"{KEY}.bpf" if what == "file" else folder, 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load(folder, KEY) is None


def test_what_is_no_plain_file(folder: Path) -> None:
    path = folder / f"{KEY}.bpf"
    (folder / "real").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(folder / "real")
    assert load(folder, KEY) is None, "a link may lead anywhere"
    path.unlink()
    path.mkdir()
    assert load(folder, KEY) is None
    path.rmdir()
    os.mkfifo(path)
    assert load(folder, KEY) is None, "and does not wait for a writer"


def test_a_huge_file_is_not_read_to_its_end(folder: Path) -> None:
    with (folder / f"{KEY}.bpf").open("r+b") as file:
        file.truncate(LARGEST * 4)
    assert load(folder, KEY) is None


def test_a_damaged_file_is_replaced(folder: Path) -> None:
    (folder / f"{KEY}.bpf").write_bytes(b"damaged")
    keep(folder, KEY, CODE)
    assert load(folder, KEY) == CODE


# ---------------------------------------------------------------- several at once, and disks that refuse

WRITER = """
import sys
from pathlib import Path
from inject.engine.bytecode import Bytecode, keep
for _ in range(40):
    keep(Path(sys.argv[1]), sys.argv[2], Bytecode({"p": bytes([int(sys.argv[3])]) * 20000}, ("m",)))
"""


def test_several_write_and_read_at_once(tmp_path: Path) -> None:
    """A reader finds the whole file of one writer, and nothing else is left at the end."""
    argv = [sys.executable, "-c", WRITER, str(tmp_path), KEY]
    writers = [subprocess.Popen([*argv, str(number)], cwd=ROOT) for number in range(3)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        found = load(tmp_path, KEY)
        if found is not None:
            seen += 1
            assert len(set(found.programs["p"])) == 1 and len(found.programs["p"]) == 20000
        else:
            assert not seen, "what was there is gone or damaged"
    assert [writer.returncode for writer in writers] == [0, 0, 0] and seen
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY}.bpf"]


@pytest.mark.parametrize("cut", ["the folder", "the file"])
def test_a_disk_that_refuses_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str) -> None:
    if cut == "the folder":
        (tmp_path / "cache").write_text("in the way")
    else:
        monkeypatch.setattr(Path, "replace", _full)
        monkeypatch.setattr(os, "link", _full)
    keep(tmp_path / "cache", KEY, CODE)
    assert load(tmp_path / "cache", KEY) is None
    if cut == "the file":
        assert list((tmp_path / "cache").iterdir()) == []


def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")
