"""The end of a guest: from what QEMU and the console say to Lost."""

from __future__ import annotations

import contextlib
import signal
from typing import Callable, Optional

from inject.errors import InjectError
from inject.fleet.host import Ending, Lost, Patience, Remains
from inject.model.event import EngineMemory
from inject.process.signals import signal_name
from inject.vm.gdb.symbols import Symbols
from inject.vm.machine import Machine
from inject.vm.monitor import MonitorError
from inject.vm.remains import remains_of

LAST_WORDS = 5.0
"""Seconds that a panicked or hung guest gets to finish what it prints."""

CONSOLE = 200
"""Lines of the console that say why a guest is lost: an oops of Linux 6.12 has about 90, after what led to it."""

_SHUTDOWN = {
    "guest-shutdown": "it was powered off from inside",
    "guest-reset": "it was reset without a panic, as by a triple fault",
}

_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL})


class Examiner:
    """Finds out of one machine whether its guest is gone, and why.

    ``booted``: the agent has said hello. ``memory`` says where the guest has what it counts and
    reports of the trial under way, ``symbols`` reads its kernel's symbols.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._distrusted = ""
        self._remains = Remains()
        self.memory: Optional[EngineMemory] = None
        self.symbols: Callable[[], Optional[Symbols]] = lambda: None
        self.booted = False

    def lost(self, ending: Ending, why: str, hint: str = "", **of_host: bool) -> Lost:
        """The exception for this end, with the console's tail."""
        self.remains()
        lost = Lost(ending, why, hint=hint, console=self._machine.console.tail(CONSOLE), **of_host)
        lost.remains = self._remains
        return lost

    def remains(self) -> Remains:
        """What the guest's memory tells of the trial under way; what it told before, once QEMU has ended."""
        if self.memory is not None and self._machine.running():
            with contextlib.suppress(InjectError, ValueError):
                self._remains = remains_of(self.memory, self._machine.memory, self.symbols())
        return self._remains

    def _let_go(self) -> None:
        """End a QEMU whose guest has ended, after a look into its memory (-no-shutdown)."""
        if self._machine.monitor.shutdown and self._machine.running():
            self.remains()
            self._machine.quit()

    def distrust(self, why: str) -> None:
        """Have :meth:`check` end this guest, which wrote what inject's agent never writes; the first reason counts."""
        self._distrusted = self._distrusted or why

    def check(self, *, held: bool = False) -> None:
        """Raise Lost if QEMU ended or stopped the guest; ``held``: a debugger stopped it."""
        machine = self._machine
        self._let_go()
        if machine.monitor.stopped and not held:
            self._check_stop()
        if machine.running():
            if self._distrusted:
                raise self.lost(Ending.UNTRUSTED, self._distrusted)
            return
        hint = "" if machine.drain() else "not all that it wrote could be read"
        panic, why, code = machine.console.panic(), self._why_qemu_ended(), machine.exit_code()
        ending = Ending.ENDED if self.booted else Ending.NEVER_BOOTED
        if panic is not None:
            ending = Ending.PANICKED if self.booted else Ending.NEVER_BOOTED
            raise self.lost(ending, panic or "it gave no reason", hint)
        raise self.lost(ending, why, hint, host_fault=code != 0, qemu_crashed=-code in _CRASHES)

    def check_panic(self) -> None:
        """Raise Lost if the console shows a panic."""
        panic = self._machine.console.panic()
        if panic is not None:
            raise self.lost(Ending.PANICKED, panic)

    def provoke_last_words(self) -> None:
        """Send an NMI, at which the guest's kernel panics with a stack that shows where it hung."""
        machine = self._machine
        with contextlib.suppress(MonitorError):
            machine.monitor.ask("inject-nmi", timeout=LAST_WORDS)
            patience = Patience(LAST_WORDS)
            while machine.running() and not machine.monitor.shutdown and not patience.over():
                machine.pump()
            self._let_go()
            machine.drain(LAST_WORDS if not machine.running() else 0.0)

    def _why_qemu_ended(self) -> str:
        code = self._machine.exit_code()
        said = "; ".join(self._machine.errors.tail(3).strip().split("\n"))
        if code < 0:
            return f"QEMU was ended by {signal_name(-code)}{': ' + said if said else ''}"
        if code > 0:
            return f"QEMU ended with exit code {code}: {said or 'it gave no reason'}"
        shutdown = self._machine.monitor.shutdown
        return _SHUTDOWN.get(shutdown, shutdown or "QEMU ended")

    def _check_stop(self) -> None:
        """Raise Lost if QEMU stopped the guest: the host's disk is full, or KVM failed."""
        machine = self._machine
        if machine.monitor.out_of_space:
            why, hint = "the host's disk is full", "free some space, or set TMPDIR to a larger place"
            raise self.lost(Ending.HUNG, why, hint, host_fault=True)
        with contextlib.suppress(MonitorError):
            answer = machine.monitor.ask("query-status")
            status = answer.get("status") if isinstance(answer, dict) else None
            if status in ("internal-error", "io-error", "guest-panicked"):
                ending = Ending.HUNG if self.booted else Ending.NEVER_BOOTED
                said = machine.errors.text().strip().split("\n")[0]
                why = f"QEMU stopped it ({status}{': ' + said if said else ''})"
                raise self.lost(ending, why, host_fault=True)
