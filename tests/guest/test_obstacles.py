"""What keeps probes from firing, or from doing what they say: it is refused with the reason, and with the fix."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from inject import scenario as scenarios
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Probe
from inject.store import cache_root
from tests.support.command import inject
from tests.support.waiting import wait_for
from tests.support.workbench import guest_only

pytestmark = [guest_only, pytest.mark.test_kernel]

MKDIR = "__x64_sys_mkdir"
FTRACE = Path("/proc/sys/kernel/ftrace_enabled")
KPROBES = Path("/sys/kernel/debug/kprobes/enabled")
ADDRESSES = Path("/proc/sys/kernel/kptr_restrict")


@contextlib.contextmanager
def holding(switch: Path, value: str) -> Iterator[None]:
    """``value`` in ``switch``, and afterwards what was there."""
    before = switch.read_text()
    switch.write_text(value)
    try:
        yield
    finally:
        switch.write_text(before)


def test_another_programs_trampoline(engine: Engine, kernel: Kernel, types: Types) -> None:
    """It calls the body that a kprobe's override skips; fmod_ret is part of the same trampoline."""
    (made,) = scenarios.parse(f"faults: [{{function: {MKDIR}, return: -EIO}}]\nrun: 'true'\n", "t.yaml", "t")
    plan = Planner(kernel, types, 1).plan(made)
    with Engine(kernel, cache_root() / "bytecode") as other:
        other.attach(plan, Probe.FMOD_RET)
        with pytest.raises(CannotRun, match=f"another tracing program .* is attached to {MKDIR}"):
            engine.attach(plan, Probe.KPROBE)
        engine.attach(plan, Probe.AUTO)
        assert engine.used == (Probe.FMOD_RET,) and engine.bypassed() == []
        other.detach()
        engine.attach(plan, Probe.KPROBE)
        assert engine.bypassed() == []
        other.attach(plan, Probe.FMOD_RET)
        assert engine.bypassed() == [MKDIR]
        other.detach()
        assert engine.bypassed() == []
    engine.detach()


@pytest.mark.slow
def test_a_tracer_beside(tmp_path: Path) -> None:
    """bpftrace's fexit: an error is returned for a call only if its body did not run."""
    probe = f"fexit:vmlinux:{MKDIR} {{ @returned[retval] = count(); }}"
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(["bpftrace", "-e", probe], stdout=said, stderr=said) as tracer,
    ):
        try:
            hooks = Path("/sys/kernel/debug/tracing/enabled_functions")
            wait_for(lambda: f"{MKDIR} (" in hooks.read_text(), "bpftrace attaches", process=tracer)
            for choice, code in (("kprobe", 3), ("fmod_ret", 1), ("auto", 1)):
                made = tmp_path / choice
                done = inject("fail", MKDIR, "--return", "-EIO", "--probe", choice, "--", "mkdir", made)
                assert done.returncode == code, done.stderr
                beside = f"another tracing program (fentry, fexit or BPF LSM) is attached to {MKDIR}" in done.stderr
                assert beside == (code == 3), done.stderr
                assert (f"{MKDIR} returned -EIO once" in done.stderr) == (code == 1), done.stderr
                assert not made.exists()
        finally:
            tracer.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                tracer.wait(60)
            tracer.kill()
    assert "@returned[-5]: 2" in (tmp_path / "said").read_text()


@pytest.mark.parametrize(
    ("switch", "fix"), [(FTRACE, "sysctl kernel.ftrace_enabled=1"), (KPROBES, f"echo 1 >{KPROBES}")]
)
def test_probes_that_are_switched_off(tmp_path: Path, switch: Path, fix: str) -> None:
    for probe in ("auto", "kprobe", "fmod_ret"):
        with holding(switch, "0"):
            done = inject("fail", MKDIR, "--return", "-EIO", "--probe", probe, "--", "mkdir", tmp_path / probe)
        assert done.returncode == 3 and fix in done.stderr, done.stderr
        assert not (tmp_path / probe).exists()
    with holding(switch, "0"):
        done = inject("doctor")
    assert done.returncode == 3 and fix in done.stdout
    done = inject("fail", MKDIR, "--return", "-EIO", "--probe", "kprobe", "--", "mkdir", tmp_path / "on")
    assert done.returncode == 1 and not (tmp_path / "on").exists(), done.stderr


def test_a_probe_that_is_switched_off_meanwhile(tmp_path: Path) -> None:
    """The calls after that were not failed: no verdict on the kernel."""
    script = f"mkdir {tmp_path}/a; echo 0 >{KPROBES}; mkdir {tmp_path}/b"
    with holding(KPROBES, "1"):
        done = inject("fail", MKDIR, "--return", "-EIO", "--probe", "kprobe", "--", "bash", "-c", script)
    assert done.returncode == 4 and "kprobes are switched off" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        [MKDIR, "--return", "-EIO", "--stack", "do_syscall_64"],
        [MKDIR, "--return", "-EIO", "--stack", "!do_syscall_64"],
        [MKDIR, "--return", "-EIO", "--trace", "--probe", "kprobe"],
        ["should_failslab", "--return", "-ENOMEM", "--stack", "module:bcachefs"],
    ],
)
def test_what_needs_addresses(tmp_path: Path, words: list[str]) -> None:
    with holding(ADDRESSES, "2"):
        done = inject("fail", *words, "--", "mkdir", tmp_path / "d")
    assert done.returncode == 3 and "sysctl kernel.kptr_restrict=1" in done.stderr, done.stderr
    assert not (tmp_path / "d").exists()


def test_what_needs_no_addresses(tmp_path: Path) -> None:
    """The call fails; the stack trace has numbers in place of wrong names."""
    for probe in ("kprobe", "fmod_ret"):
        with holding(ADDRESSES, "2"):
            done = inject("fail", MKDIR, "--return", "-EIO", "--probe", probe, "--", "mkdir", tmp_path / probe)
        assert done.returncode == 1 and f"{MKDIR} returned -EIO once" in done.stderr, done.stderr
        assert "first in mkdir/" in done.stderr and " < 0xffff" in done.stderr, done.stderr
        assert not (tmp_path / probe).exists()
    with holding(ADDRESSES, "2"):
        done = inject("doctor")
    assert done.returncode == 0 and "sysctl kernel.kptr_restrict=1" in done.stdout
