"""The probes of one plan: which kind each rule gets, and all of them in and out of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from inject.engine import abi
from inject.engine.attach import KprobeLink, Link, ModuleLink, ReturnWatch, TracepointLink, TrampolineLink
from inject.engine.bcc import Bcc
from inject.engine.encode import uses
from inject.engine.loader import Constants, Loader
from inject.engine.marks import Marks
from inject.engine.rule import Plan, Rule
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import of_trampoline
from inject.kernel.overrider import NAME
from inject.model.point import FaultPoint
from inject.model.scenario import Probe
from inject.module.device import open_probe

BY_KPROBE = frozenset({Probe.KPROBE, Probe.KFUNC, Probe.MODULE})
"""Ways that change the instruction pointer of a kprobe: another program's trampoline may call the body all the same."""


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
        self._of_rules: dict[int, Link] = {}
        self._constants: list[Constants] = []
        self._returns: Optional[ReturnWatch] = None

    def attach(
        self, plan: Plan, probe: Probe, watch: Sequence[int], *, errnos: bool, any_rule: bool, early: bool
    ) -> tuple[Probe, ...]:
        """Attach everything for ``plan``; the kind of probe that each rule got. See Engine.attach()."""
        constants = [
            Constants(slot, abi.USES_EVERYTHING if any_rule else uses(rule), bool(watch), rule.context, rule.cast)
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
        kprobes = [rule.point for rule, probe in zip(self._plan.rules, self._used) if probe in BY_KPROBE]
        return self._kernel.ftrace.with_trampoline(kprobes) if kprobes else []

    def _attach(self, rule: Rule, constants: Constants, ways: tuple[Probe, ...]) -> Probe:
        """By the first of ``ways`` that the kernel takes; raises CannotRun for the first one if it takes none."""
        refusals: list[CannotRun] = []
        for way in ways:
            try:
                link = self._linked(rule, constants, way)
            except CannotRun as error:
                refusals.append(error)
                continue
            self._links.append(link)
            self._of_rules[constants.slot] = link
            return way
        raise refusals[0]

    def _linked(self, rule: Rule, constants: Constants, way: Probe) -> Link:
        """The attached program. Raises CannotRun if the kernel, or the rule, refuses this way."""
        if way is Probe.FMOD_RET:
            name = f"kmod_ret__{rule.trampoline}"
            program = self._loader.load("on_trampoline", constants, name, rule.trampoline_id)
            return TrampolineLink(self._bcc, rule.point, program)
        if way is Probe.MODULE:
            return self._by_module(rule, constants)
        if way is Probe.KFUNC:
            program = self._loader.load_with_kfunc("on_kprobe", constants, NAME, rule.kfunc)
        else:
            program = self._loader.load("on_kprobe", constants)
        return KprobeLink(self._bcc, self._kernel, rule.point, program, constants.slot)

    def _by_module(self, rule: Rule, constants: Constants) -> ModuleLink:
        """A probe of the module: it comes first, because the program must know its number."""
        probe = open_probe(rule.point.function)
        try:
            program = self._loader.load("on_probe", constants._replace(probe=probe.number))
        except BaseException:
            probe.close()
            raise
        return ModuleLink(self._bcc, probe, program)

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
        if slot not in self._of_rules:
            return 0
        return self._of_rules[slot].missed() + self._marks.missed(self._constants[slot])

    def detach(self) -> None:
        """Take every probe out of the kernel except those on returns, which do nothing while disarmed."""
        self._plan, self._used = Plan(()), ()
        self._of_rules.clear()
        self._marks.close()
        for link in self._links:
            link.close()
        self._links.clear()

    def close(self) -> None:
        """Leave nothing in the kernel."""
        self.detach()
        self._unwatch()
        self._loader.close()


def wanted(plan: Plan, slot: int, probe: Probe) -> tuple[Probe, ...]:
    """The ways to try for a rule, the cheapest first, ``probe`` being the user's choice.

    Of rules for one function either all go by fmod_ret or none: a kprobe's override does not keep it away.
    Raises CannotRun if the user's choice cannot fail this function.
    """
    rule = plan.rules[slot]
    if probe is not Probe.AUTO:
        if probe not in rule.ways or (probe is Probe.FMOD_RET and not rule.trampoline):
            raise _impossible(rule, probe)
        return (probe,)
    point = rule.point
    same = (rule for rule in plan.rules if (rule.point.address or rule.point.names) == (point.address or point.names))
    able = all(bool(rule.trampoline) for rule in same)
    return tuple(way for way in rule.ways if able or way is not Probe.FMOD_RET)


def _impossible(rule: Rule, probe: Probe) -> CannotRun:
    """Why ``probe`` cannot fail the function of ``rule``."""
    if probe in (Probe.KFUNC, Probe.MODULE):
        why, fix = f"the module {NAME} does not offer it here", "`inject module status` says why"
    elif not rule.point.marked:
        why, fix = f"{rule.point.function} is not marked ALLOW_ERROR_INJECTION", "leave --probe out"
    elif probe is Probe.KPROBE:
        why, fix = "this kernel was built without CONFIG_BPF_KPROBE_OVERRIDE", "leave --probe out"
    elif not all(rule.values):
        why, fix = "it cannot return 0 or NULL", "use --probe kprobe"
    else:
        why, fix = "it needs the function's own name in vmlinux's BTF", "use --probe kprobe"
    return CannotRun(f"{probe.value} cannot fail {rule.point.function}: {why}", fix)
