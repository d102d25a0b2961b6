"""What the check makes of a checker's exit code and words; the checkers themselves run in the guest tests."""

import re
from types import SimpleNamespace

import pytest

from inject.filesystems import TYPES
from inject.filesystems.base import CheckProgram
from inject.oracles.fsck import Fsck


class Mounting:
    """A fixture that has never seen a filesystem: mounting makes the log clean, or fails."""

    devices = ("one", "two")
    spec = SimpleNamespace(type="fake")

    def __init__(self, code=0):
        self.mounts = 0
        self._code = code

    def try_mount(self):
        self.mounts += 1
        return SimpleNamespace(
            timed_out=False, code=self._code, last_line="mount: bad superblock", output="mount: bad superblock\n"
        )

    def umount(self):
        self.mounts += 10


def checked(monkeypatch, script, fixture=None, **keys):
    """The check, and its complaint about what ``script`` prints; ``$1`` is how often the devices were mounted."""
    fixture = fixture or Mounting()
    program = CheckProgram(("sh", "-c", script), (4,), **keys)
    monkeypatch.setitem(TYPES, "fake", SimpleNamespace(checker=program))
    check = Fsck()
    return check, check.after(SimpleNamespace(fixture=fixture, cgroup=None, limit=float))


@pytest.mark.parametrize(
    ("script", "detail", "inconclusive"),
    [
        ("exit 0", None, False),
        ("echo inode 7 is bad; exit 4", "exited with 4: inode 7 is bad", False),
        ("echo usage; exit 16", "exited with 16: usage", True),
        ("kill -SEGV $$", "was killed by SIGSEGV", True),
        ("echo 'tree [Fail] here'; echo done", r"exited with 0: tree \[Fail\] here", False),
        ("echo 'tree [Fail] here'; echo assertion; exit 255", r"exited with 255: tree \[Fail\] here", False),
    ],
)
def test_damage_is_told_from_a_checker_that_failed(monkeypatch, script, detail, inconclusive):
    complaint = checked(monkeypatch, script, damage=r"^tree \[Fail\].*")[1]
    if detail is None:
        assert complaint is None
    else:
        assert re.search(detail, complaint.detail) and complaint.inconclusive is inconclusive


def test_the_first_device_or_all(monkeypatch):
    for every, seen in ((False, "one"), (True, "one two")):
        complaint = checked(monkeypatch, 'echo "$0 $@"; exit 4', every_device=every)[1]
        assert complaint.detail.endswith(f"exited with 4: {seen}")


def test_a_dirty_log_is_replayed_by_the_kernel_first(monkeypatch, tmp_path):
    fixture = Mounting()
    script = f"[ -e {tmp_path}/again ] && exit 0; touch {tmp_path}/again; echo log is dirty; exit 4"
    check, complaint = checked(monkeypatch, script, fixture, unreplayed="is dirty")
    assert complaint is None and fixture.mounts == 11
    assert "dirty" in check.notes[0]


def test_a_log_that_cannot_be_replayed(monkeypatch):
    complaint = checked(monkeypatch, "echo log is dirty; exit 4", Mounting(code=32), unreplayed="is dirty")[1]
    assert "cannot replay it: mount: bad superblock" in complaint.detail and not complaint.inconclusive


F2FS = TYPES["f2fs"].checker


@pytest.mark.parametrize(
    ("state", "dirty"),
    [
        ("Info: checkpoint state = 185 :  trimmed nat_bits compacted_summary unmount", False),
        ("Info: checkpoint state = 44 :  crc compacted_summary sudden-power-off", True),
        ("Info: CKPT version = 773950d9", False),
    ],
)
def test_f2fs_says_whether_it_was_unmounted(state, dirty):
    """As fsck.f2fs 1.16 prints it."""
    assert bool(re.search(F2FS.unreplayed, state)) is dirty


@pytest.mark.parametrize(
    ("line", "damaged"),
    [
        ("[FSCK] SIT valid block bitmap checking                [Fail]", True),
        ("[FSCK] Unreachable nat entries                        [Fail] [0x1]", True),
        ("[FSCK] Hard link checking for regular file            [Ok..] [0x0]", False),
        ("\tCan't find a valid F2FS superblock at 0x0", False),
        ("\tCan't find a valid F2FS superblock at 0x1", True),
    ],
)
def test_f2fs_says_what_is_damaged(line, damaged):
    assert bool(re.search(F2FS.damage, f"Info: Dry run\n{line}\n", re.MULTILINE)) is damaged
