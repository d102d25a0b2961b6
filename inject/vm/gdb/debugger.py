"""A gdb of the user's on a guest, and the stop at the very call that is being failed.

We stand between QEMU's gdb stub and gdb. A call that an injection fails goes
through two functions of arch/x86/lib/error-inject.c that nothing else uses:
override_function_with_return(), which gets the registers that the call began
with, and just_return_func(), to which the call is then diverted and which at once
returns to the caller, with every register but the instruction pointer as at the
call's beginning. So the guest is stopped at just_return_func(), and while it is
stopped the instruction pointer is put where it was: gdb sees the tagged function
at its entry, with its arguments and its true callers. Before the guest goes on,
the pointer is put back, and the injection happens as if nobody had looked.
"""

from __future__ import annotations

import errno
import shlex
import socket
from pathlib import Path
from typing import Callable, Optional

from inject.errors import CannotRun
from inject.model.event import Armed, RunEnded
from inject.model.verdict import Verdict
from inject.report.jsonl import from_json
from inject.vm.channel import WATCHED, decode
from inject.vm.gdb.rsp import INTERRUPT, Gone, Wire
from inject.vm.gdb.symbols import Symbols
from inject.vm.machine import Machine

COMMAND_LINE = f"nokaslr {WATCHED}"
"""What the guest's kernel is told: its symbols stay where System.map has them, and the tool in it knows of us."""

OVERRIDE = "override_function_with_return"
RETURNING = "just_return_func"

RAX, RDI, RBP, RSP, RIP = 0, 5, 6, 7, 16
"""Places in the packet of all registers (gdb, amd64 without features beyond the core)."""

REGS_IP, REGS_SP = 128, 152
"""Offsets in struct pt_regs (arch/x86/include/asm/ptrace.h)."""

FRAMES = 16
"""Callers that are looked up for the call path."""

TRIES = 100
"""Stops of our own that may come before the one that was asked for."""


class Debugger:
    """The stub of one booted guest. ``holding`` is True while the guest stands still for gdb, or waits for one.

    Raises CannotRun when the kernel's symbols lack what it needs.
    """

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
        self._symbols = Symbols.beside(vmlinux)
        self._override = self._needed(OVERRIDE)
        self._returning = self._needed(RETURNING)
        self._stub = Wire(stub)
        self._gdb: Optional[Wire] = None
        self._owed = 0
        """Answers to gdb that the stub has still to give."""
        self._running = True
        self._wanted = False
        self._had = False
        """Whether there was a stop since it was wanted."""
        self._begun: dict[int, int] = {}
        """Calls that are about to be diverted: stack pointer at the call's beginning, and the function's address."""
        self._shown: Optional[tuple[bytes, int]] = None
        """The thread whose instruction pointer is put back to a function's beginning, and that address."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._listener.setblocking(False)

    def _needed(self, name: str) -> int:
        address = self._symbols.address(name)
        if address is None:
            raise CannotRun(f"this kernel has no {name}()", "it needs CONFIG_FUNCTION_ERROR_INJECTION=y")
        return address

    @property
    def command(self) -> str:
        """What attaches gdb."""
        host, port = self._listener.getsockname()
        return f"gdb {shlex.quote(str(self._vmlinux))} -ex 'target remote {host}:{port}'"

    @property
    def holding(self) -> bool:
        """Whether the guest stands still because somebody debugs it."""
        return not self._running

    def start(self) -> None:
        """Be there from now on."""
        self._stop()
        self._stub.ask(b"qXfer:features:read:target.xml:0,ffb")  # before that QEMU writes no single register
        self._resume()
        self._machine.watch(self._stub.fileno(), self._heard_stub, lambda: True)
        self._machine.watch(self._listener.fileno(), self._arrived, lambda: self._gdb is None)
        self._say(f"gdb may attach: {self.command}")

    def close(self) -> None:
        """Let go of every connection."""
        for wire in (self._stub, self._gdb):
            if wire is not None and wire.fileno() >= 0:
                self._machine.unwatch(wire.fileno())
                wire.close()
        self._gdb = None
        if self._listener.fileno() >= 0:
            self._machine.unwatch(self._listener.fileno())
            self._listener.close()
        self._running = True  # as far as we know

    def hear(self, line: bytes) -> None:
        """A line that the guest wrote to its results port: whether it wants to be stopped."""
        try:
            event = from_json(decode(line))
        except ValueError:
            return
        if isinstance(event, Armed):
            self._wanted, self._had = event.stop, False
        elif isinstance(event, (Verdict, RunEnded)):
            self._wanted = False

    # ------------------------------------------------------------ the guest

    def _registers(self) -> list[int]:
        data = bytes.fromhex(self._stub.ask(b"g").decode("ascii"))
        return [int.from_bytes(data[8 * n : 8 * n + 8], "little") for n in range(RIP + 1)]

    def _set_pointer(self, address: int) -> None:
        self._stub.ask(b"P%x=%s" % (RIP, address.to_bytes(8, "little").hex().encode()))

    def _word(self, address: int) -> Optional[int]:
        answer = self._stub.ask(b"m%x,8" % address)
        return int.from_bytes(bytes.fromhex(answer.decode("ascii")), "little") if len(answer) == 16 else None

    def _stop(self) -> None:
        """Stop a guest that runs, wherever it is; what we stop at ourselves is dealt with on the way."""
        for _ in range(TRIES):
            if not self._running:
                return
            self._stub.interrupt()
            stopped = self._stub.next()
            self._running = False
            if self._ours(stopped):
                return
        raise Gone(self._stub, "the guest could not be stopped")

    def _resume(self, packet: bytes = b"c") -> None:
        """Let the guest go on as ``packet`` says, the call that is shown as what it is."""
        self._put_back(stepping=_steps(packet))
        for address in (self._override, self._returning):
            self._stub.ask(b"z1,%x,1" % address)
            self._stub.ask(b"Z1,%x,1" % address)
        self._stub.send(packet)
        self._running = True

    def _put_back(self, *, stepping: bool) -> None:
        if self._shown is None:
            return
        (thread, function), self._shown = self._shown, None
        self._stub.ask(b"Hg" + thread)
        if self._registers()[RIP] != function:
            return  # gdb sent it elsewhere
        self._set_pointer(self._returning)
        if not stepping:
            self._step(thread, self._returning)

    def _step(self, thread: bytes, breakpoint: int) -> None:
        """One instruction of one processor, over our own breakpoint."""
        self._stub.ask(b"z1,%x,1" % breakpoint)
        self._stub.send(b"vCont;s:" + thread)
        self._stub.next()

    def _ours(self, stopped: bytes) -> bool:
        """Deal with a stop. False when it was only ours to see, and the guest runs on."""
        thread = _thread(stopped)
        if thread is None:
            return True
        registers = self._registers()
        if registers[RIP] == self._override:
            began = self._word(registers[RDI] + REGS_IP), self._word(registers[RDI] + REGS_SP)
            function = self._symbols.function(began[0]) if began[0] is not None else None
            if function is not None and began[1] is not None:
                self._begun[began[1]] = function[1]
            self._step(thread, self._override)
            self._resume()
            return False
        if registers[RIP] == self._returning:
            address = self._begun.pop(registers[RSP], None)
            if address is None or not self._wanted:
                self._step(thread, self._returning)
                self._resume()
                return False
            self._set_pointer(address)
            self._shown, self._had = (thread, address), True
            self._tell(registers, address)
        return True

    def _tell(self, registers: list[int], address: int) -> None:
        path = " < ".join(self._symbols.described(caller - 1).partition("+")[0] for caller in self._callers(registers))
        name = self._symbols.described(address).partition("+")[0]
        self._say(f"stopped where {name} is made to return {_returned(registers[RAX])}, called from {path}")
        if self._gdb is None:
            self._say(f"attach to it with: {self.command} -ex bt")

    def _callers(self, registers: list[int]) -> list[int]:
        """Where the function returns to, and its callers by their frame pointers."""
        found = [self._word(registers[RSP])]
        frame = registers[RBP]
        while len(found) < FRAMES and found[-1] is not None and self._symbols.function(found[-1]) is not None:
            caller, above = self._word(frame + 8), self._word(frame)
            found.append(caller)
            if above is None or above <= frame:
                break
            frame = above
        return [caller for caller in found if caller is not None and self._symbols.function(caller) is not None]

    # ------------------------------------------------------------ gdb

    def _arrived(self) -> None:
        """A gdb connects; it expects a guest that stands still."""
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        self._gdb = Wire(connection)
        self._machine.watch(connection.fileno(), self._heard_gdb, lambda: True)
        self._guarded(self._stop)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do what may find one side gone: without gdb the guest runs on, and QEMU's end is noticed by others."""
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
        """The stop, and its thread: that of the call, whichever QEMU takes for the current one.

        gdb reads that thread's registers without naming it first.
        """
        answer = self._stub.ask(b"?")
        thread = _thread(answer)
        if thread is None:
            return answer
        if self._shown is not None:
            process, dot, _ = thread.rpartition(b".")
            thread = process + dot + self._shown[0].rpartition(b".")[2]
        self._stub.ask(b"Hg" + thread)
        return b"T05thread:%s;" % thread

    def _left(self) -> None:
        """gdb is gone, in whatever way: its breakpoints with it, and the guest runs on to its verdict."""
        wire, self._gdb = self._gdb, None
        if wire is not None:
            self._machine.unwatch(wire.fileno())
            wire.close()
        self._wanted = self._wanted and not self._had
        while self._owed:  # nobody wants them any more
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
            if not self._ours(packet):
                return
            if self._gdb is None and self._shown is None:
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


def _returned(value: int) -> str:
    """``-ENOMEM`` where it is such a number, else the number itself."""
    signed = value - (1 << 64) if value >> 63 else value
    signed = signed - (1 << 32) if 1 << 31 <= signed < 1 << 32 else signed
    name = errno.errorcode.get(-signed)
    return f"-{name}" if name and signed < 0 else str(signed)
