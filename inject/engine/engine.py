"""The fault engine: load once, attach disarmed, arm by one write, count, report."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from inject.engine import abi
from inject.engine.addresses import addresses
from inject.engine.bcc import Bcc
from inject.engine.decode import Decoder, SymbolNames, overridden
from inject.engine.encode import MapImage, render, uses
from inject.engine.events import MOST_EVENTS, Collector
from inject.engine.lease import Arming, Lease
from inject.engine.loader import Loader, bytecode_of
from inject.engine.maps import Maps
from inject.engine.marks import Marks
from inject.engine.own_processes import own_processes
from inject.engine.probes import Probes
from inject.engine.return_trace import Trail
from inject.engine.rule import Plan, Rule
from inject.errors import CannotRun
from inject.kernel.btf import Btf
from inject.kernel.kernel import Kernel
from inject.model.errnos import errno_name
from inject.model.event import EngineMemory, Injection
from inject.model.scenario import Probe
from inject.model.syscalls import call_name
from inject.model.verdict import Counts


class Engine:
    """One loaded program and its maps. A context manager: leaving it detaches everything.

    ``janitor`` is the process that cleans up after this one, which no fault fails either.
    Raises CannotRun if bcc, what the compiler needs, or privileges are missing.
    """

    def __init__(self, kernel: Kernel, cache: Optional[Path] = None, janitor: int = 0) -> None:
        if os.geteuid():
            raise CannotRun("attaching probes needs root", "run with sudo")
        if not (kernel.root / "sys/bus/event_source/devices/kprobe/type").exists():
            raise CannotRun("this kernel cannot attach kprobes as perf events", "it needs CONFIG_KPROBE_EVENTS=y")
        own = own_processes(janitor, kernel.agent())
        self._bcc = Bcc()
        code, self.compiled = bytecode_of(self._bcc, kernel, cache)
        self._maps = Maps(self._bcc)
        try:
            self._collector = Collector(self._maps)
        except BaseException:
            self._maps.close()
            raise
        loader = Loader(self._bcc, self._maps, code, kernel)
        self._probes = Probes(self._bcc, kernel, loader, Marks(loader, self._maps))
        self._lease = Lease(self._maps, own)
        self._symbols = SymbolNames(self._bcc, kernel.symbols)
        self._any_rule = False
        self._missed_before: list[int] = []
        self._use(Plan(()), ())

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ attaching

    def attach(
        self,
        plan: Plan,
        probe: Probe = Probe.AUTO,
        watch: Sequence[int] = (),
        *,
        errnos: bool = True,
        any_rule: bool = False,
        early: bool = False,
    ) -> None:
        """Put ``plan``'s rules into the maps and its probes into the kernel, disarmed.

        ``watch`` are the addresses of the functions whose return values trace an error.
        ``errnos`` counts those of system calls, which costs every task of the machine a
        look at each of its calls. ``any_rule`` keeps everything in the programs that any
        rule may ask for, which replan() needs. ``early`` says that the tasks in scope start
        later, so that none of them is in a function of a `stack` already: then calls outside
        of it cost no stack trace. Raises CannotRun if the kernel refuses a probe.
        """
        self.detach()
        image = render(plan)
        self._collector.forget()
        self._write(image)
        self._any_rule = any_rule
        self._missed_before = [0] * len(plan.rules)
        self._use(plan, self._probes.attach(plan, probe, watch, errnos=errnos, any_rule=any_rule, early=early))

    def _use(self, plan: Plan, used: tuple[Probe, ...]) -> None:
        self._plan = plan
        self._decoder = Decoder(self._symbols, overridden(plan, used))
        self.used = used
        """The kind of probe of each rule."""

    def _write(self, image: MapImage) -> None:
        for slot, rule in enumerate(image.rules):
            self._maps.write("rules", rule, slot)
        for index, glob in enumerate(image.globs):
            self._maps.update("globs", struct.pack("<I", index), glob)
        self._maps.write("places", image.places)
        self._maps.clear("devices")
        for key in image.devices:
            self._maps.update("devices", key, bytes(4))

    def rewrite(self, slot: int, rule: Rule) -> None:
        """Give an attached rule another trigger; its counters go on, its conditions must stay the same."""
        assert uses(rule) == uses(self._plan.rules[slot])
        rules = list(self._plan.rules)
        rules[slot] = rule
        plan = replace(self._plan, rules=tuple(rules))
        self._maps.write("rules", render(plan).rules[slot], slot)
        self._use(plan, self.used)

    def replan(self, plan: Plan) -> None:
        """Give every attached probe another rule, conditions and all; for the same functions in the same order."""
        assert self._any_rule and [rule.point for rule in plan.rules] == [rule.point for rule in self._plan.rules]
        self._write(render(plan))
        self._use(plan, self.used)

    def rehearse(self) -> None:
        """Load what the first injection would load: the names of the kernel's symbols, which takes a second."""
        self._symbols.name(self._plan.rules[0].point.address)

    def detach(self) -> None:
        """Disarm, and take the probes out of the kernel."""
        if self._maps.descriptors:
            self._lease.end()
        self._probes.detach()

    def close(self) -> None:
        """Leave nothing in the kernel."""
        self.detach()
        self._probes.close()
        self._collector.close()
        self._maps.close()

    # ------------------------------------------------------------ arming

    def arm(self, cgroup: int, level: int, seconds: float, budget: int = 0) -> None:
        """Start failing calls of tasks below ``cgroup`` (its id and depth).

        The kernel stops by itself after ``seconds`` unless extend() is called before,
        and after ``budget`` injections if that is not 0.
        """
        self._forget()
        for name in ("spent", "uncounted"):
            self._maps.write(name, bytes(abi.COUNTER.size))
        for name in ("results", "live", "trails"):
            self._maps.clear(name)
        self._collector.restart()
        self._missed_before = [self._probes.missed(slot) for slot in range(len(self._plan.rules))]
        self._lease.begin(Arming(cgroup, level, budget, self._plan.others), seconds)

    def _forget(self) -> None:
        """Drop what was counted and reported in the arming before."""
        self._collector.forget()
        for slot in range(len(self._plan.rules)):
            self._maps.write("tallies", bytes(abi.TALLY.size), slot)
            self._maps.write("untraced", bytes(abi.COUNTER.size), slot)

    def extend(self, seconds: float) -> None:
        """Put the kernel's deadline off to ``seconds`` from now; any thread may call it.

        Does nothing if disarmed. If the deadline has passed already, calls have
        succeeded that should have failed: then only ``lapsed`` is set.
        """
        self._lease.extend(seconds)

    def revive(self, seconds: float) -> None:
        """Go on for ``seconds`` even if the deadline has passed, for a user who sees that it has."""
        self._lease.revive(seconds)

    @property
    def lapsed(self) -> bool:
        """True if the kernel stopped by itself because extend() came too late."""
        return self._lease.lapsed

    def disarm(self) -> None:
        """Stop failing calls, by one map write."""
        self._lease.end()

    def memory(self, btf: Btf, text: int) -> Optional[EngineMemory]:
        """Where the kernel has what it counts and reports of the next arming; None if it does not say.

        ``text`` is the address of ``_stext``.
        """
        self._forget()
        found = addresses(self._maps, btf)
        functions = self._decoder.functions
        return EngineMemory(*found, self._collector.produced, text, functions) if found is not None else None

    # ------------------------------------------------------------ counters

    @property
    def fired(self) -> tuple[int, int]:
        """Map and offset of the memory where the injections of the first fault are counted, 0 once it is armed."""
        return self._maps.addresses(0)[abi.AREAS["tallies"].mark][0], abi.TALLY.before("injected").size

    def counts(self) -> tuple[Counts, ...]:
        """Counters of every fault since it was armed, in the scenario's order."""
        dropped = self._collector.backlog.dropped
        found = []
        for slot in range(len(self._plan.rules)):
            seen, spared, matched, _, injected, lost, unread = abi.TALLY.unpack(self._maps.read("tallies", slot))
            missed = self._probes.missed(slot) - self._missed_before[slot]
            found.append(Counts(seen, matched, injected, spared, lost + dropped.get(slot, 0), unread, missed))
        return tuple(found)

    def refused(self, budget: int) -> int:
        """Injections that did not happen because ``budget`` was used up."""
        (used,) = abi.COUNTER.unpack(self._maps.read("spent"))
        return max(0, used - budget) if budget else 0

    def drawn(self, slot: int) -> int:
        """Calls of ``slot`` that `times` was asked about, from which a new limit is counted."""
        return int(abi.TALLY.unpack(self._maps.read("tallies", slot))[3])

    def errnos(self) -> dict[tuple[str, str], int]:
        """Counts of the workload's failed system calls: (``write``, ``ENOSPC``) to count."""
        found: dict[tuple[str, str], int] = {}
        for key in self._maps.keys("results"):
            call, error = abi.RESULT.unpack(key)
            (count,) = abi.COUNTER.unpack(self._maps.lookup("results", key))
            found[call_name(call), errno_name(error) or str(error)] = count
        return found

    def bypassed(self) -> list[str]:
        """Functions whose body may have run although the call was failed: another program's trampoline called it."""
        return [point.function for point in self._probes.bypassed()]

    def uncounted(self) -> int:
        """Failed system calls that are not in errnos(), because the map was full."""
        return int(abi.COUNTER.unpack(self._maps.read("uncounted"))[0])

    def untraced(self) -> int:
        """Injections whose error was not traced: a buffer was full, or the time was over."""
        slots = range(len(self._plan.rules))
        lost = (abi.COUNTER.unpack(self._maps.read("untraced", slot))[0] for slot in slots)
        return int(sum(lost)) + self._collector.dropped_trails

    # ------------------------------------------------------------ events

    def poll(self, milliseconds: int) -> list[Injection]:
        """Injections reported since the last call, waiting ``milliseconds`` at most for one."""
        self.collect(milliseconds)
        return self.take(MOST_EVENTS)

    def collect(self, milliseconds: int) -> None:
        """Empty the kernel's buffers, waiting ``milliseconds`` at most for something; any thread may call it."""
        self._collector.collect(milliseconds)

    def take(self, most: int) -> list[Injection]:
        """The oldest injections that were collected and not taken yet, ``most`` at most."""
        return [self._decoder.injection(raw, at) for raw, at in self._collector.backlog.take(most)]

    def abandon(self, trails: int) -> None:
        """Count the injections that wait as lost, and ``trails`` that were taken as not traced: time is over."""
        self._collector.abandon(trails)

    def trails(self, *, rest: bool = False) -> list[Trail]:
        """Errors whose system call has ended since the last call; with ``rest`` all others as well, once and for all.

        The injection of each was collected before.
        """
        return self._collector.trails(rest=rest)

    def path(self, trail: Trail) -> list[tuple[str, Optional[int]]]:
        """Stack trace as (``symbol+0xoff``, the 64 bits returned to it, if recorded), the failed function first."""
        return self._decoder.path(trail)

    def written(self, fault: int, value: int) -> str:
        """Name in the scenario of ``value``, the 64 bits that fault number ``fault`` returned."""
        return self._decoder.written(fault, value)
