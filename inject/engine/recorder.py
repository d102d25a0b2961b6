"""The recorder: attach to many functions at once, and read from where they were called. Nothing fails."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from inject.engine import record_abi
from inject.engine.abi import COUNTER
from inject.engine.bcc import Bcc
from inject.engine.loader import KPROBE, ProgramText, bytecode_of
from inject.engine.maps import Maps
from inject.engine.own_processes import own_processes
from inject.engine.record_links import RecordLinks
from inject.engine.rule import PerCpu
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel

SOURCE = Path(__file__).with_name("record.bpf.c")
RECORD = ProgramText(SOURCE, {"on_call": KPROBE}, record_abi.tables(1, 1))


class RawPoint(NamedTuple):
    """A function and a stack trace as addresses, the calls with it, and which call of the function was the first."""

    function: int
    caller: int
    """The address that the function returns to, which ``frames`` may lack."""
    frames: tuple[int, ...]
    """Innermost first; it begins in the function itself."""
    hits: int
    first: int


def raw_point(key: bytes, value: bytes) -> RawPoint:
    """The point of an entry of the table."""
    function, caller, *frames = record_abi.PATH.unpack(key)
    end = frames.index(0) if 0 in frames else len(frames)
    return RawPoint(function, caller, tuple(frames[:end]), *record_abi.REACHED.unpack(value))


@dataclass(frozen=True)
class Losses:
    """Calls in scope that are in no point, and why."""

    full: int = 0
    """There was no room for another point."""
    untraced: int = 0
    """The kernel gave no stack trace."""
    unknown: int = 0
    """The kernel named another function than those that were asked for."""
    missed: int = 0
    """Calls that the program did not see, because a BPF program was busy on that CPU: of any task or interrupt."""


@dataclass(frozen=True)
class Recorded:
    """What was recorded: the points, the calls in scope of each function by its address, and what was lost."""

    points: tuple[RawPoint, ...]
    calls: Mapping[int, int]
    losses: Losses


class Recorder:
    """One recording. A context manager: leaving it detaches everything.

    ``room`` is the number of points that there is room for; ``context`` where the kernel counts interrupts.
    ``janitor`` is the process that cleans up after this one. ``gate`` are a BPF map's descriptor and an offset in
    its memory: nothing is recorded while the 32 bits there are 0. Raises CannotRun if bcc, what the
    compiler needs, memory or privileges are missing.
    """

    def __init__(
        self,
        kernel: Kernel,
        functions: Collection[int],
        context: Optional[PerCpu],
        *,
        room: int,
        cache: Optional[Path] = None,
        janitor: int = 0,
        gate: Optional[tuple[int, int]] = None,
    ) -> None:
        if os.geteuid():
            raise CannotRun("attaching probes needs root", "run with sudo")
        self._own = own_processes(janitor, kernel.agent())
        bcc = Bcc()
        code, _ = bytecode_of(bcc, kernel, cache, RECORD)
        self._maps = Maps(bcc, record_abi.tables(max(1, len(functions)), room), record_abi.AREAS)
        self._functions = tuple(sorted(functions))
        numbers = {
            record_abi.KNOWN_MARK: int(context is not None),
            record_abi.OFFSET_MARK: context.offset if context else 0,
        }
        variables = {record_abi.CONTEXT_MARK: context.variable} if context else {}
        addresses = self._maps.addresses(0)
        addresses[record_abi.GATE_MARK] = gate or (self._maps.descriptors["watch"], record_abi.ARMED)
        bound = code.bind("on_call", self._maps.descriptors, numbers, addresses, variables)
        self._links = RecordLinks(bcc, kernel, bound)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def attach(self) -> Sequence[int]:
        """Attach to all functions, disarmed; those that the kernel refuses. Raises CannotRun if it refuses all."""
        for address in self._functions:
            self._maps.update("functions", COUNTER.pack(address), bytes(COUNTER.size))
        return self._links.attach(self._functions)

    @property
    def few(self) -> str:
        """Why only some of the functions have a probe; "" if the kernel can attach to any number at once."""
        return self._links.few

    def arm(self, cgroup: int, level: int, *, any_task: bool = False) -> None:
        """Record the calls of tasks below ``cgroup`` (its id and depth), or of any task and interrupt.

        Until disarm() inject makes no bpf(2) call: a task that was preempted in one would hide calls on its CPU.
        """
        self._links.forget()
        self._maps.write("losses", bytes(record_abi.LOSSES.size))
        value = record_abi.WATCH.pack(cgroup, level, any_task, *self._own, True)
        self._maps.write("watch", value[: record_abi.ARMED])
        self._maps.write("watch", value[record_abi.ARMED :], offset=record_abi.ARMED)

    def disarm(self) -> None:
        """Stop recording, by one write; any thread may call it."""
        self._maps.write("watch", bytes(4), offset=record_abi.ARMED)

    def read(self) -> Recorded:
        """Everything that was recorded. It must be detached, so that no program writes any more."""
        assert not self._links
        points = [raw_point(key, self._maps.lookup("points", key)) for key in self._maps.keys("points")]
        calls = {
            address: COUNTER.unpack(self._maps.lookup("functions", COUNTER.pack(address)))[0]
            for address in self._functions
        }
        return Recorded(tuple(points), calls, self.losses())

    def losses(self) -> Losses:
        """What was lost since it was armed."""
        full, untraced, unknown = record_abi.LOSSES.unpack(self._maps.read("losses"))
        return Losses(full, untraced, unknown, self._links.missed)

    def take(self) -> list[tuple[bytes, bytes]]:
        """What was recorded since the last call, for raw_point(), and room for as much; raises CannotRun.

        It must be disarmed, and may stay attached. Equal keys of one boot are the same point.
        """
        return self._maps.drain("points")

    def detach(self) -> None:
        """Disarm, and take the probes out of the kernel."""
        if self._maps.descriptors:
            self.disarm()
        self._links.close()

    def close(self) -> None:
        """Leave nothing in the kernel."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._maps.close)
            self.detach()
