"""The word for a guest's end, from what QEMU and the console say."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from inject.fleet.host import Ending, Lost, Remains
from inject.model.event import EngineMemory, Overridden
from inject.model.scenario import Probe
from inject.model.verdict import Counts
from inject.vm.console import Console
from inject.vm.ending import Examiner
from inject.vm.monitor import Monitor, MonitorError

MEMORY = EngineMemory(1 << 63, 1 << 63, 1 << 63, 0, 0, (Overridden("f", ("f",), (5,), ("5",), Probe.KPROBE),))
PANIC = b"BUG: kernel NULL pointer dereference\nKernel panic - not syncing: Fatal exception\n"


def machine(
    code: int = 0, *, running: bool = False, printed: bytes = b"", errors: bytes = b"", **of_monitor: Any
) -> Any:
    """Stands for a machine that is examined."""
    console, said = Console(), Console()
    console.feed(printed)
    said.feed(errors)
    monitor = Monitor(lambda _: None, lambda: None, lambda: False)
    for name, value in of_monitor.items():
        setattr(monitor, name, value)
    return SimpleNamespace(
        console=console,
        errors=said,
        monitor=monitor,
        running=lambda: running,
        exit_code=lambda: code,
        drain=lambda: True,
    )


def examined(made: Any, *, booted: bool = True) -> Lost:
    examiner = Examiner(made)
    examiner.booted = booted
    with pytest.raises(Lost) as caught:
        examiner.check()
    return caught.value


def test_a_panic() -> None:
    lost = examined(machine(printed=PANIC))
    assert (lost.ending, lost.host_fault) == (Ending.PANICKED, False)
    assert lost.why == "BUG: kernel NULL pointer dereference (Fatal exception)"
    assert "Kernel panic" in lost.console
    assert examined(machine(printed=PANIC), booted=False).ending is Ending.NEVER_BOOTED


@pytest.mark.parametrize(("number", "crashed"), [(signal.SIGKILL, False), (signal.SIGSEGV, True)])
def test_what_ended_qemu_is_not_the_guests_fault(number: signal.Signals, crashed: bool) -> None:
    lost = examined(machine(-number, errors=b"qemu: it hurts\n"))
    assert lost.why == f"QEMU was ended by {number.name}: qemu: it hurts"
    assert (lost.ending, lost.host_fault, lost.qemu_crashed) == (Ending.ENDED, True, crashed)


def test_qemu_that_refuses_to_run() -> None:
    assert examined(machine(1), booted=False).why == "QEMU ended with exit code 1: it gave no reason"


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("guest-shutdown", "it was powered off from inside"),
        ("guest-reset", "it was reset without a panic, as by a triple fault"),
        ("", "QEMU ended"),
    ],
)
def test_a_guest_that_ended_itself(reason: str, why: str) -> None:
    lost = examined(machine(shutdown=reason))
    assert (lost.ending, lost.why, lost.host_fault) == (Ending.ENDED, why, False)


def test_a_full_disk_of_the_host() -> None:
    lost = examined(machine(running=True, stopped=True, out_of_space=True))
    assert (lost.ending, lost.why, lost.host_fault) == (Ending.HUNG, "the host's disk is full", True)


def test_a_guest_that_a_debugger_holds_is_not_lost() -> None:
    Examiner(machine(running=True, stopped=True, out_of_space=True)).check(held=True)


def test_a_guest_that_has_ended_is_looked_into_and_let_go() -> None:
    """QEMU keeps its memory until then."""
    made, done = machine(printed=PANIC, shutdown="guest-reset", stopped=True), []

    def memory(_: int, size: int) -> bytes:
        done.append("looked")
        return bytes(size)

    made.memory = memory
    made.quit = lambda: done.append("quit")
    made.running = lambda: "quit" not in done
    examiner = Examiner(made)
    examiner.booted = True
    examiner.memory = MEMORY
    with pytest.raises(Lost) as caught:
        examiner.check()
    assert (caught.value.ending, caught.value.remains.counts) == (Ending.PANICKED, (Counts(),))
    assert (done[0], done[-1]) == ("looked", "quit")


@pytest.mark.parametrize("why", [MonitorError("QEMU refused memsave: Invalid addr"), ValueError("no kernel address")])
def test_memory_that_cannot_be_read_changes_nothing_of_the_end(why: Exception) -> None:
    def memory(*_: int) -> bytes:
        raise why

    made, left = machine(printed=PANIC, shutdown="guest-reset", stopped=True), [True]
    made.memory, made.quit, made.running = memory, left.clear, lambda: bool(left)
    examiner = Examiner(made)
    examiner.booted, examiner.memory = True, MEMORY
    with pytest.raises(Lost, match="panicked") as caught:
        examiner.check()
    assert caught.value.remains == Remains()


def test_a_guest_that_hangs_is_looked_into() -> None:
    """It may not even take an NMI."""
    made, ended = machine(running=True), []
    made.memory = lambda _, size: bytes(size)
    made.quit = lambda: ended.append(True)
    examiner = Examiner(made)
    examiner.memory = MEMORY
    examiner.provoke_last_words()
    assert examiner.lost(Ending.HUNG, "no heartbeat").remains == Remains((Counts(),))
    assert not ended


def test_a_port_that_is_written_wrongly_ends_a_living_guest_only() -> None:
    examiner = Examiner(machine(running=True))
    examiner.distrust("its agent wrote nonsense")
    with pytest.raises(Lost, match="cannot be trusted: its agent wrote nonsense"):
        examiner.check()
    examiner = Examiner(machine(printed=PANIC))
    examiner.booted = True
    examiner.distrust("its agent wrote nonsense")
    with pytest.raises(Lost, match="panicked"):
        examiner.check()
