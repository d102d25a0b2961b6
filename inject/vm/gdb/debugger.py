"""A gdb on a guest: inject stands between it and QEMU's gdb stub.

Besides what gdb asks for, the guest is stopped at each call that is being failed
(diversions.py), if the trial under way asks for it.
"""

from __future__ import annotations

import shlex
import socket
from pathlib import Path
from typing import Callable, Optional

from inject.errors import CannotRun
from inject.model.event import Armed, RunEnded
from inject.model.verdict import Verdict
from inject.report.jsonl import NotAnEvent, read_line
from inject.vm.channel import WATCHED
from inject.vm.gdb.diversions import Diversions
from inject.vm.gdb.rsp import INTERRUPT, Gone, Wire
from inject.vm.gdb.symbols import Symbols
from inject.vm.machine import Machine

COMMAND_LINE = f"nokaslr {WATCHED}"
"""On the guest kernel's command line: symbols stay where System.map has them, and inject there knows of gdb."""

MODULES = "modules.gdb"
"""Beside the vmlinux of a stock kernel: what reads the symbols of its modules."""

TRIES = 100
"""Stops at diversions that may come before the one that was asked for."""


class Debugger:
    """The gdb stub of one booted guest. Raises CannotRun when the kernel has no symbols."""

    def __init__(
        self, machine: Machine, stub: socket.socket, vmlinux: Optional[Path], say: Callable[[str], None]
    ) -> None:
        if vmlinux is None:
            raise CannotRun(
                "no vmlinux belongs to this kernel image, so gdb would know no names",
                "give the bzImage in its build tree",
            )
        self._machine = machine
        self._vmlinux = vmlinux
        self._say = say
        self._stub = Wire(stub)
        self._diversions = Diversions(self._stub, Symbols.beside(vmlinux))
        self._gdb: Optional[Wire] = None
        self._owed = 0
        """Answers to gdb that the stub has still to give."""
        self._running = True
        self._wanted = False
        """True if the trial under way asks for a stop at each injection."""
        self._had = False
        """True if there was a stop since one was wanted."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._listener.setblocking(False)

    @property
    def command(self) -> str:
        """The command that attaches gdb."""
        host, port = self._listener.getsockname()
        script = self._vmlinux.with_name(MODULES)
        more = f"-x {shlex.quote(str(script))} " if script.is_file() else ""
        return f"gdb {shlex.quote(str(self._vmlinux))} {more}-ex 'target remote {host}:{port}'"

    @property
    def holding(self) -> bool:
        """True while the guest stands still for gdb, or waits for one."""
        return not self._running

    def start(self) -> None:
        """Let gdb attach from now on."""
        self._stop()
        self._stub.ask(b"qXfer:features:read:target.xml:0,ffb")  # before that QEMU writes no single register
        self._resume()
        self._machine.watch(self._stub.fileno(), self._heard_stub, lambda: True)
        self._machine.watch(self._listener.fileno(), self._arrived, lambda: self._gdb is None)
        self._say(f"gdb may attach: {self.command}")

    def close(self) -> None:
        """Close every connection."""
        for wire in (self._stub, self._gdb):
            if wire is not None and wire.fileno() >= 0:
                self._machine.unwatch(wire.fileno())
                wire.close()
        self._gdb = None
        if self._listener.fileno() >= 0:
            self._machine.unwatch(self._listener.fileno())
            self._listener.close()
        self._running = True

    def hear(self, line: bytes) -> None:
        """Take a line that the guest wrote to its results port: it says whether a stop is wanted."""
        try:
            event = read_line(line)
        except NotAnEvent:
            return
        if isinstance(event, Armed):
            self._wanted, self._had = event.stop, False
            if event.stop and self._diversions.lacking:
                self._say(f"the guest does not stop: {self._diversions.lacking}")
        elif isinstance(event, (Verdict, RunEnded)):
            self._wanted = False

    # ------------------------------------------------------------ the guest

    def _stop(self) -> None:
        """Stop the guest, wherever it is."""
        for _ in range(TRIES):
            if not self._running:
                return
            self._stub.interrupt()
            stopped = self._stub.next()
            self._running = False
            if self._for_gdb(stopped):
                return
        raise Gone(self._stub, "the guest could not be stopped")

    def _resume(self, packet: bytes = b"c") -> None:
        """Let the guest go on as ``packet`` says; a shown call is diverted again."""
        self._diversions.put_back(stepping=_steps(packet))
        self._diversions.set_breakpoints()
        self._stub.send(packet)
        self._running = True

    def _for_gdb(self, stopped: bytes) -> bool:
        """Handle a stop; False if it was only inject's, and the guest runs on."""
        thread = _thread(stopped)
        if thread is None:
            return True
        told = self._diversions.stopped(thread, wanted=self._wanted)
        if told == "":
            self._resume()
            return False
        if told is not None:
            self._had = True
            self._say(told)
            if self._gdb is None:
                self._say(f"attach to it with: {self.command} -ex bt")
        return True

    # ------------------------------------------------------------ gdb

    def _arrived(self) -> None:
        """Accept a gdb; it expects a guest that stands still."""
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        self._gdb = Wire(connection)
        self._machine.watch(connection.fileno(), self._heard_gdb, lambda: True)
        self._guarded(self._stop)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do what may find one side gone: without gdb the guest runs on, and the heartbeat finds QEMU's end."""
        try:
            action()
        except Gone as gone:
            if gone.wire is self._gdb:
                self._guarded(self._left)
            else:
                self.close()

    def _heard_gdb(self) -> None:
        wire = self._gdb
        if wire is not None:
            self._guarded(lambda: self._all_from_gdb(wire))

    def _all_from_gdb(self, wire: Wire) -> None:
        for packet in wire.packets():
            if self._gdb is wire:
                self._from_gdb(wire, packet)

    def _from_gdb(self, wire: Wire, packet: bytes) -> None:
        if packet == INTERRUPT:
            if self._running:
                self._stub.interrupt()
        elif packet == b"QStartNoAckMode":
            wire.send(b"")
        elif packet == b"D" or packet.startswith(b"D;"):
            wire.send(b"OK")
            self._left()
        elif packet == b"?":
            wire.send(self._where())
        elif _resumes(packet):
            self._resume(packet)
        else:
            self._owed += 1
            self._stub.send(packet)

    def _where(self) -> bytes:
        """The stop, and its thread: that of the shown call, even if QEMU's current thread is another.

        gdb reads that thread's registers without naming it first.
        """
        answer = self._stub.ask(b"?")
        thread = _thread(answer)
        if thread is None:
            return answer
        shown = self._diversions.shown
        if shown is not None:
            process, dot, _ = thread.rpartition(b".")
            thread = process + dot + shown.rpartition(b".")[2]
        self._stub.ask(b"Hg" + thread)
        return b"T05thread:%s;" % thread

    def _left(self) -> None:
        """Let go of a gdb that is gone: its breakpoints go too, and the guest runs on to its verdict."""
        wire, self._gdb = self._gdb, None
        if wire is not None:
            self._machine.unwatch(wire.fileno())
            wire.close()
        self._wanted = self._wanted and not self._had
        while self._owed:  # answers that gdb no longer reads
            self._from_stub(self._stub.next())
        self._stop()
        self._stub.ask(b"?")  # QEMU forgets all breakpoints then (gdbstub.c, handle_target_halt())
        self._resume()

    def _heard_stub(self) -> None:
        self._guarded(self._all_from_stub)

    def _all_from_stub(self) -> None:
        for packet in self._stub.packets():
            self._from_stub(packet)

    def _from_stub(self, packet: bytes) -> None:
        if self._running and packet[:1] in (b"T", b"S"):
            self._running = False
            self._machine.catch_up("results")  # whether this stop is wanted was said before, on another way
            if not self._for_gdb(packet):
                return
            if self._gdb is None and self._diversions.shown is None:
                self._resume()
                return
        elif self._owed and (packet[:1] != b"O" or packet == b"OK"):  # what a command prints comes before its answer
            self._owed -= 1
        if self._gdb is not None:
            self._gdb.send(packet)


def _thread(stopped: bytes) -> Optional[bytes]:
    """The thread of a stop reply: ``T05thread:p01.02;``."""
    for field in stopped[3:].split(b";"):
        key, _, value = field.partition(b":")
        if key == b"thread":
            return value
    return None


def _resumes(packet: bytes) -> bool:
    return packet[:1] in (b"c", b"C", b"s", b"S") or packet.startswith(b"vCont;")


def _steps(packet: bytes) -> bool:
    return packet[:1] in (b"s", b"S") or b";s" in packet or b";S" in packet
