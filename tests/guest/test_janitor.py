"""However the tool ends, nothing is left: a real tool, really killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.process.cgroup import hierarchy
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


def start(kind, when="late", around=()):
    """A tool with everything that a tool can have; (process, janitor's pid, the names of what it made).

    ``around`` is a command line that runs it.
    """
    argv = [*around, sys.executable, "-c", TOOL, kind, when]
    tool = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True, env={**os.environ, "JOB": "17"})
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


@pytest.fixture
def job():
    """A control group as a service or a CI job has one, and a command line that runs a program in it."""
    group = hierarchy() / "job-17"
    group.mkdir()
    yield group, ["sh", "-c", 'echo 0 >"$0"/cgroup.procs; exec "$@"', str(group)]
    (group / "cgroup.kill").write_text("1")
    wait_for(lambda: "populated 0" in (group / "cgroup.events").read_text(), "the job's end")
    group.rmdir()


@pytest.mark.parametrize("kind", ["disks", "loop"])
def test_the_end_of_the_tools_own_cgroup_leaves_nothing(kind, job):
    """`systemctl stop`, `docker kill`: everything in the group ends at once, the janitor is not in it."""
    group, around = job
    tool, janitor, made = start(kind, around=around)
    assert str(tool.pid) in (group / "cgroup.procs").read_text().split()
    assert "JOB" not in Path(f"/proc/{janitor}/environ").read_text()
    (group / "cgroup.kill").write_text("1")
    end(tool)
    wait_for(lambda: gone(made), "everything is undone")


APART = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", '"$@"; sleep 600', "sh"]
"""Runs a program as process 2 of a PID namespace, which outlives it."""


def test_two_tools_with_one_process_number():
    """In two PID namespaces: the janitor of one leaves the other's workload alone."""
    tools = [start(kind, around=APART) for kind in ("loop", "loop")]
    try:
        (first, _, made), (_, _, others) = tools
        assert made[1] != others[1]
        sh(f"pkill -KILL -P {_first_of(first)}")
        wait_for(lambda: not Path(made[1]).exists() and not Path(made[0]).exists(), "everything of the first is undone")
        assert "populated 1" in (Path(others[1]) / "cgroup.events").read_text()
        assert others[0] in sh("losetup --list")
    finally:
        for tool, _, _ in tools:
            sh(f"pkill -KILL -P {_first_of(tool)} python || true")
        for tool, _, made in tools:
            wait_for(
                lambda made=made: not Path(made[0]).exists() and not Path(made[1]).exists(), "everything is undone"
            )
            os.killpg(tool.pid, signal.SIGKILL)
            end(tool)


def _first_of(tool):
    """The first process of the namespace that ``tool``, an unshare(1), made."""
    return sh(f"pgrep -P {tool.pid}").split()[0]


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
