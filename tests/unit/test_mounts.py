"""mountinfo is read as the kernel writes it, and by the janitor alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inject.errors import CannotRun
from inject.process.cgroup import hierarchy, writable_hierarchy
from inject.process.janitor import mount_points
from inject.process.mounts import Mount, holders, mounts, mounts_of

LINES = r"""22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw
41 22 0:50 / /mnt/a\040b\134c rw - bcachefs /dev/vdb1:/dev/vdc1 rw
42 22 0:50 /sub /bind rw master:3 propagate_from:2 - bcachefs /dev/vdb1:/dev/vdc1 rw
43 22 0:51 / /empty rw - tmpfs  rw
""".replace("\\\\", "\\")


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text(LINES)
    return file


def test_mounts(mountinfo: Path) -> None:
    found = mounts(mountinfo)
    assert found[0] == Mount(259 << 20 | 1, "/", "/", "ext4", ("/dev/root",))
    assert (found[2].point, found[2].sources) == ("/mnt/a b\\c", ("/dev/vdb1", "/dev/vdc1"))
    assert [mount.root for mount in found] == ["/", "/", "/", "/sub", "/"]


def test_mounts_of_a_device(mountinfo: Path) -> None:
    assert [mount.point for mount in mounts_of(("/dev/vdc1",), mountinfo)] == ["/mnt/a b\\c", "/bind"]
    assert mounts_of((), mountinfo) == []


def test_the_hierarchy(mountinfo: Path) -> None:
    assert hierarchy(mountinfo) == Path("/sys/fs/cgroup")
    mountinfo.write_text(LINES.replace("0:27 /", "0:27 /part"))
    with pytest.raises(CannotRun, match="no cgroup v2 hierarchy is mounted"):
        hierarchy(mountinfo)


def test_a_writable_mount_of_the_hierarchy_is_preferred(mountinfo: Path) -> None:
    closed = LINES.replace("cgroup rw,nosuid", "cgroup ro,nosuid")
    mountinfo.write_text(closed)
    assert [mount.point for mount in mounts(mountinfo) if mount.read_only] == ["/sys/fs/cgroup"]
    with pytest.raises(CannotRun, match="on /sys/fs/cgroup is mounted read-only; mount -o remount,rw /sys/fs/cgroup"):
        writable_hierarchy(mountinfo)
    mountinfo.write_text(closed + "44 22 0:27 / /other rw - cgroup2 cgroup2 rw\n")
    assert writable_hierarchy(mountinfo) == hierarchy(mountinfo) == Path("/other")
    mountinfo.write_text(LINES.replace("cgroup2 cgroup2 rw", "cgroup2 cgroup2 ro"))
    with pytest.raises(CannotRun, match="read-only"):
        writable_hierarchy(mountinfo)


def test_the_janitor_reads_the_same() -> None:
    assert mount_points() == [mount.point for mount in mounts()]


def test_holders_are_named(tmp_path: Path) -> None:
    program = "print(flush=True); import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert holders(tmp_path).startswith("held by python") and f"/{process.pid}" in holders(tmp_path)
        process.kill()
    assert holders(tmp_path / os.urandom(4).hex()) == ""
