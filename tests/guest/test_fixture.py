"""Scratch filesystems of every type: fresh, of the right size, and gone afterwards."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from inject.errors import CannotRun, InjectError
from inject.filesystems import TYPES
from inject.filesystems.base import Mkfs
from inject.fixture import devices as module
from inject.fixture.mkfs_cache import MkfsCache, zero
from inject.process.janitor import mount_points
from tests.support.workbench import guest_only, sh

pytestmark = guest_only


def size_of(device):
    return int(sh(f"blockdev --getsize64 {device}"))


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_made_mounted_remounted_and_gone(place, kind):
    with place.fixture(kind, size=320 << 20, mount=("noatime",)) as fixture:
        assert fixture.env == {"DEV": fixture.devices[0], "DEV1": fixture.devices[0], "MNT": str(fixture.mountpoint)}
        assert size_of(fixture.devices[0]) == 320 << 20
        (fixture.mountpoint / "file").write_text("kept")
        fixture.remount()
        assert (fixture.mountpoint / "file").read_text() == "kept"
        assert "noatime" in sh(f"grep {fixture.mountpoint} /proc/mounts")
    assert str(fixture.mountpoint) not in mount_points()
    assert not Path(fixture.devices[0]).exists()
    with place.fixture(kind, size=384 << 20) as fixture:
        assert size_of(fixture.devices[0]) == 384 << 20
        assert not (fixture.mountpoint / "file").exists()


@pytest.mark.parametrize(("kind", "mkfs"), [("bcachefs", ("--replicas=2",)), ("btrfs", ("-d", "raid1"))])
def test_several_devices(place, kind, mkfs):
    with place.fixture(kind, devices=3, size=256 << 20, mkfs=mkfs) as fixture:
        assert sorted(fixture.env) == ["DEV", "DEV1", "DEV2", "DEV3", "MNT"]
        assert len(set(fixture.devices)) == 3
        fixture.remount()


def test_disks_are_found_by_serial_number(place):
    serials = [(disk / "serial").read_text().strip() for disk in module.scratch_disks()]
    assert serials == [f"inject-scratch{number}" for number in range(len(serials))]


def test_loop_devices_where_there_are_no_scratch_disks(place, monkeypatch):
    monkeypatch.setattr(module, "scratch_disks", lambda: [])
    with place.fixture("ext4", size=64 << 20) as fixture:
        assert fixture.devices[0].startswith("/dev/loop")
        assert size_of(fixture.devices[0]) == 64 << 20
        (fixture.mountpoint / "file").write_bytes(os.urandom(1 << 20))
        fixture.remount()
    assert "scratch0" not in sh("losetup --list")


def test_no_room_for_the_file_behind_a_loop_device(place, monkeypatch):
    monkeypatch.setattr(module, "scratch_disks", lambda: [])
    fixture = place.fixture("ext4", size=1 << 40)
    with pytest.raises(InjectError, match=r"scratch devices need 1T below .* are free"):
        fixture.open()
    fixture.close()


@pytest.mark.parametrize(
    ("kind", "keys", "error", "words"),
    [
        ("xfs", {"size": 100 << 20}, InjectError, "xfs cannot be made on 100M; it needs devices of at least 300M"),
        ("btrfs", {"size": 100 << 20}, InjectError, "at least 109M"),
        ("bcachefs", {"size": 8 << 20}, InjectError, "at least 32M"),
        ("ext4", {"devices": 2}, InjectError, "ext4 takes one device, not 2"),
        ("btrfs", {"devices": 9}, CannotRun, "needs 9 scratch disks"),
        ("ext4", {"size": 1 << 40}, CannotRun, "needs scratch devices of 1T"),
        ("ext4", {"mkfs": ("-O", "nope")}, InjectError, "exited with 1: Invalid filesystem option set: nope"),
        ("ext4", {"mount": ("nope",)}, InjectError, "exited with 32: mount: .*Unknown parameter 'nope'"),
        ("minix", {}, InjectError, "inject cannot make a minix filesystem"),
    ],
)
def test_what_goes_wrong_is_said_in_words(place, kind, keys, error, words):
    with pytest.raises(error, match=words), place.fixture(kind, **keys):
        pass


@pytest.mark.parametrize("old", TYPES)
def test_bcachefs_is_made_over_every_old_filesystem(place, old):
    with place.fixture(old, size=320 << 20):
        pass
    with place.fixture("bcachefs", size=320 << 20) as fixture:
        assert fixture.mountpoint.is_mount()


@pytest.mark.parametrize("kind", [name for name, kind in TYPES.items() if kind.mkfs.smallest])
def test_the_stated_minimum_is_enough(place, kind):
    with place.fixture(kind, size=TYPES[kind].mkfs.smallest) as fixture:
        assert fixture.mountpoint.is_mount()


def test_a_busy_mount_names_its_holder(place):
    with place.fixture("ext4") as fixture:
        holder = subprocess.Popen(["sleep", "600"], cwd=fixture.mountpoint)
        with pytest.raises(InjectError, match=rf"Device or resource busy.*; held by sleep/{holder.pid}"):
            fixture.umount()
        holder.kill()
        holder.wait()


def test_a_mount_inside_is_undone_and_one_undone_by_the_workload_is_no_trouble(place):
    with place.fixture("ext4") as fixture:
        sh(f"mkdir {fixture.mountpoint}/in; mount -t tmpfs none {fixture.mountpoint}/in")
    assert not [p for p in mount_points() if p.startswith(str(fixture.mountpoint))]
    with place.fixture("ext4") as fixture:
        sh(f"umount {fixture.mountpoint}")


def test_a_mounted_disk_is_never_wiped(place):
    with place.fixture("ext4") as fixture, pytest.raises(InjectError, match="cannot wipe .*busy"):
        zero(fixture.devices[0], fixture.spec.size)


def test_a_prepared_filesystem_is_the_one_that_mkfs_made(place):
    """Made twice, then restored over any contents: the journal that was there bears the same UUID."""
    cache, uuids = MkfsCache(), []
    for _ in range(3):
        fixture = place.fixture("bcachefs", size=64 << 20, cache=cache)
        with fixture:
            assert sorted(p.name for p in fixture.mountpoint.iterdir()) == ["lost+found"]
            assert not sh(f"find {fixture.mountpoint}/lost+found -mindepth 1")
            (fixture.mountpoint / "file").write_bytes(os.urandom(1 << 20))
            sh(f"sync -f {fixture.mountpoint}; xfs_io -x -c shutdown {fixture.mountpoint}")
            uuids.append(sh(f"bcachefs show-super {fixture.devices[0]} | grep External"))
    assert uuids[0] != uuids[1] == uuids[2]
    with place.fixture("bcachefs", size=80 << 20, cache=cache) as fixture:
        assert sh(f"bcachefs show-super {fixture.devices[0]} | grep External") not in uuids


def test_the_cache_is_bounded(place):
    cache = MkfsCache(limit=1000)
    for _ in range(2):
        with place.fixture("bcachefs", size=64 << 20, cache=cache) as fixture:
            (fixture.mountpoint / "file").touch()
    assert not cache._images


MKFS_THAT_CRASHES = """
count=$(cat {file} 2>/dev/null || echo 0)
echo $((count + 1)) > {file}
[ "$count" -ge {times} ] || kill -SEGV $$
exec mkfs.ext4 -q -F "$@"
"""


def make_ext4_with(monkeypatch, script):
    argv = ("bash", "-c", script, "mkfs")
    monkeypatch.setitem(TYPES, "ext4", replace(TYPES["ext4"], mkfs=Mkfs(argv)))


def test_a_mkfs_that_crashes_is_repeated_and_noted(place, monkeypatch, tmp_path):
    script = MKFS_THAT_CRASHES.format(file=tmp_path / "count", times=2)
    make_ext4_with(monkeypatch, script)
    with place.fixture("ext4") as fixture:
        (fixture.mountpoint / "file").write_text("works")
        assert len(fixture.notes) == 2
        assert "was killed by SIGSEGV and was repeated" in fixture.notes[0]


def test_a_mkfs_that_always_crashes_ends_in_words(place, monkeypatch, tmp_path):
    script = MKFS_THAT_CRASHES.format(file=tmp_path / "count", times=1000)
    make_ext4_with(monkeypatch, script)
    with pytest.raises(InjectError, match="was killed by SIGSEGV"), place.fixture("ext4"):
        pass
    assert (tmp_path / "count").read_text() == "5\n"


def test_a_mkfs_that_refuses_is_not_repeated(place, monkeypatch, tmp_path):
    script = f"echo once >> {tmp_path}/count; echo no thanks; exit 1"
    make_ext4_with(monkeypatch, script)
    with pytest.raises(InjectError, match="no thanks"), place.fixture("ext4"):
        pass
    assert (tmp_path / "count").read_text() == "once\n"
