"""Other injectors, each attached for the time of a `with`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bcc import BPF, lib

KPROBES = Path("/sys/kernel/debug/kprobes/list")
FAIL_FUNCTION = Path("/sys/kernel/debug/fail_function")
BPFTRACE = "bpftrace"
BCC_INJECT = "inject-bpfcc"
TRACING = 26
"""BPF_PROG_TYPE_TRACING"""
NOBODY = 4_000_000
"""More than any process's number here (kernel.pid_max)."""
LIMIT = 300.0
"""Seconds of the guest's clock until a tool must have attached."""


@contextlib.contextmanager
def empty_kprobe(function: str) -> Iterator[None]:
    """A bcc program that does nothing: the least that any kprobe program costs."""
    program = BPF(text=b"int empty(struct pt_regs *ctx) { return 0; }")
    program.attach_kprobe(event=function.encode(), fn_name=b"empty")
    yield
    program.cleanup()


@contextlib.contextmanager
def empty_fmod_ret(function: str) -> Iterator[None]:
    """The same by way of a trampoline."""
    program = BPF(text=b"int empty(unsigned long long *ctx) { return 0; }")
    code = program.dump_func(b"empty")
    name = f"kmod_ret__{function}".encode()
    descriptor = lib.bcc_prog_load(TRACING, name, code, len(code), b"GPL", 0, 0, None, 0)
    assert descriptor >= 0, "the empty fmod_ret program does not load"
    link = lib.bpf_attach_kfunc(descriptor)
    assert link >= 0, "the empty fmod_ret program does not attach"
    yield
    os.close(link)
    os.close(descriptor)
    program.cleanup()


@contextlib.contextmanager
def fail_function(function: str) -> Iterator[None]:
    """The kernel's own, for tasks that set make-it-fail in /proc; the measured ones do not."""
    settings = {"task-filter": "Y", "probability": "100", "times": "-1", "interval": "0", "verbose": "0"}
    (FAIL_FUNCTION / "inject").write_text(function)
    try:
        (FAIL_FUNCTION / function / "retval").write_text(str(-1 & 0xFFFFFFFFFFFFFFFF))
        for name, value in settings.items():
            (FAIL_FUNCTION / name).write_text(value)
        yield
    finally:
        (FAIL_FUNCTION / "inject").write_text("\n")  # an empty line takes all away; nothing at all is not written
        assert not probed(function), "fail_function is still there"


@contextlib.contextmanager
def bpftrace(function: str) -> Iterator[None]:
    """override() behind a filter for a process that does not exist."""
    script = f"kprobe:{function} /pid == {NOBODY}/ {{ override(4294967295); }}"
    with _tool([BPFTRACE, "--unsafe", "-e", script], [function]):
        yield


@contextlib.contextmanager
def bcc_inject(mode: str, spec: str, functions: Sequence[str]) -> Iterator[None]:
    """bcc's inject tool; ``functions`` are those that it probes."""
    with _tool([BCC_INJECT, mode, spec], functions):
        yield


@contextlib.contextmanager
def _tool(command: Sequence[str], functions: Sequence[str]) -> Iterator[None]:
    """Run it from the moment that its probes are there until the end of the `with`."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + LIMIT
        while not all(probed(function) for function in functions):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended: {process.stderr.read().decode()[-500:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not attach")
            time.sleep(0.05)
        time.sleep(0.5)  # the program runs some moments after the probe is there
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def probed(function: str) -> bool:
    """Whether a kprobe sits on ``function`` and is on: kprobes/list has address, kind, symbol+offset, [DISABLED]."""
    lines = [line.split() for line in KPROBES.read_text().splitlines() if "[DISABLED]" not in line]
    return any(words[2].partition("+")[0] == function for words in lines)
