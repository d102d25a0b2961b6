"""Running system tools to an end that is always known."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inject.errors import CannotRun, InjectError
from inject.process.signals import signal_name
from inject.process.tool import Hung, check_tool, run_forked, run_tool
from tests.support.waiting import wait_for


def test_the_exit_code_and_the_last_line_are_kept():
    done = run_tool(["sh", "-c", "echo one; echo two >&2; echo; exit 7"], timeout=60)
    assert (done.code, done.last_line) == (7, "two")
    assert done.how() == "exited with 7"
    assert done.output == "one\ntwo\n\n"


def test_check_tool_names_command_code_and_last_line():
    with pytest.raises(InjectError, match=r"`sh -c 'echo broken; exit 3'` exited with 3: broken"):
        check_tool(["sh", "-c", "echo broken; exit 3"], timeout=60)


def test_check_tool_gives_the_output():
    assert check_tool(["echo", "x"], timeout=60) == "x\n"


def test_a_tool_has_nothing_to_read():
    assert run_tool(["cat"], timeout=60).code == 0


def test_a_tool_that_takes_too_long_is_killed_with_its_children():
    done = run_tool(["sh", "-c", "echo begun; sleep 600 & sleep 600"], timeout=0.3)
    assert done.timed_out and not done.stuck
    assert any(task.comm == "sh" for task in done.blocked)
    with pytest.raises(Hung, match="did not end in time and was killed") as caught:
        raise done.failure()
    assert caught.value.blocked == done.blocked and not caught.value.in_kernel
    assert done.how() == "did not end in time and was killed"
    assert done.output == "begun\n"


def test_a_signal_is_named():
    done = run_tool(["sh", "-c", "kill -SEGV $$"], timeout=60)
    assert done.how() == "was killed by SIGSEGV"
    assert signal_name(200) == "signal 200"


@pytest.mark.parametrize(
    ("script", "crashed"),
    [("kill -SEGV $$", True), ("kill -ABRT $$", True), ("kill -KILL $$", False), ("exit 139", False)],
)
def test_a_crash_is_told_from_an_end_that_was_wanted(script, crashed):
    assert run_tool(["sh", "-c", script], timeout=60).crashed is crashed


def test_a_tool_killed_at_its_bound_has_not_crashed():
    assert not run_tool(["sleep", "600"], timeout=0.1).crashed


def test_a_missing_program_is_said_so():
    with pytest.raises(CannotRun, match="no-such-program is not installed"):
        run_tool(["no-such-program"], timeout=1)


def test_output_is_bounded():
    done = run_tool(["sh", "-c", "head -c 1000000 /dev/zero"], timeout=60, output_limit=100)
    assert "[... 999900 bytes left out ...]" in done.output


def test_a_fork_keeps_no_descriptor_of_its_parent():
    """A reader that hangs in the kernel after inject was killed must not keep the janitor waiting."""
    kept, other = os.pipe()
    try:
        done = run_forked(lambda: [sorted(int(path.name) for path in Path("/proc/self/fd").iterdir())], timeout=60)
    finally:
        os.close(kept)
        os.close(other)
    assert done.code == 0, done.output
    numbers = eval(done.output)
    assert len(numbers) == 5, numbers  # 0, 1, 2, the pipe to inject, and the directory itself
    assert other not in numbers or kept not in numbers


PARENT = """
import os, sys, time
from tests.support.waiting import wait_for
from inject.process.tool import run_forked

def rows():
    with open(sys.argv[1], "w") as file:
        file.write(str(os.getpid()))
    os.rename(sys.argv[1], sys.argv[1] + ".done")
    time.sleep(600)
    yield 1

run_forked(rows, timeout=900)
"""


def test_a_fork_ends_with_its_parent(tmp_path: Path):
    said = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(said)])
    try:
        wait_for(Path(f"{said}.done").exists, "the fork runs")
        fork = int(Path(f"{said}.done").read_text())
        parent.kill()
        parent.wait()
        wait_for(lambda: not running(fork), "the fork ends")
    finally:
        parent.kill()
        parent.wait()


def running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False
