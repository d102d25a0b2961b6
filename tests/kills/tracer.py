"""A program traced by ptrace(2): its system calls are counted, and at one of them it is killed.

strace(1) can do it as well, but counts for each thread on its own and does not say where it was.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Optional

from tests.kills.choice import QUIET

_TRACEME, _PEEKUSER, _SYSCALL, _SETOPTIONS = 0, 3, 24, 0x4200
_OPTIONS = 1 | 8 | 0x10 | 0x100000
"""PTRACE_O_TRACESYSGOOD, _TRACECLONE, _TRACEEXEC, _EXITKILL: threads are traced, other children are not."""
_RDX, _RSI, _RDI, _ORIG_RAX = 12 * 8, 13 * 8, 14 * 8, 15 * 8
"""Offsets in struct user, arch/x86/include/asm/user_64.h."""
CLOSE, IOCTL, OPENAT = 3, 16, 257
"""Numbers of three calls on x86-64; inguest.py has them as well."""
_TCGETS = 0x5401
_CHANGES = os.O_ACCMODE | os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY
_WALL = 0x40000000

LIMIT = 300.0
"""Seconds after which a traced program counts as hung."""

_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Traced:
    """``argv`` run to its end, or to its system call number ``at``, which it does not make.

    ``calls`` are the numbers of the calls that it made, ``status`` is its exit status, negative for a signal.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, at: Optional[int] = None) -> None:
        self.calls: list[int] = []
        self.status: Optional[int] = None
        self._at = at
        self._inside: dict[int, bool] = {}
        self.pid = os.fork()
        if not self.pid:
            _become(argv, env, cwd)
        self._run()

    def _run(self) -> None:
        os.waitpid(self.pid, 0)
        _ptrace(_SETOPTIONS, self.pid, None, _OPTIONS)
        _ptrace(_SYSCALL, self.pid, None, None)
        deadline = time.monotonic() + LIMIT
        while self.status is None:
            thread, status = os.waitpid(-1, _WALL)
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            if os.WIFSTOPPED(status):
                self._resume(thread, status)
            elif thread == self.pid:
                self.status = os.waitstatus_to_exitcode(status)

    def _resume(self, thread: int, status: int) -> None:
        """Let a stopped thread go on, with the signal that stopped it, if it was one."""
        number = os.WSTOPSIG(status)
        passed_on = 0
        if number == signal.SIGTRAP | 0x80:
            inside = self._inside[thread] = not self._inside.get(thread, False)
            if inside:
                if len(self.calls) == self._at:
                    os.kill(self.pid, signal.SIGKILL)
                self.calls.append(_call(thread))
        elif status >> 16 == 0 and not (number == signal.SIGSTOP and thread not in self._inside):
            passed_on = number  # the SIGSTOP with which a new thread begins is none of its own
        self._inside.setdefault(thread, False)
        _ptrace(_SYSCALL, thread, None, passed_on)


def _call(thread: int) -> int:
    """The number of the call that ``thread`` makes, with QUIET."""
    number, first, second, third = (int(_ptrace(_PEEKUSER, thread, at, None)) for at in (_ORIG_RAX, _RDI, _RSI, _RDX))
    quiet = (number == OPENAT and not third & _CHANGES) or (number == IOCTL and second == _TCGETS)
    return number | QUIET if quiet or (number == CLOSE and _only_read(thread, first)) else number


def _only_read(thread: int, number: int) -> bool:
    """Whether the descriptor ``number`` is of a file or directory that it cannot write."""
    link = Path(f"/proc/{thread}/fd/{number}")
    try:
        mode, writable = link.stat().st_mode, link.lstat().st_mode & stat.S_IWUSR
    except OSError:
        return False
    return (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and not writable


def _become(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> NoReturn:
    try:
        os.chdir(cwd)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        _ptrace(_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.execve(argv[0], list(argv), dict(env))
    finally:
        os._exit(127)
