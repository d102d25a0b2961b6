"""Rules: a scenario's faults, resolved against one kernel. Frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from inject.engine.callpath import CallPath
from inject.kernel.access import Access
from inject.model.point import FaultPoint
from inject.model.scenario import Op, Probe
from inject.model.trigger import Trigger

U64 = (1 << 64) - 1


@dataclass(frozen=True)
class Test:
    """One resolved comparison."""

    access: Access
    op: Op
    value: int = 0
    mask: int = U64
    pattern: str = ""
    nofail: bool = False
    """It comes from a NOFAIL rule: a call that does not meet it counts as spared."""


@dataclass(frozen=True)
class Writeback:
    """Test that recognises a kernel thread which works on one of the trial's own devices."""

    flags: int
    """Offset of ``flags`` in ``struct task_struct``."""
    access: Access
    """From an argument to a device number."""


@dataclass(frozen=True)
class PerCpu:
    """An integer of each CPU: the BTF id of the variable that it is in, and its offset there."""

    variable: int
    offset: int


@dataclass(frozen=True)
class Cast:
    """What makes an address one that a program may load from: BTF ids of a kfunc, and of a struct of two words."""

    kfunc: int
    words: int


@dataclass(frozen=True)
class Rule:
    """One fault as the BPF program gets it."""

    point: FaultPoint
    values: tuple[int, ...]
    """The 64 bits that the function returns, in turn."""
    returned: tuple[str, ...]
    """The same as written."""
    any_task: bool
    tests: tuple[Test, ...]
    comm: str
    trigger: Trigger
    seed: int
    path: CallPath = CallPath()
    writeback: Optional[Writeback] = None
    context: Optional[PerCpu] = None
    """Where the kernel counts that a CPU is in an interrupt; None: unknown, so calls in interrupts are in scope."""
    cast: Optional[Cast] = None
    """How the program reads the stack without a helper; None: it cannot."""
    notes: tuple[str, ...] = ()
    """Calls that the probe or a stack trace does not see, as sentences."""
    ways: tuple[Probe, ...] = (Probe.FMOD_RET, Probe.KPROBE)
    """How the function can be failed, the cheapest way first."""
    kfunc: int = 0
    """Id of the module's kfunc in its BTF, for Probe.KFUNC."""
    trampoline: str = ""
    """The name under which BTF knows the function, for fmod_ret; "" if fmod_ret cannot be used."""
    trampoline_id: int = 0
    """Its number there."""


@dataclass(frozen=True)
class Plan:
    """All rules of one scenario, and what they share."""

    rules: tuple[Rule, ...]
    devices: tuple[int, ...] = ()
    """Numbers (dev_t) of the trial's own devices and of the filesystem mounted from them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Calls that no probe or stack trace sees, one sentence each."""
        return tuple(dict.fromkeys(note for rule in self.rules for note in rule.notes))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the kernel does not promise of the functions that are not marked, one sentence each."""
        unmarked = dict.fromkeys(rule.point.function for rule in self.rules if not rule.point.marked)
        return tuple(
            f"{function} is not marked ALLOW_ERROR_INJECTION: the kernel does not promise that it may fail before it"
            " has done anything, nor that its callers cope with that"
            for function in unmarked
        )

    @property
    def others(self) -> bool:
        """True if some rule takes tasks outside the workload."""
        return any(rule.any_task or rule.writeback for rule in self.rules)
