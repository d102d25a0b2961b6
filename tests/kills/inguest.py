"""In a guest: `inject run` and `inject fail`, killed at one system call after the other.

The killer is a BPF program on sys_enter: it counts the calls of one process and sends SIGKILL at the
given one, which is carried out still, unless it waits. A tracer would cost two switches for each
call, which are slow under emulation. The process is a fork of this one, which has imported inject:
its first call is the first of inject itself, and its calls are not those of Python's start and imports.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import os
import pkgutil
import signal
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import inject
from inject.fixture import devices
from inject.kernel.kernel import Kernel
from inject.module import build, demand, source
from tests.kills.choice import changing, every, name_of, spread
from tests.kills.result import Result
from tests.kills.state import State, changed, settings, state, stays
from tests.support.command import Tool

KILLER = """
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/sched.h>
static int only_read(u64 number) {
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    struct files_struct *files = task->files;
    struct fdtable *table = files->fdt;
    struct file **all = table->fd, *file = NULL;
    if (number >= table->max_fds)
        return 0;
    bpf_probe_read_kernel(&file, sizeof(file), &all[number]);
    struct inode *inode = NULL;
    fmode_t mode = FMODE_WRITE;
    umode_t kind = 0;
    bpf_probe_read_kernel(&mode, sizeof(mode), &file->f_mode);
    bpf_probe_read_kernel(&inode, sizeof(inode), &file->f_inode);
    bpf_probe_read_kernel(&kind, sizeof(kind), &inode->i_mode);
    return !(mode & FMODE_WRITE) && (S_ISREG(kind) || S_ISDIR(kind));
}
BPF_ARRAY(order, u32, 2);
BPF_ARRAY(count, u32, 1);
BPF_ARRAY(calls, u32, 65536);
RAW_TRACEPOINT_PROBE(sys_enter) {
    u32 first = 0, second = 1;
    u32 *process = order.lookup(&first), *at = order.lookup(&second), *counted = count.lookup(&first);
    if (!process || !at || !counted || bpf_get_current_pid_tgid() >> 32 != *process)
        return 0;
    u32 number = *counted, call = ctx->args[1];
    struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
    u64 first_argument = 0, second_argument = 0, third = 0;
    bpf_probe_read_kernel(&first_argument, sizeof(first_argument), &regs->di);
    bpf_probe_read_kernel(&second_argument, sizeof(second_argument), &regs->si);
    bpf_probe_read_kernel(&third, sizeof(third), &regs->dx);
    if ((call == 257 && !(third & 0x400043)) || (call == 16 && second_argument == 0x5401)
        || (call == 3 && only_read(first_argument)))
        call |= 1 << 16;
    __sync_fetch_and_add(counted, 1);
    calls.update(&number, &call);
    if (number == *at)
        bpf_send_signal(9);
    return 0;
}
"""

NEVER = (1 << 32) - 1
PATIENCE = 30.0
"""Seconds in which all must be gone after a kill."""
LIMIT = 300.0
"""Seconds for one run."""

SCENARIO = """\
name: killed
filesystem: {type: ext4}
faults:
  - function: __x64_sys_mkdir
    return: -EIO
run: mkdir x || true
"""


@dataclass(frozen=True)
class Kind:
    """One command line that is killed."""

    words: Callable[[Path], Sequence[str]]
    prepare: Callable[[], object] = lambda: None


def _loop() -> None:
    devices.scratch_disks = lambda *_: []


def _bare() -> None:
    """This guest counts as a bare machine, where inject unloads the module that it loaded."""
    Kernel.is_guest = lambda _self: False  # type: ignore[method-assign]


def _build() -> None:
    """The same, and the module is built anew, by a make that copies the guest's own: there is no compiler."""
    _bare()
    demand.find = lambda *_: None
    build._check_tree = lambda *_: None
    build.compiler_of = lambda *_: []
    tools = Path("/root/kills-tools")
    tools.mkdir(exist_ok=True)
    make, module = tools / "make", source.installed(Kernel())
    make.write_text(f'#!/bin/sh\nfor word; do case $word in M=*) cp {module} "${{word#M=}}"; sleep 0.3;; esac; done\n')
    make.chmod(0o755)
    os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"


COMMAND = ("--", "sh", "-c", "mkdir x || true")
FAIL_MODULE = ("fail", "--module", "do_mkdirat", "--return", "-EIO")
"""do_mkdirat is not marked: only inject's module can fail it."""

KINDS = {
    "run": Kind(lambda file: ("run", str(file))),
    "run-on-loop": Kind(lambda file: ("run", "--probe", "kprobe", str(file)), _loop),
    "fail": Kind(lambda _: ("fail", "__x64_sys_mkdir", "--return", "-EIO", *COMMAND)),
    "fail-kfunc": Kind(lambda _: (*FAIL_MODULE, "--probe", "kfunc", *COMMAND), _bare),
    "fail-module": Kind(lambda _: (*FAIL_MODULE, "--probe", "module", *COMMAND), _bare),
    "build-module": Kind(lambda _: (*FAIL_MODULE, *COMMAND), _build),
}


class Killer:
    """The BPF program; a context manager."""

    def __init__(self) -> None:
        import bcc

        self._bpf: Any = bcc.BPF(text=KILLER)

    def __enter__(self) -> Killer:
        return self

    def __exit__(self, *_: object) -> None:
        self._bpf.cleanup()

    def run(self, kind: Kind, words: Sequence[str], at: int = NEVER) -> int:
        """Run inject, killed at its call number ``at``; its exit status."""

        def wait() -> None:
            kind.prepare()
            os.kill(os.getpid(), signal.SIGSTOP)

        place = tempfile.gettempdir()
        with Tool(*words, cwd=Path("/root"), env={**os.environ, "TMPDIR": place}, prepare=wait) as tool:
            os.waitid(os.P_PID, tool.pid, os.WSTOPPED)
            self._set("count", 0, 0)
            self._set("order", 1, at)
            self._set("order", 0, tool.pid)
            tool.send_signal(signal.SIGCONT)
            status = tool.wait(LIMIT)
            self._set("order", 0, 0)
            return status

    def calls(self) -> list[int]:
        """The calls of the last run."""
        (count,) = struct.unpack("<I", bytes(self._bpf["count"][ctypes.c_int(0)]))
        table = self._bpf["calls"]
        return [int(table[ctypes.c_int(number)].value) for number in range(count)]

    def _set(self, table: str, key: int, value: int) -> None:
        self._bpf[table][ctypes.c_int(key)] = ctypes.c_uint32(value)


def import_all() -> None:
    """Import what any command of a guest may import: under emulation that takes longer than the rest of a run."""
    for module in pkgutil.walk_packages(inject.__path__, "inject."):
        if not module.name.startswith(("inject.vm", "inject.__main__")):
            importlib.import_module(module.name)


@contextlib.contextmanager
def scenario() -> Iterator[Path]:
    """A file with SCENARIO."""
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        file = Path(place) / "killed.yaml"
        file.write_text(SCENARIO)
        yield file


def kill(
    name: str, choose: Callable[[Sequence[int]], Sequence[int]], seconds: float, say: Callable[[str], None]
) -> Result:
    """Kill one kind at the calls that ``choose`` names, for ``seconds`` at most."""
    kind, deadline = KINDS[name], time.monotonic() + seconds
    import_all()
    with Killer() as killer, scenario() as file:
        words = kind.words(file)
        for _ in range(2):  # the first one fills caches
            status = killer.run(kind, words)
            assert status == 0, f"inject {' '.join(words)} ends with {status} if nobody kills it"
        calls = killer.calls()
        before = state()
        values = settings()
        result = Result(name, len(calls), len(changing(calls)))
        places = list(choose(calls))
        for index, at in enumerate(places):
            if time.monotonic() > deadline:
                result.left = len(places) - index
                break
            if not _step(killer, kind, words, at, before, result, say):
                before = state()  # so that the next one is not charged with it
        assert killer.run(kind, words) == 0, "inject does not run any more"
        left = [*stays(before, PATIENCE), *changed(values, settings())]
        assert not left, f"after all of them: {'; '.join(left)}"
    return result


def _step(
    killer: Killer, kind: Kind, words: Sequence[str], at: int, before: State, result: Result, say: Callable[[str], None]
) -> bool:
    """One kill; True if nothing stayed."""
    status = killer.run(kind, words, at)
    result.steps += status == -signal.SIGKILL  # a run may be a few calls shorter than the one before
    left = stays(before, PATIENCE)
    if left:
        calls = killer.calls()
        around = " ".join(name_of(call) for call in calls[max(0, at - 5) : at + 1])
        result.stayed[at] = f"after {around}: {'; '.join(left)}"
        say(f"{result.kind}: call {at}: {result.stayed[at]}")
        result.steps += status != -signal.SIGKILL
    return not left


def main() -> int:
    """Kill every kind at every call, as far as the time goes; the exit code."""
    options = argparse.ArgumentParser(prog="python3 -m tests.kills.inguest", description=__doc__)
    options.add_argument("--seconds", type=float, default=600.0, help="for each kind")
    options.add_argument("--spread", type=int, help="kill at this many calls of each kind, not at all")
    options.add_argument("kinds", nargs="*", default=list(KINDS))
    chosen = options.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)

    def choose(calls: Sequence[int]) -> Sequence[int]:
        return spread(calls, chosen.spread) if chosen.spread else every(calls)

    results = []
    for name in chosen.kinds:
        started = time.monotonic()
        results.append(kill(name, choose, chosen.seconds, say))
        say(f"{results[-1]} in {time.monotonic() - started:.0f} s")
    return 1 if any(result.stayed for result in results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
