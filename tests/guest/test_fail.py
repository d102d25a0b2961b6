"""`inject fail` as one types it: filters, several faults, something that runs already, a scenario saved."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inject import scenario as scenarios
from inject.errors import InjectError
from inject.process import adopted
from inject.process.cgroup import hierarchy
from inject.process.janitor import Janitor
from tests.support import ROOT
from tests.support.command import Done, Tool, inject
from tests.support.loop import Loop
from tests.support.waiting import LIMIT, wait_for
from tests.support.workbench import KPROBES

pytestmark = pytest.mark.test_kernel

MKDIR, UNLINK, OPENAT = "__x64_sys_mkdir", "__x64_sys_unlink", "__x64_sys_openat"


def fail(*words: str, cwd: Path = ROOT) -> Done:
    """`inject fail WORDS`."""
    return inject("fail", *words, cwd=cwd)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No probe and no group of inject survives a command."""
    yield
    assert not KPROBES.read_text()
    assert not list(hierarchy().rglob("inject-*"))


def makes(tmp_path: Path, count: int) -> list[str]:
    """A command that makes ``count`` folders one by one and exits with 7 if one fails."""
    script = f"for i in $(seq {count}); do mkdir d$i || code=7; done; exit ${{code:-0}}"
    return ["--", "bash", "-c", f"cd {tmp_path} && {script}"]


def made(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.glob("d*")}


def test_the_nth_call_and_the_exit_code_of_the_command(tmp_path: Path) -> None:
    done = fail(MKDIR, "--return", "-EDQUOT", "--when", "nth=3", *makes(tmp_path, 5))
    assert done.returncode == 7, done.stderr
    assert made(tmp_path) == {"d1", "d2", "d4", "d5"}
    assert f"inject: {MKDIR} returned -EDQUOT once (5 calls seen, 5 matched)" in done.stderr
    assert "first in mkdir/" in done.stderr and f": {MKDIR} < " in done.stderr


def test_two_blocks_each_with_its_own_filters(tmp_path: Path) -> None:
    script = f"cd {tmp_path}; mkdir a; mkdir -m 700 b; touch f g; rm f; rm g; ls"
    done = fail(
        *(MKDIR, "--return", "-EDQUOT", "--comm", "mkdir", "--when", "nth=2"),
        *("--fault", "__x64_sys_unlinkat", "--return", "-EROFS", "--comm", "rm", "--times", "1"),
        *("--", "bash", "-c", script),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["a", "f"], done.stdout
    assert f"{MKDIR} returned -EDQUOT once" in done.stderr
    assert "__x64_sys_unlinkat returned -EROFS once" in done.stderr


def test_an_argument_with_a_mask_and_a_call_path(tmp_path: Path) -> None:
    """__bch2_disk_reservation_add's flags: the real filter of the issue, on a real filesystem."""
    image = tmp_path / "image"
    script = (
        f"truncate -s 256M {image}; dev=$(losetup -f --show {image}); mkdir -p {tmp_path}/mnt; "
        "for try in 1 2 3 4 5; do bcachefs format -q --force $dev >/dev/null </dev/null && break; done; "
        f"mount -i -t bcachefs $dev {tmp_path}/mnt; "
        f"fallocate -l 64M {tmp_path}/mnt/f; code=$?; umount {tmp_path}/mnt; losetup -d $dev; exit $code"
    )
    words = ["--return", "-BCH_ERR_ENOSPC_disk_reservation", "--arg", "flags&BCH_DISK_RESERVATION_NOFAIL=0"]
    function = "__bch2_disk_reservation_add"
    done = fail(function, *words, "--stack", "bch2_fallocate_dispatch", "--", "bash", "-c", script)
    assert done.returncode == 1, done.stderr + done.stdout
    assert "No space left on device" in done.stdout
    none = fail(function, *words, "--stack", "ext4_fallocate", "--", "bash", "-c", script)
    assert none.returncode == 1 and "fail (not-injected)" in none.stderr
    assert f"{function} returned -BCH_ERR_ENOSPC_disk_reservation never" in none.stderr


def test_a_device_that_is_none() -> None:
    done = fail("should_fail_bio", "--return", "-EIO", "--device", "/dev/null", "--", "true")
    assert done.returncode == 2
    assert "/dev/null is not a block device" in done.stderr


def test_only_the_device_that_is_named(tmp_path: Path) -> None:
    devices = []
    for name in ("a", "b"):
        image = tmp_path / name
        with image.open("wb") as file:
            file.truncate(16 << 20)
        shown = subprocess.run(["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=True)
        devices.append(shown.stdout.strip())
    try:
        script = "for d in $0 $1; do dd if=/dev/zero of=$d bs=64k count=4 oflag=direct 2>/dev/null; echo $d $?; done"
        done = fail("should_fail_bio", "--return", "-EIO", "--device", devices[1], "--", "bash", "-c", script, *devices)
        assert done.stdout.split() == [devices[0], "0", devices[1], "1"], done.stderr
    finally:
        for device in devices:
            subprocess.run(["losetup", "-d", device], check=True)


def test_expect_makes_the_verdict_the_exit_code(tmp_path: Path) -> None:
    words = [MKDIR, "--return", "-EDQUOT", "--nth", "1"]
    expect = ["--expect", "exit=7", "--expect", "errno=mkdir:EDQUOT", "--expect", "output=quota"]
    assert fail(*words, *expect, *makes(tmp_path, 2)).returncode == 0
    other = fail(*words, "--expect", "errno=mkdir:ENOSPC", "--expect", "exit=7", *makes(tmp_path, 4))
    assert other.returncode == 1
    assert "fail (errno)" in other.stderr


@pytest.mark.parametrize(("nth", "expect"), [("2", ()), ("99", ()), ("2", ("--expect", "exit=0"))])
def test_what_is_saved_gives_the_same_verdict(tmp_path: Path, nth: str, expect: tuple[str, ...]) -> None:
    """Passing or failing, with an expectation or with what was seen."""
    file = tmp_path / "saved.yaml"
    folder = tmp_path / "work"
    folder.mkdir()
    command = ["--", "bash", "-c", "rm -rf it's; mkdir it\\'s || true; mkdir \"it's/x y\""]
    done = fail(MKDIR, "--return", "-EDQUOT", "--nth", nth, *expect, "--save", str(file), *command, cwd=folder)
    words = "fail (" in done.stderr
    again = inject("run", str(file))
    assert (again.returncode == 1) == words, file.read_text() + again.stdout
    if words:
        reason = done.stderr.partition("fail (")[2].partition(")")[0]
        assert f"fail ({reason})" in again.stdout
    (scenario,) = scenarios.load([file])
    assert scenario.faults[0].when.trigger.nth == int(nth)
    assert file.read_text().startswith("# inject fail ")


# ---------------------------------------------------------------- what runs already


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = Loop(tmp_path)
    yield made
    made.end()


def test_a_process_that_runs_already(loop: Loop) -> None:
    """It and its child are failed, exactly as often as asked; both live on where they were."""
    home = loop.group()
    done = fail(MKDIR, "--return", "-EDQUOT", "--times", "8", "--pid", str(loop.process.pid))
    assert done.returncode == 0, done.stderr
    assert f"{MKDIR} returned -EDQUOT 8 times" in done.stderr
    time.sleep(0.5)
    assert loop.errors("parent") + loop.errors("child") == 8
    assert loop.errors("parent") and loop.errors("child")
    assert loop.process.poll() is None
    assert loop.group() == home


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_tool_is_the_end_of_the_fault(loop: Loop, number: int) -> None:
    """Ctrl-C ends it well, with a summary; after SIGKILL too no process is failed, moved or dead."""
    home = loop.group()
    words = ["fail", MKDIR, "--return", "-EDQUOT", "--pid", str(loop.process.pid)]
    with (loop.directory / "said").open("w") as said, Tool(*words, stderr=said) as tool:
        wait_for(lambda: loop.errors("parent"), "a failed call", process=tool)
        tool.send_signal(number)
        status = tool.wait(LIMIT)
    printed = (loop.directory / "said").read_text()
    assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0), printed
    assert ("returned -EDQUOT" in printed) == (number != signal.SIGKILL)
    wait_for(lambda: loop.group() == home and not list(hierarchy().rglob("inject-*")), loop.group)
    before = loop.errors("parent")
    time.sleep(0.5)
    assert loop.errors("parent") == before
    assert loop.process.poll() is None


def test_a_control_group(loop: Loop) -> None:
    group = hierarchy() / "of-a-user"
    group.mkdir()
    home = hierarchy() / loop.group().strip().rpartition("::/")[2]
    try:
        (group / "cgroup.procs").write_text(str(loop.process.pid))
        done = fail(MKDIR, "--return", "-EDQUOT", "--times", "3", "--cgroup", "of-a-user")
        assert done.returncode == 0, done.stderr
        time.sleep(0.5)
        assert (loop.errors("parent"), loop.errors("child")) == (3, 0)
    finally:
        (home / "cgroup.procs").write_text(str(loop.process.pid))
        group.rmdir()


def test_a_process_that_ends(tmp_path: Path) -> None:
    """Its end is the end; a fault that never fired is no success."""
    with subprocess.Popen(["sleep", "5"]) as sleeper:
        done = fail(MKDIR, "--return", "-EDQUOT", "--pid", str(sleeper.pid))
    assert done.returncode == 1, done.stderr
    assert "fail (not-injected)" in done.stderr


@pytest.mark.parametrize(
    ("pid", "said"),
    [
        (1, "process 1 is the parent of every process"),
        (2, "a kernel thread"),
        pytest.param(os.getpid(), "inject itself or started it", id="this-process"),
        (4194303, "there is no process 4194303"),
    ],
)
def test_processes_that_cannot_be_taken(pid: int, said: str) -> None:
    with Janitor() as janitor, pytest.raises(InjectError, match=said):
        adopted.by_pid(pid, janitor)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (".", "the root control group holds every task"),
        ("/tmp", "is not a control group"),
        ("no-such", "is not a control group"),
    ],
)
def test_groups_that_cannot_be_taken(path: str, said: str) -> None:
    with pytest.raises(InjectError, match=said):
        adopted.by_cgroup(Path(path))
