"""The ways in which a function can be failed in one kernel."""

from __future__ import annotations

from inject.kernel.kernel import Kernel
from inject.model.point import FaultPoint
from inject.model.scenario import Probe


def ways(kernel: Kernel, point: FaultPoint) -> tuple[Probe, ...]:
    """How ``point`` can be failed in ``kernel``, the cheapest first; () if it cannot be.

    fmod_ret has conditions of its own besides: see Rule.trampoline.
    """
    traced = not kernel.ftrace.lacks(point)
    options = kernel.config
    found = []
    if point.marked and traced:
        found.append(Probe.FMOD_RET)
        if not options.options or options.has("CONFIG_BPF_KPROBE_OVERRIDE"):
            found.append(Probe.KPROBE)
    module = kernel.overrider
    if module and module.kfunc and traced:
        found.append(Probe.KFUNC)
    if module:
        found.append(Probe.MODULE)
    return tuple(found)
