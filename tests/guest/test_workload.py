"""The workload's life: in its group before it starts, watched, and gone for certain."""

import os

import pytest

from inject.errors import CannotRun, InjectError
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.process.workload import SCRIPT_LIMIT, Workload, run_workload
from tests.support.workbench import guest_only, sh

pytestmark = guest_only


def run(place, command, timeout=60, **keys):
    return run_workload(command, cgroup=place.work, cwd=place.directory, timeout=timeout, **keys)


@pytest.mark.parametrize(
    ("script", "code", "output"),
    [
        ("echo out; echo err >&2; exit 3", 3, "out\nerr\n"),
        ("false | true\necho never", 1, ""),
        ("true\nno_such_thing\n", 127, "run: line 2: no_such_thing: command not found\n"),
        ("echo $unset", 1, "run: line 1: unset: unbound variable\n"),
        ("cat; echo $?", 0, "0\n"),
        ("pwd; echo $HELLO", 0, "{cwd}\nworld\n"),
        ("exec 1>&- 2>&-; sleep 0.2; exit 4", 4, ""),
    ],
)
def test_shell_text(place, script, code, output):
    outcome = run(place, script, env={"HELLO": "world", "PATH": os.environ["PATH"]})
    assert (outcome.code, outcome.signal, outcome.timed_out) == (code, None, False)
    assert outcome.output == output.format(cwd=place.directory)
    assert outcome.how() == f"exited with {code}"


def test_an_argument_list_and_a_signal(place):
    assert run(place, ["echo", "a b", "$HOME"]).output == "a b $HOME\n"
    outcome = run(place, "kill -SEGV $$")
    assert (outcome.code, outcome.how()) == (None, "was killed by SIGSEGV")


def test_it_waits_for_the_release_in_its_group(place):
    with Workload("cat /proc/self/cgroup; touch ran", cgroup=place.work, cwd=place.directory) as workload:
        assert place.work.procs() == [workload.pid]
        assert sh(f"cat /proc/{workload.pid}/cgroup").endswith("/workload\n")
        assert not (place.directory / "ran").exists()
        workload.release()
        outcome = workload.wait(60)
    assert outcome.output == f"0::/{place.work.path.relative_to('/sys/fs/cgroup')}\n"
    assert (place.directory / "ran").exists()


def test_one_that_is_never_released_never_runs(place):
    with Workload("touch ran", cgroup=place.work, cwd=place.directory):
        pass
    assert place.work.procs() == []
    assert not (place.directory / "ran").exists()


def test_id_and_level_are_the_kernels(place):
    assert place.work.level == 2
    assert place.work.id == place.work.path.stat().st_ino


def test_background_processes_are_killed_and_counted_though_they_hold_the_pipe(place):
    outcome = run(place, "sleep 600 & setsid sleep 600 & (trap '' TERM HUP; exec sleep 600) & echo done")
    assert (outcome.code, outcome.left_over, outcome.output) == (0, 3, "done\n")
    assert place.work.procs() == []


def test_a_timeout_shows_where_it_is_and_kills_it(place):
    outcome = run(place, "echo begun; exec sleep 600", timeout=5)
    assert outcome.timed_out and outcome.output == "begun\n"
    sleeper = next(task for task in outcome.blocked if task.comm == "sleep")
    assert sleeper.state == "S"
    assert any("nanosleep" in frame for frame in sleeper.stack)
    assert outcome.unkillable == ()
    assert place.work.procs() == []


def test_what_cannot_be_killed_is_reported(place):
    with place.fixture("ext4") as fixture:
        sh(f"fsfreeze --freeze {fixture.mountpoint}")
        outcome = run(place, f"exec touch {fixture.mountpoint}/x", timeout=5)
        sh(f"fsfreeze --unfreeze {fixture.mountpoint}")
        assert outcome.timed_out
        stuck = outcome.unkillable[0]
        assert (stuck.comm, stuck.state) == ("touch", "D")
        assert any("percpu_rwsem" in frame or "percpu_down" in frame for frame in stuck.stack), stuck.stack
        assert place.work.wait_empty(60)


def test_endless_output_is_bounded_and_streamed(place):
    seen = []
    outcome = run(
        place, "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last", on_output=lambda t: seen.append(len(t))
    )
    assert outcome.code == 0
    assert outcome.dropped == 3000006 - (256 << 10)
    assert f"[... {outcome.dropped} bytes left out ...]" in outcome.output
    assert outcome.output.endswith("\nlast\n")
    assert sum(seen) == 3000006


def test_groups_inside_the_group_go_too(place):
    outcome = run(place, f"mkdir {place.work.path}/mine; echo $$ >{place.work.path}/mine/cgroup.procs; sleep 600 &")
    assert outcome.left_over == 1
    assert place.work.remove()


def test_what_cannot_start_is_said_in_words(place):
    with pytest.raises(CannotRun, match="no-such-thing: command not found"):
        run(place, ["no-such-thing"])
    with pytest.raises(InjectError, match="NUL"):
        run(place, "echo \0")
    with pytest.raises(InjectError, match="longer than"):
        run(place, "#" * (SCRIPT_LIMIT + 1))
    assert run(place, "# " + "x" * (SCRIPT_LIMIT - 2)).code == 0


def test_a_cgroup_namespace_is_refused():
    code = (
        "from inject.process.cgroup import Cgroup; from inject.process.janitor import Janitor\n"
        "try: Cgroup.create(Janitor())\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    assert sh(f"unshare --cgroup python3 -c '{code}'").startswith("CannotRun inject runs in its own cgroup namespace")


def test_two_groups_do_not_meet():
    with Janitor() as janitor:
        one, two = Cgroup.create(janitor), Cgroup.create(janitor)
        assert one.path != two.path
        assert one.close(janitor) and two.close(janitor)
