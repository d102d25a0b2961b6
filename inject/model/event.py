"""Events of a run, reported as they happen; only report/jsonl.py converts them to JSON and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional, Union

from inject.model.errorpath import ErrorPath
from inject.model.reached import Point, Skipped
from inject.model.scenario import Fault, Probe
from inject.model.verdict import Status, Verdict


@dataclass(frozen=True)
class Injection:
    """One injection, as the BPF program reported it."""

    fault: int
    """Index of the fault in its scenario."""
    function: str
    returned: str
    """The injected value by name: ``-ENOMEM``."""
    value: int
    ordinal: int
    """Number of the match of its fault, from 1."""
    pid: int
    tid: int
    comm: str
    time_ns: int
    """Nanoseconds of CLOCK_MONOTONIC."""
    stack: tuple[str, ...] = ()
    """Innermost first, ``symbol+0xoff``."""


@dataclass(frozen=True)
class RunStarted:
    """The first event of a run."""

    version: str
    """Of inject."""
    kernel: str
    """The kernel's release; "" if no guest reported it."""
    config_hash: str
    """A short name for the kernel's configuration; "" if the kernel does not show it."""
    seed: int
    argv: tuple[str, ...]
    build_id: str = ""
    """That of vmlinux, in hex; "" if the kernel does not show it, and in files of older versions."""


@dataclass(frozen=True)
class Overridden:
    """A function that a fault overrides, as far as its events need it to be read."""

    function: str
    names: tuple[str, ...]
    """All symbols at its address."""
    values: tuple[int, ...]
    """The 64 bits that it returns, in turn."""
    returned: tuple[str, ...]
    """The same as written."""
    probe: Probe
    """How it is attached."""


@dataclass(frozen=True)
class EngineMemory:
    """Where a kernel has the engine's counters and events. They are still there when the kernel is dead.

    All addresses are the kernel's own, in this boot.
    """

    tallies: int
    """Address of the counters of the first fault; those of the others follow."""
    produced: int
    """Address of the number of bytes that went into the ring buffer."""
    data: int
    """Address of the ring buffer's data, which are mapped twice in a row."""
    begin: int
    """Number of bytes that went into the ring buffer before this trial."""
    text: int
    """Address of ``_stext``; 0 if the kernel hides it."""
    functions: tuple[Overridden, ...]
    """By fault."""


@dataclass(frozen=True)
class ScenarioHeld:
    """A scenario is set up and waits for its faults. Only what saves a guest then asks for it."""

    scenario: str
    trial: int = 0


@dataclass(frozen=True)
class Armed:
    """A trial is about to be armed; the host then knows which trial killed a guest."""

    scenario: str
    trial: int
    faults: tuple[Fault, ...]
    """Read back from JSON, a fault has its function, values, scope and trigger, and none of its other conditions."""
    probes: tuple[Probe, ...] = ()
    """How each fault is attached."""
    stop: bool = False
    """Ask a debugger outside of the guest to stop the guest at each injection until the verdict."""
    memory: Optional[EngineMemory] = None
    """For the host of a guest, which does not report it."""


@dataclass(frozen=True)
class Injected:
    """An error was injected in an armed trial."""

    scenario: str
    trial: int
    injection: Injection


@dataclass(frozen=True)
class ErrorTraced:
    """The path of the error of one injection, which fault and ``ordinal`` identify."""

    scenario: str
    trial: int
    path: ErrorPath
    ordinal: int
    tid: int


@dataclass(frozen=True)
class RunEnded:
    """The last event: the number of trials with each status. A report without it is from a run that died."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    errors: int = 0

    @staticmethod
    def of(verdicts: Iterable[Verdict]) -> RunEnded:
        """The end of a run with ``verdicts``."""
        statuses = [verdict.status for verdict in verdicts]
        return RunEnded(*(statuses.count(status) for status in (Status.PASS, Status.FAIL, Status.SKIP, Status.ERROR)))


@dataclass(frozen=True)
class PointReached:
    """A workload that was recorded reaches a point."""

    scenario: str
    trial: int
    point: Point


@dataclass(frozen=True)
class FunctionSkipped:
    """A function was asked for, and was not recorded."""

    scenario: str
    trial: int
    skipped: Skipped


Event = Union[RunStarted, ScenarioHeld, Armed, Injected, ErrorTraced, PointReached, FunctionSkipped, Verdict, RunEnded]
"""Any event of a run; a verdict is an event."""
