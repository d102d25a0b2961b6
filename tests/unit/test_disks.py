"""A guest's disks have no name, so that nothing stays of them, whenever inject is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inject.errors import CannotRun
from inject.vm import disks
from inject.vm.disks import Disks, Parts, path_of, unnamed_file
from tests.support import ROOT

MAKE = """
import sys
from pathlib import Path
from inject.vm.disks import Disks, Parts
root = Path(sys.argv[2])
root.with_name("begun").touch()
made = Disks(sys.argv[1], Parts(root, root, None, Path.cwd()))
root.with_name("made").touch()
sys.stdin.read()
"""
TOOL = """#!/bin/sh
sleep 0.2
for word; do case $word in /proc/self/fd/*) echo made >$word;; esac; done
sleep 0.2
"""


@pytest.fixture()
def tool(tmp_path: Path) -> Path:
    """Stands for a slow qemu-img, which is not installed everywhere."""
    made = tmp_path / "qemu-img"
    made.write_text(TOOL)
    made.chmod(0o755)
    return made


@pytest.fixture()
def place(tmp_path: Path) -> Path:
    made = tmp_path / "place"
    made.mkdir()
    return made


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_sigkill_leaves_no_file(tmp_path: Path, tool: Path, place: Path, moment: float) -> None:
    root = tmp_path / "root"
    root.write_bytes(b"x" * 4096)
    command = [sys.executable, "-c", MAKE, str(tool), str(root)]
    environment = {**os.environ, "TMPDIR": str(place)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE) as process:
        until = time.monotonic() + 30
        while not (tmp_path / "begun").exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(moment)
        assert list(place.iterdir()) == []
        process.send_signal(signal.SIGKILL)
    time.sleep(0.3)  # what runs on after it
    assert list(place.iterdir()) == []


def test_a_filesystem_without_such_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(disks.os, "O_TMPFILE", os.O_DIRECTORY, raising=False)  # opening it to write is EISDIR
    fd = unnamed_file()
    os.write(fd, b"x")
    assert (Path(path_of(fd)).read_bytes(), list(place.iterdir())) == (b"x", [])
    os.close(fd)


def test_a_place_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(CannotRun, match="cannot make a file in .*: No such file"):
        unnamed_file()


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_the_disks_are_what_they_say(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(place))
    root = tmp_path / "root"
    root.write_bytes(b"x" * (1 << 20))
    made = Disks("qemu-img", Parts(root, root, None, ROOT))
    info = ["qemu-img", "info"]
    fds = tuple(made.fds)
    told = {
        disk.serial: subprocess.run([*info, disk.path], pass_fds=fds, capture_output=True, text=True, check=True).stdout
        for disk in made.all
    }
    made.close()
    assert f"backing file: {root}" in told["inject-root"]
    assert all("virtual size: 8 GiB" in told[f"inject-scratch{number}"] for number in range(disks.SCRATCH_DISKS))
    assert "file format: raw" in told["inject-checkout"]
    assert made.fds == []
