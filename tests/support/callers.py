"""Processes that make system calls when they are told to, one after the other, and say how each went."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from inject.process.cgroup import Cgroup

Argument = Union[int, str]


class Server:
    """A process called ``comm``, in ``group`` or in none."""

    def __init__(self, group: Optional[Cgroup], comm: str) -> None:
        self.comm = comm
        self.inside = group is not None
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._orders)
            os.close(self._answers)
            try:
                Path("/proc/self/comm").write_text(comm)
                _serve(orders, answers)
            finally:
                os._exit(0)
        os.close(orders)
        os.close(answers)
        if group is not None:
            group.add(self.pid)

    def call(self, calls: Sequence[Sequence[Argument]]) -> list[int]:
        """Make system calls (number, then arguments); of each the errno, or 0 if it succeeded."""
        os.write(self._orders, json.dumps([list(call) for call in calls]).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            more = os.read(self._answers, 1 << 16)
            assert more, f"{self.comm} died"
            answer += more
        found = json.loads(answer)
        assert len(found) == len(calls)
        return [int(number) for number in found]

    def close(self) -> None:
        """End the process; the end of its orders would not do, since later ones hold that pipe, too."""
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._orders)
        os.close(self._answers)
        os.waitpid(self.pid, 0)


def _serve(orders: int, answers: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with os.fdopen(orders, "rb") as file:
        for line in file:
            found = [_errno(libc, call) for call in json.loads(line)]
            os.write(answers, json.dumps(found).encode() + b"\n")


def _errno(libc: ctypes.CDLL, call: list[Argument]) -> int:
    arguments = [ctypes.c_char_p(word.encode()) if isinstance(word, str) else ctypes.c_long(word) for word in call]
    return ctypes.get_errno() if libc.syscall(*arguments) == -1 else 0
