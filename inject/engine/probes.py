"""The probes of one plan: which kind each rule gets, and all of them in and out of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from inject.engine import abi
from inject.engine.attach import KprobeLink, Link, ReturnWatch, TracepointLink, TrampolineLink
from inject.engine.bcc import Bcc
from inject.engine.encode import uses
from inject.engine.loader import Constants, Loader
from inject.engine.marks import Marks
from inject.engine.rule import Plan, Rule
from inject.engine.syscall import missed
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import of_trampoline
from inject.model.point import FaultPoint
from inject.model.scenario import Probe


class Probes:
    """Attaches plans, one at a time. What watches returns stays for the next plan, which saves seconds."""

    def __init__(self, bcc: Bcc, kernel: Kernel, loader: Loader, marks: Marks) -> None:
        self._bcc = bcc
        self._marks = marks
        self._kernel = kernel
        self._loader = loader
        self._links: list[Link] = []
        self._plan = Plan(())
        self._used: tuple[Probe, ...] = ()
        self._programs: dict[int, int] = {}
        self._constants: list[Constants] = []
        self._returns: Optional[ReturnWatch] = None

    def attach(
        self, plan: Plan, probe: Probe, watch: Sequence[int], *, errnos: bool, any_rule: bool, early: bool
    ) -> tuple[Probe, ...]:
        """Attach everything for ``plan``; the kind of probe that each rule got. See Engine.attach()."""
        constants = [
            Constants(slot, abi.USES_EVERYTHING if any_rule else uses(rule), bool(watch), rule.context)
            for slot, rule in enumerate(plan.rules)
        ]
        shared = constants[0] if constants else Constants()
        try:
            if early and not any_rule:
                constants = [self._marks.serve(rule, one) for rule, one in zip(plan.rules, constants)]
            self._constants = constants
            # The kernel asks the last attached first, and a call that one rule fails does not reach the others
            # (aggr_pre_handler() in kernel/kprobes.c, bpf_trampoline_get_progs() in kernel/bpf/trampoline.c, v6.12).
            slots = reversed(range(len(plan.rules)))
            used = [self._attach(plan.rules[slot], constants[slot], wanted(plan, slot, probe)) for slot in slots]
            self._used = tuple(reversed(used))
            self._plan = plan
            for point in self.bypassed():
                obstacle = of_trampoline(point)
                raise CannotRun(obstacle.message, obstacle.fix)
            if errnos:
                self._attach_tracepoint("on_sys_exit", shared)
            self._watch(tuple(watch), shared)
        except BaseException:
            self.detach()
            raise
        return self._used

    def bypassed(self) -> list[FaultPoint]:
        """Functions with a kprobe whose override does not skip the body, because of another program's trampoline."""
        kprobes = [rule.point for rule, probe in zip(self._plan.rules, self._used) if probe is Probe.KPROBE]
        return self._kernel.ftrace.with_trampoline(kprobes) if kprobes else []

    def _attach(self, rule: Rule, constants: Constants, probe: Probe) -> Probe:
        """fmod_ret costs half of a kprobe, but cannot return 0 nor find a function that BTF does not name."""
        if probe is not Probe.KPROBE and rule.trampoline:
            try:
                program = self._loader.load("on_trampoline", constants, f"kmod_ret__{rule.trampoline}")
                self._links.append(TrampolineLink(self._bcc, rule.point, program))
                self._programs[constants.slot] = program
                return Probe.FMOD_RET
            except CannotRun:
                if probe is Probe.FMOD_RET:
                    raise
        if probe is Probe.FMOD_RET:
            why = (
                "cannot return 0 or NULL" if not all(rule.values) else "needs the function's own name in vmlinux's BTF"
            )
            raise CannotRun(f"fmod_ret cannot fail {rule.point.function}: it {why}", "use --probe kprobe")
        program = self._loader.load("on_kprobe", constants)
        self._links.append(KprobeLink(self._bcc, self._kernel, rule.point, program, constants.slot))
        self._programs[constants.slot] = program
        return Probe.KPROBE

    def _attach_tracepoint(self, program: str, constants: Constants) -> None:
        self._links.append(TracepointLink(self._bcc, "sys_exit", self._loader.load(program, constants)))

    def _watch(self, addresses: tuple[int, ...], constants: Constants) -> None:
        """Watch the returns of the functions at ``addresses``, unless the same ones are watched already."""
        if not addresses:
            self._unwatch()
            return
        if self._returns is None or self._returns.addresses != addresses:
            self._unwatch()
            code = self._loader.bound("on_return", constants)
            self._returns = ReturnWatch(code, addresses, emulated=self._kernel.is_emulated())
        self._attach_tracepoint("on_leave", constants)

    def _unwatch(self) -> None:
        if self._returns is not None:
            self._returns.close()
            self._returns = None

    def missed(self, slot: int) -> int:
        """Calls since it was attached that the probe of rule ``slot`` did not see, of tasks out of scope as well."""
        if slot not in self._programs:
            return 0
        return missed(self._programs[slot]) + self._marks.missed(self._constants[slot])

    def detach(self) -> None:
        """Take every probe out of the kernel except those on returns, which do nothing while disarmed."""
        self._plan, self._used = Plan(()), ()
        self._programs.clear()
        self._marks.close()
        for link in self._links:
            link.close()
        self._links.clear()

    def close(self) -> None:
        """Leave nothing in the kernel."""
        self.detach()
        self._unwatch()


def wanted(plan: Plan, slot: int, probe: Probe) -> Probe:
    """The kind of probe to try for a rule, ``probe`` being the user's choice.

    Of rules for one function either all go by fmod_ret or none: a kprobe's override does not keep it away.
    """
    if probe is not Probe.AUTO:
        return probe
    point = plan.rules[slot].point
    same = (rule for rule in plan.rules if (rule.point.address or rule.point.names) == (point.address or point.names))
    able = (bool(rule.trampoline) for rule in same)
    return Probe.AUTO if all(able) else Probe.KPROBE
