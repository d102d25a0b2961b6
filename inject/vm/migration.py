"""The state of a guest's devices, written to a file and read by another QEMU; its memory is a file already."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from inject.vm.machine import Machine
from inject.vm.monitor import MonitorError

LIMIT = 30.0
"""Seconds in which QEMU must have written or read the state; measured 0.02."""

POLL = 0.01


def save(machine: Machine, state: Path) -> None:
    """Stop the guest of ``machine`` and write its state; raises MonitorError if QEMU does not do it in LIMIT."""
    machine.monitor.ask("stop")
    _leave_memory(machine)
    machine.monitor.ask("migrate", uri=f"exec:cat >{shlex.quote(str(state))}")
    _wait(machine, "query-migrate", done=("completed",), failed=("failed", "cancelled"))


def restore(machine: Machine, state: Path) -> None:
    """Have a ``machine`` that waits for a state take it, and the guest go on; raises MonitorError as save() does."""
    _leave_memory(machine)
    machine.monitor.ask("migrate-incoming", uri=f"exec:cat {shlex.quote(str(state))}")
    _wait(machine, "query-status", done=("paused", "postmigrate", "prelaunch"), failed=("internal-error",))
    machine.monitor.ask("cont")


def _leave_memory(machine: Machine) -> None:
    capability = {"capability": "x-ignore-shared", "state": True}
    machine.monitor.ask("migrate-set-capabilities", capabilities=[capability])


def _wait(machine: Machine, question: str, done: Sequence[str], failed: Sequence[str]) -> None:
    until = time.monotonic() + LIMIT
    while (status := machine.monitor.ask(question).get("status")) not in done:
        if status in failed:
            raise MonitorError(f"QEMU could not move the guest's state: {status}")
        if time.monotonic() > until:
            raise MonitorError(f"QEMU did not move the guest's state within {LIMIT:g} s")
        machine.pump(POLL)
