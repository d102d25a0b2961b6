"""The stop at the very call that an injection fails, seen through QEMU's gdb stub.

A call that an injection fails goes through two functions of
arch/x86/lib/error-inject.c (Linux 6.12) that nothing else uses:
override_function_with_return(), which gets the registers that the call began with, and
just_return_func(), to which the call is then diverted and which at once returns to the
caller, with every register except the instruction pointer as at the call's beginning.
The guest is stopped at just_return_func(), and while it is stopped the instruction
pointer is put where it was: gdb sees the injected function at its entry, with its
arguments and its true callers. Before the guest goes on, the pointer is put back, and
the injection happens as without a debugger.
"""

from __future__ import annotations

import contextlib
from typing import Optional

from inject.model.errnos import errno_name
from inject.vm.gdb.rsp import Gone, Wire
from inject.vm.gdb.symbols import Symbols

OVERRIDE = "override_function_with_return"
RETURNING = "just_return_func"

RAX, RDI, RBP, RSP, RIP = 0, 5, 6, 7, 16
"""Places in the packet of all registers (gdb, amd64 without features beyond the core)."""

REGS_IP, REGS_SP = 128, 152
"""Offsets in struct pt_regs (arch/x86/include/asm/ptrace.h)."""

FRAMES = 16
"""Callers that are looked up for the stack trace."""


class Diversions:
    """Calls on their way to just_return_func(). None is stopped if the kernel lacks these two functions."""

    def __init__(self, stub: Wire, symbols: Symbols) -> None:
        self._stub = stub
        self._symbols = symbols
        self._override = symbols.address(OVERRIDE)
        self._returning = symbols.address(RETURNING)
        self._begun: dict[int, int] = {}
        """Calls that are about to be diverted: stack pointer at the call's beginning, and the function's address."""
        self._shown: Optional[tuple[bytes, int]] = None
        """The thread whose instruction pointer is put back to a function's beginning, and that address."""

    @property
    def lacking(self) -> str:
        """Sentence that says what the kernel lacks; "" if nothing."""
        names = [name for name, at in ((OVERRIDE, self._override), (RETURNING, self._returning)) if at is None]
        return f"this kernel has no {names[0]}(), so it lacks CONFIG_FUNCTION_ERROR_INJECTION" if names else ""

    @property
    def shown(self) -> Optional[bytes]:
        """The thread that stands at a call that is being failed."""
        return self._shown[0] if self._shown is not None else None

    def set_breakpoints(self) -> None:
        """Set the two breakpoints, each once, even if gdb has removed or set the same."""
        for address in (self._override, self._returning):
            if self.lacking or address is None:
                return
            self._stub.ask(b"z1,%x,1" % address)
            self._stub.ask(b"Z1,%x,1" % address)

    def stopped(self, thread: bytes, *, wanted: bool) -> Optional[str]:
        """Handle a stop of ``thread`` at one of the two functions.

        Returns "" after a stop that only this debugger needed: the guest is to run on.
        Otherwise None, or, if a call is now shown because stops are ``wanted``, a line about it.
        """
        if self._override is None or self._returning is None:
            return None
        registers = self._registers()
        if registers[RIP] == self._override:
            began, stack = self._word(registers[RDI] + REGS_IP), self._word(registers[RDI] + REGS_SP)
            function = self._symbols.function(began) if began is not None else None
            if function is not None and stack is not None:
                self._begun[stack] = function[1]
            self._step(thread, self._override)
            return ""
        if registers[RIP] == self._returning:
            address = self._begun.pop(registers[RSP], None)
            if address is None or not wanted:
                self._step(thread, self._returning)
                return ""
            self._set_pointer(address)
            self._shown = thread, address
            return self._described(registers, address)
        return None

    def put_back(self, *, stepping: bool) -> None:
        """Divert the shown call again, before the guest goes on; ``stepping``: by a single step of gdb."""
        if self._shown is None:
            return
        (thread, function), self._shown = self._shown, None
        self._stub.ask(b"Hg" + thread)
        if self._returning is None or self._registers()[RIP] != function:
            return  # gdb sent it elsewhere
        self._set_pointer(self._returning)
        if not stepping:
            self._step(thread, self._returning)

    def _step(self, thread: bytes, breakpoint: int) -> None:
        """Run one instruction of one processor, over the breakpoint."""
        self._stub.ask(b"z1,%x,1" % breakpoint)
        self._stub.send(b"vCont;s:" + thread)
        self._stub.next()

    # ------------------------------------------------------------ registers and memory

    def _registers(self) -> list[int]:
        data = self._stub.ask_bytes(b"g")
        if len(data) < 8 * (RIP + 1):
            raise Gone(self._stub, "QEMU's gdb stub gave too few registers")
        return [int.from_bytes(data[8 * n : 8 * n + 8], "little") for n in range(RIP + 1)]

    def _set_pointer(self, address: int) -> None:
        self._stub.ask(b"P%x=%s" % (RIP, address.to_bytes(8, "little").hex().encode()))

    def _word(self, address: int) -> Optional[int]:
        answer = self._stub.ask(b"m%x,8" % address)
        with contextlib.suppress(ValueError):
            data = bytes.fromhex(answer.decode("ascii"))
            return int.from_bytes(data, "little") if len(data) == 8 else None
        return None

    def _described(self, registers: list[int], address: int) -> str:
        path = " < ".join(self._symbols.described(caller - 1).partition("+")[0] for caller in self._callers(registers))
        name = self._symbols.described(address).partition("+")[0]
        return f"stopped where {name} is made to return {returned(registers[RAX])}, called from {path}"

    def _callers(self, registers: list[int]) -> list[int]:
        """Return address of the function, and those of its callers by their frame pointers."""
        found = [self._word(registers[RSP])]
        frame = registers[RBP]
        while len(found) < FRAMES and found[-1] is not None and self._symbols.function(found[-1]) is not None:
            caller, above = self._word(frame + 8), self._word(frame)
            found.append(caller)
            if above is None or above <= frame:
                break
            frame = above
        return [caller for caller in found if caller is not None and self._symbols.function(caller) is not None]


def returned(value: int) -> str:
    """``-ENOMEM`` if the value is a negative errno, else the number."""
    signed = value - (1 << 64) if value >> 63 else value
    signed = signed - (1 << 32) if 1 << 31 <= signed < 1 << 32 else signed
    name = errno_name(-signed)
    return f"-{name}" if name and signed < 0 else str(signed)
