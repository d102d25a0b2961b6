"""The contents of a scenario."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional, Union

from inject.errors import Place
from inject.model.errorpath import Fate
from inject.model.trigger import Trigger
from inject.model.verdict import Reason

DEFAULT_TIMEOUT = 60.0
"""Seconds that ``run`` may take when the scenario does not say."""


class Scope(enum.Enum):
    """Whose calls a fault may take."""

    WORKLOAD = "workload"
    """Those of the workload's process tree."""
    WRITEBACK = "writeback"
    """The workload's, and those of kernel threads if an argument leads to one of the scenario's own devices."""
    ANY = "any"
    """Those of any task."""


class Contract(enum.Enum):
    """Handling of known NOFAIL callers."""

    KEEP = "keep"
    IGNORE = "ignore"


class Probe(enum.Enum):
    """Type of probe that injects a fault."""

    AUTO = "auto"
    KPROBE = "kprobe"
    FMOD_RET = "fmod_ret"
    KFUNC = "kfunc"
    """A kprobe whose program calls the kfunc of inject's module in place of the kernel's helper."""
    MODULE = "module"
    """A kprobe of inject's module."""


class Op(enum.Enum):
    """Comparison of an argument."""

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
    """Conditions of a call, and the trigger that selects among the matching calls; by default every call."""

    args: tuple[ArgTest, ...] = ()
    stack: tuple[str, ...] = ()
    comm: Optional[str] = None
    device: Optional[str] = None
    trigger: Trigger = Trigger()


@dataclass(frozen=True)
class Bound:
    """Required number of injections: ``low <= n <= high`` (``high`` None: no limit)."""

    low: int = 1
    high: Optional[int] = None

    def holds(self, count: int) -> bool:
        """True if ``count`` injections are within the limits."""
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
    contract: Contract = Contract.KEEP
    when: When = When()
    injected: Optional[Bound] = None
    error: Optional[tuple[Fate, ...]] = None
    """Fates that the errors of this fault may have; None: those of the scenario's ``expect``."""
    place: Optional[Place] = field(default=None, compare=False)
    value_places: tuple[Place, ...] = field(default=(), compare=False)
    """Place of each value; () without a file."""

    @property
    def values(self) -> tuple[Returned, ...]:
        """Values that it returns in turn, one or more."""
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
    """Requirements; if one is missing, the scenario is skipped with the reason."""

    functions: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    config: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expectation:
    """Expected results of the workload. ``exit`` None means any nonzero code."""

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
    evidence: Optional[str] = None
    """Regular expression that its complaints match; None: any complaint with ``reason``."""


VM_CPUS = (1, 8)
"""Fewest and most CPUs of a guest."""

VM_MEMORY = (256 << 20, 64 << 30)
"""Least and most bytes of memory of a guest."""


VM_KERNELS = ("stock", "stock:6.1", "stock:6.12", "stock:7.3", "test", "debug", "plants", "coverage")
"""Kernels that a guest can boot, by name; vm/build/ has them."""


@dataclass(frozen=True)
class VmWishes:
    """Guest options of the scenario, within VM_CPUS, VM_MEMORY and VM_KERNELS; ``memory`` in bytes."""

    cpus: Optional[int] = None
    memory: Optional[int] = None
    kernel: Optional[str] = None


@dataclass(frozen=True)
class Sweep:
    """Options of ``inject vm sweep``; ``inject record`` takes the functions, other commands only validate them."""

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
    text: str = field(default="", compare=False, repr=False)
    """Its YAML, if it is in no file: then ``file`` is that of the scenario from which it was made."""

    def expected_injections(self, index: int) -> Bound:
        """The bound that fault number ``index`` has to meet."""
        own = self.faults[index].injected
        return own if own is not None else self.expect.injected

    def expected_fates(self, index: int) -> Optional[tuple[Fate, ...]]:
        """Allowed fates of the errors of fault number ``index``; None: any."""
        own = self.faults[index].error
        return own if own is not None else self.expect.error

    @property
    def errnos(self) -> tuple[str, ...]:
        """Names of errnos that the scenario uses; reports use them, too."""
        returned = (str(value).lstrip("-") for fault in self.faults for value in fault.values)
        return tuple(dict.fromkeys((*self.expect.errno.values(), *returned)))

    @property
    def traces_errors(self) -> bool:
        """True if the scenario has ``error``."""
        return any(self.expected_fates(index) for index in range(len(self.faults)))
