"""Running system tools to an end that is always known."""

import pytest

from inject.errors import CannotRun, InjectError
from inject.process.signals import signal_name
from inject.process.tool import check_tool, run_tool


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
