"""The nouns, frozen: what a scenario says, what a kernel offers, what a trial showed."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

DEFAULT_TIMEOUT = 60.0
"""Seconds that ``run`` may take when the scenario does not say."""


@dataclass(frozen=True)
class Place:
    """Where something is written: ``file:line:col``, both counted from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


# ---------------------------------------------------------------- scenario


class Scope(enum.Enum):
    """Whose calls a fault may take."""

    WORKLOAD = "workload"
    ANY = "any"


class Follow(enum.Enum):
    """Whose calls a fault takes beside those of its scope."""

    WRITEBACK = "writeback"
    """Kernel threads, where an argument of the call leads to one of the scenario's own devices."""


class Contract(enum.Enum):
    """Whether callers that are known not to fail (NOFAIL) are spared."""

    KEEP = "keep"
    IGNORE = "ignore"


class Probe(enum.Enum):
    """How a fault gets into its function."""

    AUTO = "auto"
    KPROBE = "kprobe"
    FMOD_RET = "fmod_ret"


class Fate(enum.Enum):
    """What became of an injected error on its way up to user space."""

    PROPAGATED = "propagated"
    """The system call failed with the same errno."""
    TRANSLATED = "translated"
    """It failed with another."""
    SWALLOWED = "swallowed"
    """It succeeded, in part or whole."""
    BLOCKED = "blocked"
    """It had not come back when the fault was disarmed."""
    UNSEEN = "unseen"
    """There was no system call above, and nobody seen to turn the error into success."""


class Op(enum.Enum):
    """How an argument is compared."""

    IS = "is"
    NOT = "not"
    ABOVE = "above"
    BELOW = "below"
    GLOB = "glob"


Returned = Union[str, int]
"""``-ENOMEM``, ``-BCH_ERR_ENOSPC_disk_reservation``, ``NULL``, ``true``, or a number."""

Symbolic = Union[int, str]
"""A number, or the name of an enumerator that the kernel's BTF knows."""


@dataclass(frozen=True)
class ArgTest:
    """One comparison: ``path`` (parameter or member path), masked, against ``value``.

    ``mask`` is None where the whole value is compared; ``value`` is a string
    pattern for ``Op.GLOB``, else a number or an enumerator's name.
    """

    path: str
    op: Op
    value: Symbolic
    mask: Optional[Symbolic] = None
    place: Optional[Place] = field(default=None, compare=False)


@dataclass(frozen=True)
class When:
    """All of it must hold for a call to be failed; everything absent means every call."""

    args: tuple[ArgTest, ...] = ()
    stack: tuple[str, ...] = ()
    comm: Optional[str] = None
    device: Optional[str] = None
    after: int = 0
    nth: Optional[int] = None
    every: Optional[int] = None
    probability: Optional[float] = None
    times: Optional[int] = None


@dataclass(frozen=True)
class Bound:
    """How often a fault has to fire: ``low <= n <= high`` (``high`` None: no bound)."""

    low: int = 1
    high: Optional[int] = None

    def holds(self, count: int) -> bool:
        """Whether ``count`` injections are what the scenario expects."""
        return self.low <= count and (self.high is None or count <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f">={self.low}"
        if self.low == self.high:
            return str(self.low)
        return f"<={self.high}" if self.low == 0 else f"{self.low}..{self.high}"


@dataclass(frozen=True)
class Fault:
    """Make ``function`` return ``value`` for the calls that ``when`` selects."""

    function: str
    value: Union[Returned, tuple[Returned, ...]]
    """As written: one, or several of which the k-th injection takes the k-th, over and over."""
    scope: Scope = Scope.WORKLOAD
    follow: Optional[Follow] = None
    contract: Contract = Contract.KEEP
    when: When = When()
    injected: Optional[Bound] = None
    error: Optional[tuple[Fate, ...]] = None
    """What may become of the errors of this fault's injections; None: whatever the scenario says of all."""
    place: Optional[Place] = field(default=None, compare=False)
    value_places: tuple[Place, ...] = field(default=(), compare=False)
    """Where each of the values is written; () where there is no file."""

    @property
    def values(self) -> tuple[Returned, ...]:
        """What it returns in turn, one value or more."""
        return self.value if isinstance(self.value, tuple) else (self.value,)

    @property
    def returns(self) -> str:
        """The values in words: ``-EIO``, or ``-EIO, -ENOMEM in turn``."""
        return ", ".join(map(str, self.values)) + (" in turn" if len(self.values) > 1 else "")


@dataclass(frozen=True)
class Filesystem:
    """A filesystem made fresh for every trial on scratch devices of ``size`` bytes each."""

    type: str
    devices: int = 1
    size: int = 512 << 20
    mkfs: tuple[str, ...] = ()
    mount: tuple[str, ...] = ()


@dataclass(frozen=True)
class Requires:
    """What must be there, else the scenario is skipped with the reason."""

    functions: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    config: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expectation:
    """What the workload must show. ``exit`` None means any nonzero code."""

    exit: Optional[tuple[int, ...]] = (0,)
    errno: Mapping[str, str] = field(default_factory=dict)
    """System call name without prefix (``write``) to errno name (``ENOSPC``)."""
    injected: Bound = Bound()
    output: Optional[str] = None
    error: Optional[tuple[Fate, ...]] = None
    """What may become of the injections' errors; None: anything."""


@dataclass(frozen=True)
class Finding:
    """A known kernel bug: the scenario must fail with ``reason``."""

    reason: Reason
    text: str


@dataclass(frozen=True)
class VmWishes:
    """What the scenario would like of a guest; ``memory`` in bytes."""

    cpus: Optional[int] = None
    memory: Optional[int] = None


@dataclass(frozen=True)
class Sweep:
    """How ``inject sweep`` walks the fault points; other commands only validate it."""

    functions: tuple[str, ...] = ()
    by: str = "stack"
    modes: tuple[str, ...] = ("once",)
    limit: int = 500


@dataclass(frozen=True)
class Scenario:
    """One YAML document."""

    name: str
    file: str
    faults: tuple[Fault, ...]
    run: str
    description: str = ""
    tags: tuple[str, ...] = ()
    requires: Requires = Requires()
    filesystem: Optional[Filesystem] = None
    setup: str = ""
    expect: Expectation = Expectation()
    recover: str = ""
    checks: Optional[tuple[str, ...]] = None
    """Oracle names; None means all that apply."""
    allow: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT
    finding: Optional[Finding] = None
    vm: VmWishes = VmWishes()
    sweep: Optional[Sweep] = None
    place: Optional[Place] = field(default=None, compare=False)

    def expected_injections(self, index: int) -> Bound:
        """The bound that fault number ``index`` has to meet."""
        own = self.faults[index].injected
        return own if own is not None else self.expect.injected

    def expected_fates(self, index: int) -> Optional[tuple[Fate, ...]]:
        """What may become of the errors of fault number ``index``; None: anything."""
        own = self.faults[index].error
        return own if own is not None else self.expect.error

    @property
    def follows_errors(self) -> bool:
        """Whether the scenario says where errors have to go."""
        return any(self.expected_fates(index) for index in range(len(self.faults)))


# ---------------------------------------------------------------- kernel


class ErrorType(enum.Enum):
    """What a tagged function may be made to return (include/asm-generic/error-injection.h)."""

    NULL = "NULL"
    ERRNO = "ERRNO"
    ERRNO_NULL = "ERRNO_NULL"
    TRUE = "TRUE"


@dataclass(frozen=True)
class FaultPoint:
    """A function in the kernel's error-injection list.

    ``address`` is 0 where the kernel hides addresses. ``names`` are all symbols
    at that address, ``function`` among them. ``module`` is "" for vmlinux.
    """

    function: str
    error_type: ErrorType
    module: str = ""
    address: int = 0
    names: tuple[str, ...] = ()


# ---------------------------------------------------------------- outcome


class Status(enum.Enum):
    """How a scenario or trial ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"


class Reason(enum.Enum):
    """Why it failed; the order is the precedence when several hold at once."""

    CRASH = "crash"
    HANG = "hang"
    DMESG = "dmesg"
    NOT_INJECTED = "not-injected"
    EXIT = "exit"
    ERRNO = "errno"
    CHECK = "check"
    RECOVER = "recover"
    LIMIT = "limit"


@dataclass(frozen=True)
class Counts:
    """Of one fault: calls seen in scope, calls whose predicates held, calls failed."""

    seen: int = 0
    matched: int = 0
    injected: int = 0
    spared: int = 0
    """Calls that a known contract (NOFAIL) kept from being failed."""
    lost: int = 0
    """Injections that are counted but whose event did not fit the buffer."""


@dataclass(frozen=True)
class Injection:
    """One call that was made to fail, as the kernel reported it."""

    fault: int
    function: str
    returned: str
    value: int
    ordinal: int
    """Which match of its fault this was, from 1."""
    pid: int
    tid: int
    comm: str
    time_ns: int
    """Nanoseconds of CLOCK_MONOTONIC."""
    stack: tuple[str, ...] = ()
    """Innermost first, ``symbol+0xoff``."""


@dataclass(frozen=True)
class Frame:
    """A function on the way up and what it returned: a number, an error's name, ``void``, ``?`` if not seen."""

    function: str
    returned: str


@dataclass(frozen=True)
class ErrorPath:
    """Where the error of one injection went, or of ``count`` injections that went the same way."""

    fault: int
    function: str
    returned: str
    fate: Fate
    errno: str = ""
    """What the system call failed with."""
    where: str = ""
    """The function that swallowed it, or that was last seen to carry it."""
    call: str = ""
    """The system call, ``write``; "" where none ended."""
    result: Optional[int] = None
    frames: tuple[Frame, ...] = ()
    """The callers, innermost first."""
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        """As the JSON-lines report has it."""
        return {
            "fault": self.fault,
            "function": self.function,
            "return": self.returned,
            "fate": self.fate.value,
            "errno": self.errno,
            "where": self.where,
            "call": self.call,
            "result": self.result,
            "path": [{"function": frame.function, "returned": frame.returned} for frame in self.frames],
            "count": self.count,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ErrorPath:
        """The inverse of :meth:`to_json`; raises KeyError, TypeError or ValueError on foreign data."""
        return ErrorPath(
            fault=data["fault"],
            function=data["function"],
            returned=data["return"],
            fate=Fate(data["fate"]),
            errno=data["errno"],
            where=data["where"],
            call=data["call"],
            result=data["result"],
            frames=tuple(Frame(frame["function"], frame["returned"]) for frame in data["path"]),
            count=data["count"],
        )


@dataclass(frozen=True)
class Verdict:
    """What a trial showed. ``reason`` is set exactly when ``status`` is FAIL."""

    scenario: str
    status: Status
    reason: Optional[Reason] = None
    detail: str = ""
    trial: int = 0
    counts: tuple[Counts, ...] = ()
    seconds: float = 0.0
    reproduce: str = ""
    finding: str = ""
    """Text of the known bug, where the scenario carries one and it showed."""
    log: tuple[str, ...] = ()
    """Lines that explain a failure: splats, blocked stacks, console tail, output."""
    unusable: str = ""
    """Why this kernel must not run another trial (blocked tasks, an oops); "" if it may."""
    exit: Optional[int] = None
    """The workload's exit code as a shell gives it (128 plus the signal); None if it never ran."""
    notes: tuple[str, ...] = ()
    """What changes no status, but what a reader of a pass, too, must know: a bound that was reached, a repetition."""
    errors: tuple[ErrorPath, ...] = ()
    """Where the injected errors went, each way once; () where nobody asked."""

    def to_json(self) -> dict[str, Any]:
        """The ``verdict`` object of the JSON-lines report."""
        return {
            "type": "verdict",
            "scenario": self.scenario,
            "trial": self.trial,
            "status": self.status.value,
            "reason": self.reason.value if self.reason else None,
            "detail": self.detail,
            "counts": [vars(c) for c in self.counts],
            "seconds": round(self.seconds, 3),
            "reproduce": self.reproduce,
            "finding": self.finding,
            "log": list(self.log),
            "unusable": self.unusable,
            "exit": self.exit,
            "notes": list(self.notes),
            "errors": [path.to_json() for path in self.errors],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Verdict:
        """The inverse of :meth:`to_json`; raises KeyError or ValueError on foreign data."""
        return Verdict(
            scenario=data["scenario"],
            status=Status(data["status"]),
            reason=Reason(data["reason"]) if data["reason"] else None,
            detail=data["detail"],
            trial=data["trial"],
            counts=tuple(Counts(**c) for c in data["counts"]),
            seconds=data["seconds"],
            reproduce=data["reproduce"],
            finding=data.get("finding", ""),
            log=tuple(data.get("log", ())),
            unusable=data.get("unusable", ""),
            exit=data.get("exit"),
            notes=tuple(data.get("notes", ())),
            errors=tuple(ErrorPath.from_json(path) for path in data.get("errors", ())),
        )
