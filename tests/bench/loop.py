"""A system call in a loop of machine code, and how many instructions one call takes. x86-64, under -icount only.

With `-icount shift=0` QEMU's time-stamp counter goes up by one for each instruction,
of user space and kernel alike. The difference between 2n calls and n calls is n calls
to the digit, without what surrounds the loop; a timer's interrupt in one of the rounds
makes that round longer, so the shortest counts.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from collections.abc import Sequence

CALLS = 40
"""n; some ten thousand instructions, far less than the 4,000,000 between two ticks of the kernel's timer."""

ROUNDS = 9
MOST_REPLY = 65536

_STAMP = "0f31 48c1e220 4809d0"  # rdtsc; shl rdx, 32; or rax, rdx
_SAVE = "53 4154 4155 4156 4157 4889fb 4989f4 4989d5 4989ce"  # rbx, r12, r13, r14 := the four arguments
_RESTORE = "415f 415e 415d 415c 5b c3"

CALL_LOOP = bytes.fromhex(
    f"{_SAVE} {_STAMP} 4989c7"  # mov r15, rax
    "4c89e0 4c89ef 4c89f6 0f05"  # again: rax, rdi, rsi := number, two arguments; syscall
    "48ffcb 75f0"  # dec rbx; jnz again
    f"{_STAMP} 4c29f8 {_RESTORE}".replace(" ", "")
)
"""(calls, number, first argument, second) -> ticks."""

PACED_LOOP = bytes.fromhex(
    f"{_SAVE} {_STAMP} 4989c7"
    f"{_STAMP} 4c39f8 72f2"  # wait: now; cmp rax, r15; jb wait
    "4d01f7"  # add r15, r14
    "4c89e0 4c89ef 0f05"
    "48ffcb 75e2"  # dec rbx; jnz wait
    f"{_STAMP} 4c29f8 {_RESTORE}".replace(" ", "")
)
"""(calls, number, argument, ticks between two calls) -> ticks by which the last was late."""

EMPTY_LOOP = bytes.fromhex(f"{_SAVE} {_STAMP} 4989c7 48ffcb 75fb {_STAMP} 4c29f8 {_RESTORE}".replace(" ", ""))
"""(rounds, ...) -> ticks of as many pairs of instructions."""

_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 4)


class Code:
    """Machine code that can be called."""

    def __init__(self, code: bytes) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._memory.write(code)
        self._function = _FUNCTION(ctypes.addressof(ctypes.c_char.from_buffer(self._memory)))

    def __call__(self, *arguments: int) -> int:
        return int(self._function(*arguments, *[0] * (4 - len(arguments))))


def counts_instructions() -> bool:
    """Whether the clock of this machine is a counter of instructions."""
    loop = Code(EMPTY_LOOP)
    loop(10)
    return min(loop(2000) for _ in range(ROUNDS)) - min(loop(1000) for _ in range(ROUNDS)) == 2000


class Caller:
    """A process of its own that calls, so that it can be in the scope of a fault or out of it. A context manager.

    Its parent is told the instructions of one call.
    """

    def __init__(self) -> None:
        ours, theirs = os.pipe(), os.pipe()
        self._buffer = ctypes.create_string_buffer(4096)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ours[1])
            os.close(theirs[0])
            self._serve(ours[0], theirs[1])
            os._exit(0)
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = ours[1], theirs[0]

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._to)
        os.close(self._from)
        os.waitpid(self.pid, 0)

    def _serve(self, requests: int, replies: int) -> None:
        calls, paced = Code(CALL_LOOP), Code(PACED_LOOP)
        while True:
            raw = os.read(requests, MOST_REPLY)
            if not raw:
                return
            kind, *arguments = json.loads(raw)
            if kind == "paced":
                answer = paced(*arguments)
            else:
                answer = _shortest(calls, arguments, 2 * CALLS) - _shortest(calls, arguments, CALLS)
            os.write(replies, json.dumps(answer).encode())

    def _ask(self, kind: str, *arguments: int) -> int:
        os.write(self._to, json.dumps([kind, *arguments]).encode())
        return int(json.loads(os.read(self._from, MOST_REPLY)))

    def cost(self, number: int, *arguments: int) -> float:
        """Instructions of one call of system call ``number``, from user space back to user space."""
        return self._ask("cost", number, *arguments) / CALLS

    def buffer(self) -> tuple[int, int]:
        """Address and size of memory for a call's answer."""
        return ctypes.addressof(self._buffer), len(self._buffer)

    def start_paced(self, calls: int, number: int, argument: int, period: int) -> None:
        """Begin to call every ``period`` instructions; late() waits for the end."""
        os.write(self._to, json.dumps(["paced", calls, number, argument, period]).encode())

    def late(self) -> int:
        """Wait for the calls; by how many instructions the last one came too late."""
        return int(json.loads(os.read(self._from, MOST_REPLY)))


def _shortest(loop: Code, arguments: Sequence[int], calls: int) -> int:
    loop(calls, *arguments)
    return min(loop(calls, *arguments) for _ in range(ROUNDS))
