"""Functions that are not marked, by way of inject's kernel module: vmlinux, filesystems, lib/, and what is left."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from inject import scenario as scenarios
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types, plain_name
from inject.model.scenario import Probe
from inject.module.load import InUse, unload
from inject.process.cgroup import Cgroup
from tests.guest.test_engine import in_group
from tests.support.command import inject
from tests.support.workbench import KPROBES, guest_only, module_ways

pytestmark = guest_only

BY_MODULE = pytest.mark.parametrize("probe", [Probe.KFUNC, Probe.MODULE], ids=lambda probe: probe.value)
HERE = module_ways(os.uname().release)
"""The ways that this kernel has."""


LINK = Path("/tmp/never")
"""A link that cannot be made; /tmp is a tmpfs, and its shmem_symlink() is in all kernels alike."""


def plan(kernel: Kernel, types: Types, faults: str) -> Plan:
    (made,) = scenarios.parse(f"faults: [{faults}]\nrun: 'true'\n", "t.yaml", "t")
    return Planner(kernel, types, 1).plan(made)


def result_of(work: Callable[[], object], file: Path) -> Callable[[], None]:
    """``work``, whose errno, or 0, is then in ``file``, which is opened before."""
    opened = file.open("w")

    def run() -> None:
        found = 0
        try:
            work()
        except OSError as error:
            found = error.errno
        opened.write(str(found))
        opened.flush()

    return run


@BY_MODULE
@pytest.mark.parametrize(
    ("fault", "work", "expected"),
    [
        ("{function: shmem_symlink, return: -EDQUOT}", lambda: LINK.symlink_to("x"), errno.EDQUOT),
        (
            "{function: vfs_statx, return: -ELOOP, when: {stack: [vfs_fstatat]}}",
            lambda: Path("/etc").stat(),
            errno.ELOOP,
        ),
        ("{function: prepare_creds, return: NULL}", lambda: os.setgid(0), errno.ENOMEM),
        ("{function: vfs_statx, return: -ELOOP, when: {stack: [vfs_read]}}", lambda: Path("/etc").stat(), 0),
    ],
    ids=["int", "path", "pointer", "other-path"],
)
def test_an_unmarked_function(
    engine: Engine,
    kernel: Kernel,
    types: Types,
    group: Cgroup,
    tmp_path: Path,
    probe: Probe,
    fault: str,
    work: Callable[[], object],
    expected: int,
) -> None:
    """User space gets the error, or what the kernel makes of it, and the event tells the call path."""
    engine.attach(plan(kernel, types, fault), probe)
    assert engine.used == (probe,)
    in_group(engine, group, result_of(work, tmp_path / "errno"))
    assert int((tmp_path / "errno").read_text()) == expected
    events = engine.poll(0)
    assert len(events) == engine.counts()[0].injected == (1 if expected else 0)
    if expected:
        names = [frame.partition("+")[0] for frame in events[0].stack]
        assert names[0] == events[0].function and names[-1].startswith("entry_SYSCALL_64")
        assert not [name for name in names if "inject" in name or "kprobe" in name or "ftrace" in name]
    engine.detach()


def test_a_function_without_ftrace(engine: Engine, kernel: Kernel, types: Types, group: Cgroup, tmp_path: Path) -> None:
    """All of lib/ is built without: only the module's own probes reach lib/strncpy_from_user.c."""
    engine.attach(plan(kernel, types, "{function: strncpy_from_user, return: -EFAULT}"), Probe.AUTO)
    assert engine.used == (Probe.MODULE,)
    in_group(engine, group, result_of(lambda: os.open("/etc/hostname", os.O_RDONLY), tmp_path / "errno"))
    (counts,) = engine.counts()
    stack = [frame.partition("+")[0] for event in engine.poll(0)[:1] for frame in event.stack]
    engine.detach()
    assert counts.injected >= 1, counts
    assert int((tmp_path / "errno").read_text() or 0) == errno.EFAULT
    caller = "do_getname" if "do_getname" in stack else "getname_flags"  # of 7.3; 6.1 has a part of it there
    assert list(map(plain_name, stack[:2])) == ["strncpy_from_user", caller]


def test_two_faults_of_one_function_in_order(
    engine: Engine, kernel: Kernel, types: Types, group: Cgroup, tmp_path: Path
) -> None:
    """The first of the scenario is asked first, by each way, and a call that it fails does not reach the other."""
    two = "{function: shmem_symlink, return: -EDQUOT, when: {nth: 2}}, {function: shmem_symlink, return: -EROFS}"

    def work() -> None:
        found = []
        for _ in range(3):
            try:
                LINK.symlink_to("x")
            except OSError as error:
                found.append(error.errno)
        (tmp_path / "errnos").write_text(json.dumps(found))

    for probe in HERE:
        engine.attach(plan(kernel, types, two), probe)
        in_group(engine, group, work)
        assert json.loads((tmp_path / "errnos").read_text()) == [errno.EROFS, errno.EDQUOT, errno.EROFS], probe
        assert [counts.seen for counts in engine.counts()] == [3, 2]
        engine.detach()


def test_the_module_is_in_use_while_a_fault_is_attached(engine: Engine, kernel: Kernel, types: Types) -> None:
    for probe in HERE:
        engine.attach(plan(kernel, types, "{function: shmem_symlink, return: -EIO}"), probe)
        with pytest.raises(InUse):
            unload()
        engine.detach()


def test_a_killed_inject_leaves_no_probe(overrider: None) -> None:
    """SIGKILL of the tool while it is armed, by each way."""
    for probe in (way.value for way in HERE):
        command = ["fail", "shmem_symlink", "--probe", probe, "--return", "-EIO", "-q", "--", "sleep", "60"]
        done = subprocess.run(
            ["timeout", "-s", "KILL", "20", "python3", "-m", "inject", *command],
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode in (137, -9), done
        assert "shmem_symlink" not in KPROBES.read_text()
        Path(f"/tmp/after-{probe}").symlink_to("x")


def test_explain_says_the_ways(overrider: None) -> None:
    done = inject("list", "--explain", "shmem_symlink")
    assert done.returncode == 0, done.stderr
    kfunc = "a kprobe that calls the kfunc of inject's module, else " if Probe.KFUNC in HERE else ""
    assert f"route: {kfunc}a kprobe of inject's module" in done.stdout


def test_a_name_that_is_no_function_of_the_kernel(overrider: None) -> None:
    from inject.module.device import open_probe

    with pytest.raises(CannotRun, match="the kernel finds no function no_such_function"):
        open_probe("no_such_function")
    with pytest.raises(CannotRun, match="the kernel refuses a probe on do_int3"):
        open_probe("do_int3")
