"""Functions that cannot be failed, and the module in bad company: one sentence each, and nothing is left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from inject.kernel.functions import is_part
from inject.kernel.kernel import Kernel
from inject.kernel.overrider import NAME, VERSION
from inject.kernel.types import Types, plain_name
from inject.model.scenario import Probe
from inject.model.unsafe import unsafe
from inject.module.device import DEVICE
from inject.module.load import unload
from inject.module.source import find
from inject.process.stat import stat_of
from tests.support.command import Done, Tool, inject
from tests.support.waiting import wait_for
from tests.support.workbench import KPROBES, MODULE, guest_only, unloaded

pytestmark = guest_only

BY_MODULE = pytest.mark.parametrize("probe", [Probe.KFUNC, Probe.MODULE], ids=lambda probe: probe.value)
NOWHERE = "file_inode"
"""Inlined everywhere (include/linux/fs.h)."""
FAULT = ("fail", "shmem_symlink", "--return", "-EIO")


def bare() -> None:
    """In the fork that becomes inject: this guest counts as a bare machine, whose module goes with its last user."""
    Kernel.is_guest = lambda _self: False  # type: ignore[method-assign]


def said(done: Done) -> str:
    """The one sentence with which inject refused."""
    assert done.returncode == 3, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == "" and done.stderr.startswith("inject: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr[len("inject: ") : -1]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No probe, no module and no directory of a build, neither before nor afterwards."""
    wait_for(unloaded, "the module of a test before is unused and unloaded")
    yield
    assert not KPROBES.read_text()
    wait_for(unloaded, "the module is unused and unloaded")
    assert not list(Path("/tmp").glob("inject-module-*"))


# ---------------------------------------------------------------- functions


class Named:
    """Functions of this kernel by what is wrong with them."""

    def __init__(self, kernel: Kernel, types: Types) -> None:
        described = types.prototypes("")
        assert described is not None
        self._symbols = [one for one in kernel.symbols.matching(r"[^\t\n]+") if not one.module]
        self._names = {one.name for one in self._symbols}
        self._ints = {name for name in described.names() if getattr(described.result(name), "kind", "") == "int"}
        self._kernel = kernel

    def inlined(self) -> str:
        """One that BTF describes and that has no symbol; the BTF of some kernels describes none of them."""
        plain = {plain_name(name) for name in self._names}
        return min(self._ints - plain, default=NOWHERE)

    def cloned(self) -> str:
        """One of which only a copy is left, by which its callers go."""
        clones = (name for name in sorted(self._names) if re.search(r"\.(isra|constprop)\.\d+$", name))
        return next(plain for plain in map(plain_name, clones) if plain not in self._names)

    def part(self) -> str:
        return min(name for name in self._names if is_part(name) and plain_name(name) in self._ints)

    def freed(self) -> str:
        often = Counter(one.name for one in self._symbols)
        freed = {one.name for one in self._symbols if self._kernel.symbols.is_freed(one.address)}
        unique = {name for name in freed & self._ints if often[name] == 1 and not unsafe(name)}
        return min(unique - self._kernel.ftrace.blacklist)


@pytest.fixture(scope="module")
def named(kernel: Kernel, types: Types) -> Named:
    return Named(kernel, types)


def no_name(name: str) -> Callable[[Named], str]:
    return lambda _named: name


@pytest.mark.parametrize(
    ("choose", "sentence"),
    [
        (no_name("shmem_symlnik"), "shmem_symlnik is not in this kernel; did you mean shmem_symlink"),
        (
            no_name("zzz_nothing"),
            "zzz_nothing is not in this kernel; it may be inlined, in a module that is not loaded",
        ),
        (Named.inlined, "{} is not in this kernel; "),
        (Named.cloned, "{} is not in this kernel; the compiler kept only the clone {}."),
        (Named.part, "{} is not a function but a part of "),
        (Named.freed, "{} runs only while the kernel starts (__init), and its memory is freed by now; choose "),
        (no_name("do_int3"), "do_int3 is on the kprobe blacklist; choose one of its callers"),
        (no_name("mutex_lock"), "mutex_lock returns nothing, so it cannot return an error; fail a function that it"),
        (no_name("ns_to_timespec64"), "ns_to_timespec64 returns timespec64, and inject sets one register only; fail"),
        (
            no_name("posix_lock_inode"),
            "posix_lock_inode is not marked ALLOW_ERROR_INJECTION, and its name has 'lock': ",
        ),
    ],
    ids=["absent", "nowhere", "inlined", "cloned", "part", "init", "blacklist", "void", "struct", "lock"],
)
def test_a_function_that_cannot_be_failed(named: Named, choose: Callable[[Named], str], sentence: str) -> None:
    name = choose(named)
    done = inject("fail", name, "--return", "-EIO", "--", "true")
    assert said(done).startswith(sentence.replace("{}", name)), done.stderr
    assert choose is not Named.inlined or name == NOWHERE or "inlined" in done.stderr, done.stderr


def test_a_lock_by_name_is_failed_if_one_insists(tmp_path: Path) -> None:
    script = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX)"
    command = ["python3", "-c", script, str(tmp_path / "file")]
    done = inject("fail", "posix_lock_inode", "--return", "-ENOLCK", "--force", "--", *command)
    assert done.returncode == 1 and "No locks available" in done.stdout, done.stderr
    assert "posix_lock_inode returned -ENOLCK once" in done.stderr


# ---------------------------------------------------------------- building


@pytest.fixture
def tree(tmp_path: Path, kernel: Kernel) -> Path:
    """Headers, as far as inject looks at them, of a kernel like the running one."""
    found = tmp_path / "headers"
    for name, text in {
        "Makefile": "modules:\n\techo 'x.c:1:1: error: no such thing' && false\n",
        "include/generated/utsrelease.h": f'#define UTS_RELEASE "{kernel.release}"\n',
        "include/generated/autoconf.h": "",
        "Module.symvers": "",
        ".config": 'CONFIG_CC_VERSION_TEXT="gcc-14 (Debian 14.2.0-19) 14.2.0"\n',
    }.items():
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_text(text)
    return found


def program(place: Path, name: str, text: str) -> None:
    place.mkdir(exist_ok=True)
    (place / name).write_text(f"#!/bin/sh\n{text}\n")
    (place / name).chmod(0o755)


def test_what_is_missing_for_a_build_is_said(tmp_path: Path, tree: Path, kernel: Kernel) -> None:
    """From the headers to the compiler, one after the other; the guest has neither gcc nor make."""
    tools = tmp_path / "tools"
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}

    def refused(where: Path = tree) -> str:
        sentence = said(inject("module", "load", "--tree", where, env=env))
        assert not MODULE.exists()
        return sentence

    (tmp_path / "empty").mkdir()
    headers = f"apt-get install linux-headers-{kernel.release}"
    assert f"the headers of kernel {kernel.release} are not installed; {headers}" in refused(tmp_path / "empty")
    if shutil.which("gcc-14") is None and shutil.which("gcc") is None:
        built = f"kernel {kernel.release} was built with gcc 14"
        assert refused() == f"{built}, and gcc is not installed; apt-get install gcc-14"
        program(tools, "gcc", "echo 12")
        assert refused() == f"{built}, and this machine has gcc 12; apt-get install gcc-14"
    program(tools, "gcc-14", "echo 14")
    if shutil.which("make") is None:
        assert refused() == "make is not installed, and the kernel module needs it; apt-get install make"
    program(tools, "make", "echo 'x.c:1:1: error: no such thing'; exit 2")
    failed = "the kernel module cannot be built: x.c:1:1: error: no such thing; try it by hand: make -C "
    assert refused().startswith(failed)
    (tree / "include/generated/utsrelease.h").write_text('#define UTS_RELEASE "6.1.0-1-amd64"\n')
    assert refused() == (
        f"{tree} belongs to kernel 6.1.0-1-amd64, and {kernel.release} runs;"
        f" boot 6.1.0-1-amd64, or install the headers of {kernel.release}"
    )
    (tree / "Module.symvers").unlink()
    (tree / "include/generated/utsrelease.h").write_text(f'#define UTS_RELEASE "{kernel.release}"\n')
    assert refused() == f"{tree} is not prepared for building modules; run make in it once, or `make modules`"


def test_a_module_of_another_kernel_is_not_loaded(tmp_path: Path, kernel: Kernel) -> None:
    """As one of the cache would be after the kernel was built anew under the same release."""
    path = find(kernel)
    assert path is not None
    data = path.read_bytes()
    other = tmp_path / path.name
    # Kernels with CONFIG_MODVERSIONS do not compare the release (same_magic(), kernel/module/version.c, v6.12).
    other.write_bytes(data.replace(b" mod_unload ", b" mod_unl0ad "))
    assert other.read_bytes() != data

    def prepare() -> None:
        from inject.cli import module

        module.find = lambda _kernel: other  # type: ignore[attr-defined]

    sentence = said(inject("module", "load", prepare=prepare))
    assert sentence.startswith(f"the kernel does not load {NAME} (Exec format error): {other} was built for another")


# ---------------------------------------------------------------- in company


def insert(kernel: Kernel, place: Path, version: str, *parameters: str) -> None:
    """Load the module as another inject would, whose version is ``version``."""
    path = find(kernel)
    assert path is not None
    other = place / path.name
    other.write_bytes(path.read_bytes().replace(f"\0version={VERSION}\0".encode(), f"\0version={version}\0".encode()))
    subprocess.run(["insmod", str(other), *parameters], check=True)
    assert (MODULE / "version").read_text().strip() == version


@pytest.mark.parametrize("version", [VERSION, "9"])
def test_a_module_that_an_inject_left_is_taken_over(tmp_path: Path, kernel: Kernel, version: str) -> None:
    """Of this version it is used, of another one replaced; at the end it is gone."""
    insert(kernel, tmp_path, version)
    done = inject(*FAULT, "--module", "--", "ln", "-s", "x", tmp_path / "made", prepare=bare)
    assert done.returncode == 1 and "shmem_symlink returned -EIO once" in done.stderr, done.stderr
    assert not MODULE.exists()


def test_a_module_of_another_version_in_use_is_left_alone(tmp_path: Path, kernel: Kernel) -> None:
    insert(kernel, tmp_path, "9")
    what = f"the module {NAME} is loaded in version 9, and this inject needs {VERSION}"
    with DEVICE.open("rb"):
        done = inject(*FAULT, "--module", "--", "true", prepare=bare)
        assert said(done) == f"{what}; another inject uses it; end that one, then run again"
    unload()
    insert(kernel, tmp_path, "9", "keep=1")
    assert (
        said(inject(*FAULT, "--module", "--", "true", prepare=bare))
        == f"{what}; `inject module unload`, then run again"
    )
    assert unload()


class Running:
    """`inject fail --module` of a bare machine around a command that makes a link until a file says so."""

    SCRIPT = 'until [ -e "$0.end" ]; do ln -s x "$0" 2>/dev/null && touch "$0.made"; touch "$0.tried"; sleep 0.05; done'

    def __init__(self, place: Path, name: str, *options: str) -> None:
        self._path = place / name
        command = ["sh", "-c", self.SCRIPT, str(self._path)]
        self.tool = Tool(*FAULT, "--module", *options, "-q", "--", *command, prepare=bare)

    def try_again(self) -> None:
        """Wait until it has made one call more."""
        tried = self._path.with_suffix(".tried")
        tried.unlink(missing_ok=True)
        wait_for(tried.exists, "it makes a link", process=self.tool)

    @property
    def made(self) -> bool:
        """True if one call was not failed."""
        return self._path.with_suffix(".made").exists()

    def end(self) -> int:
        self._path.with_suffix(".end").touch()
        return self.tool.wait()


def test_two_runs_at_once_share_the_module(tmp_path: Path) -> None:
    """The one that loaded it ends first."""
    first = Running(tmp_path, "first")
    with first.tool:
        first.try_again()
        second = Running(tmp_path, "second")
        with second.tool:
            second.try_again()
            first.end()
            assert MODULE.exists()
            second.try_again()
            second.end()
    assert not first.made and not second.made
    assert not MODULE.exists()


def _children(pid: int) -> list[int]:
    tasks = ((path, stat_of(path)) for path in Path("/proc").glob("[0-9]*"))
    return [int(path.name) for path, task in tasks if task is not None and task.parent == pid]


@BY_MODULE
def test_a_killed_inject_leaves_no_module(tmp_path: Path, probe: Probe) -> None:
    """SIGKILL while it is armed: nothing fails any more, and its janitor unloads what it loaded."""
    run = Running(tmp_path, "run", "--probe", probe.value)
    with run.tool:
        run.try_again()
        run.tool.send_signal(signal.SIGKILL)
    (tmp_path / "works").symlink_to("x")
    wait_for(lambda: not KPROBES.read_text(), "no probe is left")
    wait_for(lambda: not MODULE.exists(), "its janitor unloads the module")


@BY_MODULE
def test_what_a_killed_janitor_leaves_is_harmless(tmp_path: Path, probe: Probe) -> None:
    """inject and all its processes are killed: the module stays, unused, and the next inject takes it away."""
    run = Running(tmp_path, "run", "--probe", probe.value)
    with run.tool:
        run.try_again()
        run.tool.send_signal(signal.SIGSTOP)  # it would end with its command
        for pid in (*_children(run.tool.pid), run.tool.pid):
            os.kill(pid, signal.SIGKILL)
    (tmp_path / "works").symlink_to("x")
    wait_for(lambda: not KPROBES.read_text(), "no probe is left")
    wait_for(lambda: (MODULE / "refcnt").read_text().strip() == "0", "nobody uses the module")
    done = inject("module", "status")
    assert done.returncode == 0 and "nobody uses it" in done.stdout, done.stdout
    done = inject(*FAULT, "--module", "--", "ln", "-s", "x", tmp_path / "failed", prepare=bare)
    assert done.returncode == 1 and not (tmp_path / "failed").is_symlink(), done.stderr
    assert not MODULE.exists()


def test_a_module_that_is_kept_stays(tmp_path: Path) -> None:
    """`inject module load` is for longer than one command."""
    assert inject("module", "load").returncode == 0
    done = inject(*FAULT, "--module", "--", "ln", "-s", "x", tmp_path / "failed", prepare=bare)
    assert done.returncode == 1, done.stderr
    assert MODULE.exists()
    run = Running(tmp_path, "run")
    with run.tool:
        run.try_again()
        assert said(inject("module", "unload")) == f"the module {NAME} is in use; end the inject that uses it"
        run.tool.send_signal(signal.SIGKILL)
    wait_for(lambda: (MODULE / "refcnt").read_text().strip() == "0", "nobody uses the module")
    done = inject("module", "unload")
    assert done.returncode == 0 and not MODULE.exists(), done.stderr


def test_it_is_not_loaded_unasked(tmp_path: Path) -> None:
    """On a bare machine, where --module or `inject module load` asks for it."""
    done = inject(*FAULT, "--", "ln", "-s", "x", tmp_path / "made", prepare=bare)
    assert "load" in said(done) and "--module, or `inject module load`" in done.stderr
    assert not MODULE.exists()
