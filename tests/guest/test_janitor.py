"""However the tool ends, nothing is left: a real tool, really killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.process.janitor import Janitor, mount_points, undo_dir
from tests.support.waiting import wait_for
from tests.support.workbench import guest_only, sh

pytestmark = guest_only

TOOL = """
import os, sys, time
from inject.fixture import devices as module
from inject.process.cgroup import Cgroup
from inject.fixture.directory import trial_directory
from inject.fixture.filesystem import Fixture
from inject.process.janitor import Janitor
from inject.model.scenario import Filesystem
from inject.process.workload import Workload
if sys.argv[1] == "loop":
    module.scratch_disks = lambda: []
janitor = Janitor()
directory = trial_directory(janitor)
base = Cgroup.create(janitor)
spec = Filesystem("bcachefs", devices=2, size=64 << 20)
fixture = Fixture(spec, directory=directory, janitor=janitor, cgroup=base.child("tools"))
if sys.argv[2] != "early":
    fixture.open()
work = base.child("workload")
env = {**os.environ, "MNT": ".", **(fixture.env if fixture.devices else {})}
script = "trap '' TERM; cd $MNT; echo x >f; mkfifo g; sleep 600 & exec 3<>g; sleep 600"
workload = Workload(script, cgroup=work, cwd=directory, env=env)
workload.release()
print(janitor._process.pid, directory, base.path, *fixture.devices, flush=True)
if sys.argv[2] == "early":
    fixture.open()
time.sleep(600)
"""


def start(kind, when="late"):
    """A tool with everything that a tool can have; (process, janitor's pid, the names of what it made)."""
    tool = subprocess.Popen([sys.executable, "-c", TOOL, kind, when], stdout=subprocess.PIPE, start_new_session=True)
    janitor, directory, group, *devices = tool.stdout.readline().decode().split()
    return tool, int(janitor), (directory, group, *devices)


def gone(made):
    directory, group, *devices = made
    sleepers = subprocess.run(["pgrep", "-x", "sleep"], stdout=subprocess.DEVNULL, check=False).returncode == 0
    return not (
        Path(directory).exists()
        or Path(group).exists()
        or any(point.startswith(directory) for point in mount_points())
        or any(Path(device).exists() for device in devices if "loop" not in device)
        or directory in sh("losetup --list")
        or sleepers
    )


def end(tool):
    tool.wait()
    tool.stdout.close()


@pytest.mark.parametrize("kind", ["disks", "loop"])
def test_sigkill_leaves_nothing(kind):
    tool, janitor, made = start(kind)
    assert not gone(made)
    tool.kill()
    end(tool)
    wait_for(lambda: gone(made), "everything is undone")
    wait_for(lambda: not Path(f"/proc/{janitor}").exists() or "Z" in sh(f"cat /proc/{janitor}/stat"), "its end")


def test_sigkill_while_the_filesystem_is_being_made():
    tool, _, made = start("disks", "early")
    tool.kill()
    end(tool)
    wait_for(lambda: gone(made), "everything is undone")
    assert sh("lsblk --noheadings --raw --output TYPE").count("part") == 0


def test_signals_that_end_the_tool_do_not_end_the_janitor():
    tool, janitor, made = start("disks")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(janitor, number)
    assert not gone(made)
    os.killpg(tool.pid, signal.SIGKILL)
    end(tool)
    wait_for(lambda: gone(made), "everything is undone")


def test_a_mount_that_a_stranger_holds_goes_lazily():
    tool, _, made = start("disks")
    stranger = subprocess.Popen(["sleep", "601"], cwd=Path(made[0]) / "mnt")
    try:
        tool.kill()
        end(tool)
        wait_for(lambda: not any(point.startswith(made[0]) for point in mount_points()), "the lazy unmount")
    finally:
        stranger.kill()
        stranger.wait()
    wait_for(lambda: gone(made), "everything is undone")


def test_a_directory_with_a_mount_inside_is_not_emptied(place):
    with place.fixture("ext4") as fixture:
        (fixture.mountpoint / "precious").write_text("x")
        assert "a filesystem is mounted in it" in undo_dir(str(place.directory))
        assert (fixture.mountpoint / "precious").exists()


def test_what_is_released_is_left_alone(tmp_path):
    kept, lost = tmp_path / "kept", tmp_path / "lost"
    with Janitor() as janitor:
        for path in (kept, lost):
            janitor.register("dir", str(path))
            path.mkdir()
        janitor.release("dir", str(kept))
    assert kept.exists() and not lost.exists()


def test_odd_names_are_no_trouble(tmp_path):
    path = tmp_path / 'a "b"\n\t\\040é'
    with Janitor() as janitor:
        janitor.register("mount", str(path))
        path.mkdir()
        sh(f"mount -t tmpfs none '{path}'")
        assert str(path) in mount_points()
    assert str(path) not in mount_points()


def test_a_janitor_that_is_gone_is_noticed():
    janitor = Janitor()
    os.kill(janitor._process.pid, signal.SIGKILL)
    janitor._process.wait()
    with pytest.raises(InjectError, match="the janitor process has ended"):
        janitor.register("dir", "/nonexistent")
    janitor.close()
