"""Each oracle bites when its damage is planted, and keeps quiet where there is none."""

import contextlib
import ctypes
import mmap
import os
import resource
from dataclasses import replace

import pytest

from inject.filesystems import TYPES
from inject.fixture.filesystem import Fixture
from inject.kernel.log import LogReader, LogWriter
from inject.model.verdict import Reason
from inject.oracles import DEFAULTS, choose, viewer
from inject.oracles.coherence import Coherence, Recovery
from inject.oracles.dmesg import Dmesg
from inject.oracles.fsck import Fsck
from inject.oracles.leaks import Leaks, allocated
from inject.oracles.page_cache import resident
from inject.oracles.remount import Remount
from inject.oracles.reservations import Reservations, reserved_sectors
from tests.support.command import inject
from tests.support.waiting import wait_for
from tests.support.workbench import guest_only, sh

pytestmark = [guest_only, pytest.mark.test_kernel]

FILL = "mkdir d; for i in $(seq 100); do echo $i >d/f$i; done; ln -s kept link"


LIBC = ctypes.CDLL(None, use_errno=True)


def kmsg(text):
    """One line from user space, as a workload could write it."""
    with open("/dev/kmsg", "w") as log:  # noqa: PTH123
        log.write(text)


def of_the_kernel(text):
    """One line that the kernel prints: tmpfs: Unknown parameter 'TEXT' (mount(2) without fsopen(2) logs it)."""
    assert LIBC.mount(b"none", b"/mnt", b"tmpfs", 0, text.encode()) == -1


def fill(fixture: Fixture):
    """Files, one of them with content that is nowhere else on the disk."""
    fixture.content = os.urandom(1 << 16)
    (fixture.mountpoint / "kept").write_bytes(fixture.content)
    sh(f"cd {fixture.mountpoint}; {FILL}; sync -f .")


# ---------------------------------------------------------------- which ones


def test_defaults_and_what_is_not_there_yet(place):
    assert DEFAULTS == ("coherence", "dmesg", "fsck", "leaks", "recovery", "remount", "reservations")
    assert [oracle.name for oracle in choose(place.context())] == ["dmesg"]
    with place.fixture("bcachefs", size=128 << 20) as fixture:
        names = ["coherence", "recovery", "reservations", "fsck", "leaks", "remount", "dmesg"]
        assert [oracle.name for oracle in choose(place.context(fixture))] == names
    with place.fixture("ext4") as fixture:
        names = ["coherence", "recovery", "fsck", "leaks", "remount", "dmesg"]
        assert [oracle.name for oracle in choose(place.context(fixture))] == names
        chosen = choose(place.context(fixture, checks=("dmesg", "fsck")))
        assert [oracle.name for oracle in chosen] == ["fsck", "dmesg"]
        assert choose(place.context(fixture, checks=())) == []


# ---------------------------------------------------------------- dmesg


def watched(place, lines, **keys):
    """The complaint after the kernel printed ``lines``."""
    context = place.context(**keys)
    oracle = Dmesg()
    oracle.before(context)
    for line in lines:
        of_the_kernel(line)
    oracle.settled(context)
    return oracle.after(context)


def test_dmesg_bites_on_a_planted_bug(place):
    complaint = watched(place, ["harmless", "BUG: planted by a test", "behind it"])
    assert complaint.reason is Reason.DMESG
    assert complaint.detail == "tmpfs: Unknown parameter 'BUG: planted by a test'"
    assert complaint.log[:2] == (complaint.detail, "tmpfs: Unknown parameter 'behind it'")


def test_dmesg_is_quiet_without_and_with_allow(place):
    assert watched(place, ["harmless"]) is None
    assert watched(place, ["BUG: planted by a test"], allow=("'BUG: planted",)) is None


@pytest.mark.parametrize("prefix", ["", "<0>", "<4>", "<14>", "<4294967295>"])
def test_dmesg_never_takes_a_line_of_user_space_for_a_splat(place, prefix):
    context = place.context()
    oracle = Dmesg()
    oracle.before(context)
    kmsg(f"{prefix}BUG: planted by user space\n")
    assert oracle.after(context) is None
    assert any(record.text == "BUG: planted by user space" for record in oracle._records)


def test_dmesg_does_not_see_what_was_before(place):
    kmsg("BUG: planted before")  # without a newline: the kernel hides it until another line comes
    with LogReader() as log:
        assert log.read() == []


def test_dmesg_sees_a_last_line_without_a_newline(place):
    context = place.context()
    oracle = Dmesg()
    oracle.before(context)
    kmsg("planted and cut short")
    assert oracle.after(context) is None
    assert any(record.text == "planted and cut short" for record in oracle._records)


def test_dmesg_never_takes_our_markers_for_a_splat(place):
    context = place.context()
    oracle = Dmesg()
    oracle.before(context)
    writer = LogWriter("BUG: scenario/WARNING: x")
    writer.begin(1)
    writer.end()
    assert writer.trouble == ""
    assert oracle.after(context) is None
    assert sum(not record.by_kernel for record in oracle._records) == 3


def test_dmesg_sees_a_new_taint_flag(place):
    context = place.context()
    oracle = Dmesg()
    oracle.before(context)
    sh("echo 64 >/proc/sys/kernel/tainted")  # U: the one that is there for user space
    complaint = oracle.after(context)
    assert complaint.detail == "the kernel has new taint flags: U (requested by user space)"
    again = Dmesg()
    again.before(context)
    assert again.after(context) is None


@pytest.mark.slow
def test_an_overflowed_log_is_noticed(place):
    context = place.context()
    oracle = Dmesg()
    oracle.before(context)
    line = "x" * 900
    for _ in range(3000):  # far more than a log buffer of 1 MB
        kmsg(line)
    complaint = oracle.after(context)
    assert complaint.inconclusive
    assert "the kernel log overflowed" in complaint.detail


def test_a_filesystem_that_gave_up_is_a_complaint_unless_allowed(place):
    for allow, complains in (((), True), (("XFS .* Shutting down filesystem", "XFS .* shut down"), False)):
        context = place.context(allow=allow)
        oracle = Dmesg()
        oracle.before(context)
        with place.fixture("xfs") as fixture:
            sh(f"xfs_io -x -c shutdown {fixture.mountpoint}")
        assert (oracle.after(context) is not None) == complains


# ---------------------------------------------------------------- fsck


def checked(place, fixture):
    oracle = Fsck()
    return oracle, oracle.after(place.context(fixture))


SHUTDOWN = ("bcachefs", "ext4", "xfs", "f2fs")


@pytest.mark.parametrize("kind", TYPES)
def test_fsck_is_quiet_on_a_clean_filesystem(place, kind):
    with place.fixture(kind) as fixture:
        fill(fixture)
        fixture.umount()
        assert checked(place, fixture)[1] is None


@pytest.mark.parametrize("kind", SHUTDOWN)
def test_fsck_takes_an_unclean_shutdown_for_what_it_is(place, kind):
    with place.fixture(kind) as fixture:
        fill(fixture)
        mnt = fixture.mountpoint
        sh(f"cd {mnt}; for i in $(seq 300); do echo $i >d/g$i; done; rm d/f1*; sync d/g7; xfs_io -x -c shutdown .")
        fixture.umount()
        oracle, complaint = checked(place, fixture)
        assert complaint is None, complaint
        assert bool(oracle.notes) == (kind in ("ext4", "xfs", "f2fs"))


@pytest.mark.parametrize("kind", TYPES)
def test_fsck_takes_failed_writes_for_what_they_are(place, kind):
    """Every write fails from some point on: an emergency read-only, an aborted journal, a shutdown."""
    fail = "/sys/kernel/debug/fail_make_request"
    with place.fixture(kind) as fixture:
        fill(fixture)
        switch = f"/sys/class/block/{os.path.basename(fixture.devices[0])}/make-it-fail"  # noqa: PTH119
        sh(
            f"cd {fixture.mountpoint}; for i in $(seq 300); do echo $i >d/h$i; done; rm d/f2*;"
            f"echo 100 >{fail}/probability; echo -1 >{fail}/times; echo 0 >{fail}/verbose;"
            f"echo 1 >{switch}; sync -f . || :; touch y || :; sync -f . || :;"
            f"echo 0 >{switch}; echo 0 >{fail}/probability"
        )
        fixture.umount()
        assert checked(place, fixture)[1] is None


def break_bcachefs(device):
    sh(f"bcachefs kill_btree_node -b inodes -l 0 -i 0 {device}")


def break_ext4(device):
    sh(f"debugfs -w -R 'sif kept links_count 9' {device}")


def break_xfs(device):
    sh(f"xfs_db -x -c 'inode 128' -c 'write -d core.nlinkv2 77' {device}")


def break_btrfs(device):
    leaf = sh(f"btrfs inspect-internal dump-tree -t 5 {device} | grep -om1 'leaf [0-9]*'").split()[1]
    map_ = sh(f"btrfs-map-logical -l {leaf} {device}")
    for line in map_.splitlines():
        offset = line.split("physical ")[1].split()[0]
        sh(f"dd if=/dev/urandom of={device} bs=1 seek=$(({offset}+200)) count=512 conv=notrunc status=none")


def break_f2fs(device):
    """Overwrite the last node that the table of nodes names."""
    sh(
        f"cd $(mktemp -d); dump.f2fs -n 0~-1 {device}; block=$(tail -n1 dump_nat | grep -o 'blkaddr: *[0-9]*');"
        f"dd if=/dev/urandom of={device} bs=4096 seek=${{block##*[: ]}} count=1 conv=notrunc status=none"
    )


BREAK = {
    "bcachefs": break_bcachefs,
    "ext4": break_ext4,
    "xfs": break_xfs,
    "btrfs": break_btrfs,
    "f2fs": break_f2fs,
}


@pytest.mark.parametrize("kind", TYPES)
def test_fsck_bites_on_planted_damage(place, kind):
    with place.fixture(kind) as fixture:
        fill(fixture)
        fixture.umount()
        BREAK[kind](fixture.devices[0])
        complaint = checked(place, fixture)[1]
        assert complaint is not None
        assert complaint.reason is Reason.CHECK and not complaint.inconclusive
        assert "exited with" in complaint.detail and complaint.log


@pytest.mark.parametrize("kind", TYPES)
def test_fsck_bites_on_a_superblock_that_is_gone(place, kind):
    with place.fixture(kind) as fixture:
        fixture.umount()
        wipe(fixture)
        complaint = checked(place, fixture)[1]
        assert complaint is not None and not complaint.inconclusive


# ---------------------------------------------------------------- remount


def remounted(place, fixture, workload="", damage=None):
    """The complaint after ``workload`` with the filesystem mounted and ``damage`` done to the device."""
    context = place.context(fixture)
    oracle = Remount()
    oracle.before(context)
    sh(f"cd {fixture.mountpoint}; {workload or ':'}")
    oracle.settled(context)
    fixture.umount()
    if damage is not None:
        damage(fixture)
    complaint = oracle.after(context)
    assert not fixture.mounted
    return complaint


def change_byte(fixture):
    """One byte of the kept file, behind the filesystem's back."""
    with open(fixture.devices[0], "r+b") as disk:  # noqa: PTH123
        for at in range(0, fixture.spec.size, 1024):  # the smallest block: ext4's on small devices
            disk.seek(at)
            if disk.read(1024) == fixture.content[:1024]:
                disk.seek(at + 100)
                disk.write(bytes([fixture.content[100] ^ 1]))
                break
        else:
            raise AssertionError("the file is not on the disk")
    sh("sync; echo 3 >/proc/sys/vm/drop_caches")


def wipe(fixture):
    """No superblock any more."""
    sh(f"dd if=/dev/zero of={fixture.devices[0]} bs=1M count=4 conv=notrunc status=none")


SMALL = {name: max(64 << 20, kind.mkfs.smallest + (4 << 20)) for name, kind in TYPES.items()}


@pytest.mark.parametrize("kind", TYPES)
def test_remount_is_quiet_when_all_is_well(place, kind):
    with place.fixture(kind) as fixture:
        fill(fixture)
        workload = "echo more >>d/f1; rm d/f2; mv d/f3 d/moved; mkdir new; touch new/x; truncate -s 0 d/f4"
        assert remounted(place, fixture, workload) is None


@pytest.mark.parametrize("kind", TYPES)
def test_remount_bites_on_a_changed_byte(place, kind):
    mkfs = ("--data_checksum=none",) if kind == "bcachefs" else ()
    with place.fixture(kind, size=SMALL[kind], mkfs=mkfs) as fixture:
        fill(fixture)
        complaint = remounted(place, fixture, damage=change_byte)
        assert complaint.reason is Reason.CHECK
        if kind == "btrfs":  # it has checksums itself, and says so
            assert complaint.log == ("kept: cannot read: Input/output error",)
        else:
            assert complaint.log[0].startswith("kept: other content (sha256 ")


def test_remount_bites_when_checksums_of_bcachefs_refuse_the_data(place):
    with place.fixture("bcachefs", size=64 << 20) as fixture:
        fill(fixture)
        complaint = remounted(place, fixture, damage=change_byte)
        assert complaint.log == ("kept: cannot read: Input/output error",)


def test_remount_does_not_compare_what_the_workload_touched(place):
    with place.fixture("ext4", size=64 << 20) as fixture:
        fill(fixture)
        assert remounted(place, fixture, "touch kept", damage=change_byte) is None


def test_remount_bites_on_a_file_that_is_gone(place):
    with place.fixture("ext4", size=64 << 20) as fixture:
        fill(fixture)
        complaint = remounted(
            place, fixture, damage=lambda fixture: sh(f"debugfs -w -R 'unlink d/f7' {fixture.devices[0]}")
        )
        assert complaint.log == ("d/f7: is gone",)


@pytest.mark.parametrize("kind", TYPES)
def test_remount_bites_on_a_device_that_does_not_mount(place, kind):
    with place.fixture(kind) as fixture:
        complaint = remounted(place, fixture, damage=wipe)
        assert complaint.detail.startswith("does not mount again: ")


def test_remount_copes_with_a_workload_that_unmounts(place):
    with place.fixture("ext4", size=64 << 20) as fixture:
        fill(fixture)
        assert remounted(place, fixture, "cd /; umount $OLDPWD") is None
    with place.fixture("ext4", size=64 << 20) as fixture:
        fill(fixture)
        complaint = remounted(place, fixture, "cd /; umount $OLDPWD", damage=change_byte)
        assert complaint.log[0].startswith("kept: other content")


def test_a_shutdown_hides_no_loss_from_remount(place):
    """After it, xfs answers EIO to everything: the state after the workload cannot be read."""
    with place.fixture("xfs", size=SMALL["xfs"]) as fixture:
        fill(fixture)
        assert remounted(place, fixture, "xfs_io -x -c shutdown .") is None
    with place.fixture("xfs", size=SMALL["xfs"]) as fixture:
        fill(fixture)
        complaint = remounted(place, fixture, "xfs_io -x -c shutdown .", damage=change_byte)
        assert complaint.log[0].startswith("kept: other content")


def test_remount_says_what_a_shutdown_hid(place):
    with place.fixture("xfs", size=SMALL["xfs"]) as fixture:
        fill(fixture)
        context, oracle = place.context(fixture), Remount()
        oracle.before(context)
        sh(f"cd {fixture.mountpoint}; rm d/f1; sync -f .; xfs_io -x -c shutdown .")
        oracle.settled(context)
        fixture.umount()
        assert oracle.after(context) is None
        (note,) = oracle.notes
        assert note.startswith("remount: 2 of 103 synced names were not compared: they differ, and could not be read")


@pytest.mark.parametrize("kind", TYPES)
def test_remount_leaves_the_page_cache_as_it_was(place, kind):
    with place.fixture(kind) as fixture:
        fill(fixture)
        sh("echo 1 >/proc/sys/vm/drop_caches")
        file = fixture.mountpoint / "kept"
        for warm in (False, True):
            handle = os.open(file, os.O_RDONLY)
            try:
                if warm:
                    os.read(handle, 1 << 20)
                Remount().before(place.context(fixture))
                assert sum(page & 1 for page in resident(handle, 16)) == 16 * warm
            finally:
                os.close(handle)


def test_remount_reports_what_it_did_not_look_at(place, monkeypatch):
    monkeypatch.setattr("inject.oracles.remount.MAX_NAMES", 10)
    with place.fixture("ext4", size=64 << 20) as fixture:
        fill(fixture)
        context = place.context(fixture)
        oracle = Remount()
        oracle.before(context)
        assert oracle.notes == ["remount: before the fault only the first 10 names were read"]


# ---------------------------------------------------------------- coherence, recovery


def looked(place, fixture, oracle):
    """The complaint of an oracle that looks while the filesystem is mounted."""
    context = place.context(fixture)
    oracle.before(context)
    oracle.settled(context)
    return oracle.after(context)


@pytest.mark.parametrize("kind", TYPES)
def test_coherence_and_recovery_are_quiet_when_all_is_well(place, kind):
    with place.fixture(kind, size=SMALL[kind]) as fixture:
        fill(fixture)
        mnt = fixture.mountpoint
        sh(f"cd {mnt}; truncate -s 1M holes; head -c 15000 /dev/urandom | dd of=holes bs=5000 seek=7 conv=notrunc")
        assert looked(place, fixture, Coherence()) is None
        assert looked(place, fixture, Recovery()) is None
        assert not list(mnt.glob(".inject-*"))


@pytest.mark.parametrize("kind", ("ext4", "xfs", "bcachefs"))
def test_coherence_bites_on_a_stale_page(place, kind):
    """The disk is changed behind the filesystem's back; the page cache still holds what was there."""
    mkfs = ("--data_checksum=none",) if kind == "bcachefs" else ()
    with place.fixture(kind, size=SMALL[kind], mkfs=mkfs) as fixture:
        fill(fixture)
        sh(f"cat {fixture.mountpoint}/kept >/dev/null")
        keep = (fixture.mountpoint / "kept").open("rb")  # change_byte() drops clean pages: a mapping keeps them
        with keep, contextlib.closing(viewer.mmap.mmap(keep.fileno(), 0, prot=viewer.mmap.PROT_READ)) as held:
            assert held[:1] == fixture.content[:1] and len(held[:]) == 1 << 16
            change_byte(fixture)
            complaint = looked(place, fixture, Coherence())
        assert complaint.reason is Reason.CHECK
        assert complaint.detail.startswith("kept: the page cache and the disk disagree: byte 100 is ")


def test_coherence_bites_on_blocks_that_are_not_the_extents(place):
    """ext4 counts the block of a large extent tree in st_blocks; bcachefs has nothing to count but extents."""
    with place.fixture("ext4", size=64 << 20) as fixture:
        sh(f"for i in $(seq 0 2 400); do echo pwrite -q $((i*4096)) 4096; done | xfs_io -f {fixture.mountpoint}/many")
        sh(f"sync -f {fixture.mountpoint}")
        rows = list(viewer.views(str(fixture.mountpoint), 100, 1 << 30, True))
        assert rows[0][:2] == ("differs", "many")
        assert rows[0][2].startswith("stat says ") and rows[0][2].endswith(f"its extents are {201 * 4096}")
        assert list(viewer.views(str(fixture.mountpoint), 100, 1 << 30, False)) == [("end", "", "")]


def test_recovery_bites_on_a_filesystem_that_refuses(place):
    with place.fixture("ext4", size=64 << 20) as fixture:
        sh(f"chattr +i {fixture.mountpoint}")
        complaint = looked(place, fixture, Recovery())
        assert complaint.log == ("mkdir: Operation not permitted",)
        sh(f"chattr -i {fixture.mountpoint}")


# ---------------------------------------------------------------- reservations


def test_reservations_are_quiet_when_all_is_well(place):
    with place.fixture("bcachefs", size=128 << 20) as fixture:
        fill(fixture)
        sh(f"dd if=/dev/zero of={fixture.mountpoint}/dirty bs=1M count=8 status=none")
        assert reserved_sectors(fixture) > 0, "data that is not written yet holds a reservation"
        assert looked(place, fixture, Reservations()) is None
        sh("echo 1 > /proc/sys/vm/drop_caches")  # what a clean folio still holds goes with the folio
        wait_for(lambda: reserved_sectors(fixture) == 0, "the reservation is given back")


def test_reservations_bite_when_some_are_not_given_back(place, monkeypatch):
    """A dirty folio cut near its start goes on holding the rest, and a mapped one is not dropped."""
    monkeypatch.setattr("inject.oracles.reservations.QUIET", 1.0)
    with place.fixture("bcachefs", size=128 << 20) as fixture:
        context = place.context(fixture)
        oracle = Reservations()
        oracle.before(context)
        file = fixture.mountpoint / "held"
        file.write_bytes(bytes(1 << 20))
        os.truncate(file, 1000)
        with file.open("r+b") as handle, mmap.mmap(handle.fileno(), 1000) as held:
            assert held[0] == 0  # the folio is in the page tables from here on
            oracle.settled(context)
            complaint = oracle.after(context)
        assert complaint is not None, "nothing is held"
        assert "sectors are still reserved" in complaint.detail and complaint.reason is Reason.CHECK


def test_reservations_bite_on_free_space_that_cannot_be_had(place):
    """The claim runs into a limit on the size of files, as it would into an early ENOSPC."""
    with place.fixture("bcachefs", size=128 << 20) as fixture:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, limits[1]))
        try:
            complaint = looked(place, fixture, Reservations())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "bytes are available, but " in complaint.detail


def test_reservations_bite_on_space_that_does_not_come_back(place, monkeypatch):
    """What was claimed is kept in a file, as by an accounting that has lost it."""

    def claim(root, size):
        with open(os.path.join(root, "kept"), "w") as file:  # noqa: PTH118, PTH123
            os.posix_fallocate(file.fileno(), 0, size)
        return ""

    monkeypatch.setattr("inject.oracles.reservations._claim", claim)
    monkeypatch.setattr("inject.oracles.reservations.QUIET", 1.0)
    with place.fixture("bcachefs", size=128 << 20) as fixture:
        complaint = looked(place, fixture, Reservations())
        assert "bytes are still in use 1 s after" in complaint.detail


def test_reservations_say_that_there_is_too_little_to_claim(place):
    with place.fixture("bcachefs", size=64 << 20) as fixture:
        status = os.statvfs(fixture.mountpoint)
        with (fixture.mountpoint / "filler").open("w") as file:
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - (6 << 20))
        oracle = Reservations()
        assert looked(place, fixture, oracle) is None
        assert "too few for the check" in oracle.notes[0]


# ---------------------------------------------------------------- leaks


@pytest.mark.parametrize("kind", TYPES)
def test_leaks_are_none_when_all_is_well(place, kind):
    quiet = allocated(kind)
    with place.fixture(kind, size=SMALL[kind]) as fixture:
        oracle, context = Leaks(), replace(place.context(fixture), allocated=quiet)
        assert oracle.applies(context)
        fill(fixture)
        oracle.before(context)
        fixture.umount()
        complaint = oracle.after(context)
        assert complaint is None, complaint


@pytest.mark.parametrize("kind", TYPES)
def test_leaks_bite_on_a_file_that_is_still_open(place, kind, monkeypatch):
    """A lazy unmount: the mount is gone, the filesystem and its memory are not."""
    quiet = allocated(kind)
    with place.fixture(kind, size=SMALL[kind]) as fixture:
        context = replace(place.context(fixture), allocated=quiet)
        oracle = Leaks()
        oracle.before(context)
        with monkeypatch.context() as patch, (fixture.mountpoint / "open").open("w"):
            patch.setattr("inject.oracles.leaks.QUIET", 0.5)
            sh(f"umount -l {fixture.mountpoint}")
            complaint = oracle.after(context)
            assert complaint.detail.startswith(f"{fixture.devices[0]} is in use 0.5 s after the unmount")
            patch.setattr("inject.oracles.leaks.in_use", lambda _: False)
            complaint = oracle.after(context)
        if kind == "ext4":  # the guest's root is one, too: whose memory it is cannot be told
            assert complaint is None
        else:
            assert f"call sites of {kind} have not freed their memory" in complaint.detail
            assert complaint.log and all(line.startswith(f"fs/{kind}/") for line in complaint.log)
        assert oracle.after(context) is None


def test_leaks_bite_on_a_mount_elsewhere(place, monkeypatch):
    monkeypatch.setattr("inject.oracles.leaks.QUIET", 0.5)
    other = place.directory / "other"
    with place.fixture("xfs", size=SMALL["xfs"]) as fixture:
        context = place.context(fixture)
        oracle = Leaks()
        oracle.before(context)
        other.mkdir()
        sh(f"mount --bind {fixture.mountpoint} {other}")
        fixture.umount()
        assert oracle.after(context).detail == f"it is still mounted at {other}"
        sh(f"umount {other}")
        assert oracle.after(context) is None


def test_leaks_take_no_scanned_device_for_one(place, monkeypatch):
    """The kernel keeps both devices after the unmount, until it is told to forget them."""
    monkeypatch.setattr("inject.oracles.leaks.QUIET", 0.5)
    quiet = allocated("btrfs")
    with place.fixture("btrfs", devices=2, size=SMALL["btrfs"]) as fixture:
        context, oracle = replace(place.context(fixture), allocated=quiet), Leaks()
        oracle.before(context)
        with monkeypatch.context() as patch:
            patch.setattr(Fixture, "forget", lambda _: None)
            fixture.umount()
            assert "call sites of btrfs have not freed their memory" in oracle.after(context).detail
        assert oracle.after(context) is None


LEAK = "modprobe inject_test 2>/dev/null || insmod $(find /lib/modules -name inject_test.ko)"


@pytest.mark.debug_kernel
def test_leaks_bite_on_memory_that_nothing_points_to(place):
    with place.fixture("ext4") as fixture:
        context = place.context(fixture)
        oracle = Leaks()
        oracle.before(context)
        sh(f"{LEAK}; for i in 1 2 3; do echo 5000 >/sys/kernel/debug/inject_test/leak; done")
        fixture.umount()
        complaint = oracle.after(context)
        assert complaint.detail.startswith("kmemleak: ")
        assert any("leak_write" in line for line in complaint.log)


@pytest.mark.debug_kernel
def test_a_slow_kernel_gets_more_time(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(
        "name: own\nfaults: [{function: __x64_sys_mkdir, return: -EIO}]\ntimeout: 2\nrun: mkdir x || sleep 60\n"
    )
    done = inject("run", str(file))
    assert (done.returncode, "the workload was still running after 6 s" in done.stdout) == (1, True)
