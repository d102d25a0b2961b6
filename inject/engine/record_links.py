"""The links of one recording: all functions by one, without those that the kernel refuses, or a few by kprobes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

from inject.engine import kprobe_multi
from inject.engine.bcc import Bcc, captured_stderr
from inject.engine.quiesce import others_still
from inject.engine.syscall import ProgramRefused, load_program, missed
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel

FEW = 200
"""Functions that get a kprobe each where the kernel cannot attach to many at once: each takes milliseconds."""
REFUSED = 64
"""Functions that may be refused before no more are tried."""
NAME = "on_call"


class RecordLinks:
    """Attaches the program ``code``. True while it is attached."""

    def __init__(self, bcc: Bcc, kernel: Kernel, code: bytes) -> None:
        self._lib = bcc.lib
        self._kernel = kernel
        self._code = code
        self._descriptors: list[int] = []
        self._programs: list[int] = []
        self._events: list[bytes] = []
        self.few = ""
        """Why only FEW functions have a probe; "" if all have that the kernel did not refuse."""
        self.missed = 0
        """Calls that the program did not see from forget() to close()."""

    def __bool__(self) -> bool:
        return bool(self._descriptors)

    def attach(self, addresses: Sequence[int]) -> list[int]:
        """Attach to the functions at ``addresses``; those without a probe. Raises CannotRun if none gets one."""
        with others_still(self._kernel.is_emulated()):
            refused, why = self._multi(addresses)
            if not self._descriptors and addresses:
                refused = self._kprobes(addresses, why)
        return refused

    def _multi(self, addresses: Sequence[int]) -> tuple[list[int], str]:
        """By as few kprobe.multi links as possible: the kernel refuses each with a function that it cannot probe."""
        refused: list[int] = []
        waiting, why = [tuple(addresses)], ""
        while waiting:
            some = waiting.pop()
            if not some:
                continue
            if len(refused) >= REFUSED:
                refused += some
                continue
            try:
                link, program = kprobe_multi.probe_entries(self._code, some, NAME)
            except ProgramRefused as error:
                raise CannotRun(
                    f"the kernel refuses the BPF program ({error.strerror}): {error.said}",
                    "`inject doctor` lists what it needs",
                ) from None
            except OSError as error:
                why = error.strerror or str(error)
                if len(some) == 1:
                    refused += some
                else:
                    middle = len(some) // 2
                    waiting += [some[middle:], some[:middle]]
                continue
            self._descriptors += [link, program]
            self._programs.append(program)
        return refused, why

    def _kprobes(self, addresses: Sequence[int], why: str) -> list[int]:
        """One kprobe for each of the first FEW functions; those without."""
        refused = list(addresses[FEW:])
        program = load_program(kprobe_multi.KPROBE, self._code, NAME)
        self._descriptors.append(program)
        self._programs.append(program)
        for number, address in enumerate(addresses[:FEW]):
            names = self._kernel.symbols.names_at(address)
            event = b"inject_%s_%d" % (secrets.token_hex(8).encode(), number)
            with captured_stderr():
                found = self._lib.bpf_attach_kprobe(program, 0, event, names[0].encode(), 0, 0) if names else -1
            if found < 0:
                refused.append(address)
                continue
            self._descriptors.append(found)
            self._events.append(event)
        if not self._events:
            self.close()
            raise CannotRun(
                f"the kernel refuses a probe on each of {len(addresses)} functions ({why})",
                "`inject list --explain FUNC` may say why",
            )
        self.few = f"this kernel cannot attach to many functions at once ({why}): it needs CONFIG_FPROBE=y (Linux 5.18)"
        return refused

    def forget(self) -> None:
        """Count the calls that are missed from now on."""
        self.missed = -self._missed()

    def _missed(self) -> int:
        return sum(missed(program) for program in self._programs)

    def close(self) -> None:
        """Detach and unload."""
        if not self._descriptors:
            return
        self.missed += self._missed()
        with others_still(self._kernel.is_emulated()):
            for descriptor in reversed(self._descriptors):
                os.close(descriptor)
            for event in self._events:
                with captured_stderr():
                    self._lib.bpf_detach_kprobe(event)
        self._descriptors.clear()
        self._programs.clear()
        self._events.clear()
