"""Links between loaded programs and the kernel: one class per kind, each with one close().

A link owns its program from the start: a refused one closes it. The kernel takes a link
away by itself when this process ends in any way (perf events: kernel/events/core.c,
perf_event_release_kernel(); the others: kernel/bpf/syscall.c, bpf_link_release(), v6.12).
"""

from __future__ import annotations

import ctypes
import os
import secrets
from collections.abc import Sequence
from typing import Protocol

from inject.engine import kprobe_multi
from inject.engine.bcc import Bcc, captured_stderr, failed
from inject.engine.quiesce import others_still
from inject.engine.syscall import missed
from inject.errors import CannotRun, InjectError
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import without_ftrace
from inject.model.point import FaultPoint
from inject.module.device import ModuleProbe


class Link(Protocol):
    """A program that the kernel runs until close()."""

    def missed(self) -> int:
        """Calls since it was attached that it did not see, because other probes or programs were busy on that CPU."""

    def close(self) -> None:
        """Detach and unload it."""


class KprobeLink:
    """A kprobe at the entry of a function. Raises CannotRun if the kernel refuses it."""

    def __init__(self, bcc: Bcc, kernel: Kernel, point: FaultPoint, program: int, slot: int) -> None:
        self._lib = bcc.lib
        self._program = program
        self._name = b"inject_%s_%d" % (secrets.token_hex(8).encode(), slot)
        with captured_stderr() as noise:
            self._event = self._lib.bpf_attach_kprobe(program, 0, self._name, point.function.encode(), 0, 0)
            number = ctypes.get_errno()
            said = noise()
        if self._event < 0:
            os.close(program)
            raise _refused(kernel, point, number, said)

    def missed(self) -> int:
        """Calls that it did not see."""
        return missed(self._program)

    def close(self) -> None:
        """Detach and unload it."""
        os.close(self._event)
        with captured_stderr():
            self._lib.bpf_detach_kprobe(self._name)
        os.close(self._program)


def _refused(kernel: Kernel, point: FaultPoint, number: int, said: str) -> InjectError:
    """Reasons for which the kernel refuses a probe, although the planner found no obstacle."""
    if "notrace" in said or (kernel.ftrace.traceable and not kernel.ftrace.traceable & {point.function, *point.names}):
        return without_ftrace(point)
    reason = os.strerror(number) if number else (said.strip().splitlines() or ["no reason given"])[-1]
    return CannotRun(
        f"the kernel refuses a probe on {point.function} ({reason})",
        f"`inject list --explain {point.function}` may say why",
    )


class ModuleLink:
    """A probe of inject's module and the program that it asks. Raises CannotRun if the kernel refuses either."""

    NAMES = ("inject_call", "inject_call_tp")
    """The tracepoint before Linux 6.16 and since."""

    def __init__(self, bcc: Bcc, probe: ModuleProbe, program: int) -> None:
        self._probe = probe
        self._program = program
        for name in self.NAMES:
            with captured_stderr():
                self._link = bcc.lib.bpf_attach_raw_tracepoint(program, name.encode())
            if self._link >= 0:
                return
        refusal = failed("the module's tracepoint cannot be used")
        probe.close()
        os.close(program)
        raise refusal

    def missed(self) -> int:
        """Calls that it did not see."""
        return self._probe.missed() + missed(self._program)

    def close(self) -> None:
        """Take away the probe, detach the program and unload it."""
        self._probe.close()
        os.close(self._link)
        os.close(self._program)


class TrampolineLink:
    """A fmod_ret program, loaded for its function by name. Raises CannotRun if the kernel refuses it."""

    def __init__(self, bcc: Bcc, point: FaultPoint, program: int) -> None:
        self._program = program
        with captured_stderr():
            self._link = bcc.lib.bpf_attach_kfunc(program)
        if self._link < 0:
            os.close(program)
            raise failed(f"the kernel refuses fmod_ret on {point.function}")

    def missed(self) -> int:
        """Calls that it did not see."""
        return missed(self._program)

    def close(self) -> None:
        """Detach and unload it."""
        os.close(self._link)
        os.close(self._program)


class TracepointLink:
    """A program on the raw tracepoint ``name``. Raises CannotRun if the kernel refuses it."""

    def __init__(self, bcc: Bcc, name: str, program: int) -> None:
        self._program = program
        self._link = bcc.lib.bpf_attach_raw_tracepoint(program, name.encode())
        if self._link < 0:
            os.close(program)
            raise failed("cannot trace system calls")

    def missed(self) -> int:
        """Calls that it did not see."""
        return missed(self._program)

    def close(self) -> None:
        """Detach and unload it."""
        os.close(self._link)
        os.close(self._program)


class ReturnWatch:
    """One program on the returns of all functions at ``addresses``. Raises CannotRun if the kernel cannot.

    ``emulated`` says that the processor is, which needs care while functions are patched.
    """

    def __init__(self, code: bytes, addresses: Sequence[int], *, emulated: bool) -> None:
        self.addresses = tuple(addresses)
        self._emulated = emulated
        with others_still(emulated):
            self._descriptors = kprobe_multi.probe_returns(code, self.addresses, "on_return")

    def close(self) -> None:
        """Detach and unload it."""
        with others_still(self._emulated):
            for descriptor in self._descriptors:
                os.close(descriptor)
