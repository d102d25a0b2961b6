"""Obstacles: why an error-injectable function, or some of its calls, cannot be failed in this kernel.

`run` and `fail` refuse with these words before they attach anything, `check --kernel` and `list --explain`
show them for a function, `doctor` for the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from inject.errors import CannotRun
from inject.kernel.files import DEBUGFS, text_of
from inject.kernel.kernel import Kernel
from inject.model.point import FaultPoint
from inject.model.text import listed

CONFIG = (
    ("CONFIG_FUNCTION_ERROR_INJECTION", "keeps the list of error-injectable functions"),
    ("CONFIG_BPF_KPROBE_OVERRIDE", "lets a BPF program return in a function's place"),
    ("CONFIG_BPF_SYSCALL", "loads BPF programs"),
    ("CONFIG_BPF_EVENTS", "attaches BPF programs to probes"),
    ("CONFIG_KPROBE_EVENTS", "attaches kprobes as perf events, which end with their process"),
    ("CONFIG_CGROUPS", "keeps faults to the workload's own tasks"),
    ("CONFIG_DEBUG_INFO_BTF", "gives names to arguments and to errors such as BCH_ERR_*"),
    ("CONFIG_STACKTRACE", "shows where a blocked task waits"),
    ("CONFIG_FPROBE", "follows errors up to their system call (--trace)"),
)
OPTIONAL = frozenset({"CONFIG_DEBUG_INFO_BTF", "CONFIG_STACKTRACE", "CONFIG_FPROBE"})

BY_MODULE = frozenset({"CONFIG_FUNCTION_ERROR_INJECTION", "CONFIG_BPF_KPROBE_OVERRIDE"})
"""What inject's module stands in for."""

FORBIDDING = frozenset({"confidentiality"})
"""Lockdown modes without kprobes: LOCKDOWN_KPROBES lies above LOCKDOWN_INTEGRITY_MAX (include/linux/security.h)."""


LOAD = "--module, or `inject module load`"
"""How inject's module is loaded on a bare machine."""


@dataclass(frozen=True)
class Obstacle:
    """One obstacle, and how to remove it."""

    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.message}. Fix: {self.fix}"


def of_option(kernel: Kernel, option: str) -> Optional[Obstacle]:
    """``option`` of CONFIG is not set; None also if the kernel does not show its configuration."""
    if not kernel.config.options or kernel.config.has(option):
        return None
    why = dict(CONFIG)[option]
    fix = f"build the kernel with {option}=y, or use `inject vm run`"
    return Obstacle(
        f"this kernel was built without {option}, which {why}",
        f"load inject's kernel module ({LOAD}), {fix}" if option in BY_MODULE else fix,
    )


MOUNT_SECURITYFS = "mount -t securityfs securityfs /sys/kernel/security"
"""With it /sys/kernel/security/lockdown can be read (security/lockdown/lockdown.c, v6.12)."""


def of_lockdown(kernel: Kernel) -> Optional[Obstacle]:
    """Lockdown, if it forbids probes even to root."""
    if kernel.lockdown not in FORBIDDING:
        return None
    return Obstacle(f"kernel lockdown ({kernel.lockdown}) forbids probes", "boot with lockdown=none or integrity")


def of_signatures(kernel: Kernel) -> Optional[Obstacle]:
    """What keeps the kernel from loading unsigned modules (kernel/module/signing.c, module_sig_check(), v6.12)."""
    guest = "use a guest: `inject vm run`"
    if kernel.lockdown in FORBIDDING:
        return Obstacle(
            f"kernel lockdown ({kernel.lockdown}) forbids modules without a signature, and probes",
            f"boot with lockdown=none and without Secure Boot, or {guest}",
        )
    if kernel.lockdown == "integrity":
        return Obstacle(
            "kernel lockdown (integrity) takes signed modules only",
            f"sign it with a key enrolled by mokutil, boot without Secure Boot, or {guest}",
        )
    if text_of(kernel.root / "sys/module/module/parameters/sig_enforce") == "Y":
        return Obstacle(
            "this kernel takes signed modules only (module.sig_enforce)",
            f"sign it with a key enrolled by mokutil, boot without module.sig_enforce=1, or {guest}",
        )
    if text_of(kernel.root / "proc/sys/kernel/modules_disabled") == "1":
        return Obstacle("kernel.modules_disabled=1 forbids all modules", f"reboot, or {guest}")
    return None


def of_switches(kernel: Kernel) -> list[Obstacle]:
    """Switches that keep every probe from firing; attaching one succeeds all the same."""
    found = []
    if text_of(kernel.root / "proc/sys/kernel/ftrace_enabled") == "0":
        found.append(
            Obstacle(
                "ftrace is switched off (kernel.ftrace_enabled=0): no probe fires", "sysctl kernel.ftrace_enabled=1"
            )
        )
    switch = f"{DEBUGFS}/kprobes/enabled"
    if text_of(kernel.root / switch) == "0":
        found.append(Obstacle(f"kprobes are switched off (/{switch} is 0): none fires", f"echo 1 >/{switch}"))
    return found


def of_addresses(kernel: Kernel, what: str) -> Optional[Obstacle]:
    """Addresses of functions that the kernel does not show, which ``what`` needs."""
    if not kernel.symbols.hidden:
        return None
    return Obstacle(f"{what} needs the addresses of functions, which the kernel hides", kernel.symbols.show)


def of_kernel(kernel: Kernel) -> list[Obstacle]:
    """Obstacles for every function."""
    spared = OPTIONAL | BY_MODULE if kernel.overrider else OPTIONAL
    needed = (of_option(kernel, option) for option, _ in CONFIG if option not in spared)
    return [obstacle for obstacle in (*needed, of_lockdown(kernel), *of_switches(kernel)) if obstacle]


def of_function(kernel: Kernel, point: FaultPoint) -> list[Obstacle]:
    """Obstacles for ``point``."""
    if {point.function, *point.names} & kernel.ftrace.blacklist:
        return [Obstacle(f"{point.function} is on the kprobe blacklist", "choose one of its callers")]
    if kernel.symbols.is_freed(point.address):
        return [
            Obstacle(
                f"{point.function} runs only while the kernel starts (__init), and its memory is freed by now",
                "choose a function that runs later",
            )
        ]
    found = []
    if not point.marked and not kernel.overrider:
        found.append(_unmarked(kernel, point))
    if kernel.ftrace.lacks(point) and not kernel.overrider:
        found.append(_without_ftrace(point))
    return found


def _unmarked(kernel: Kernel, point: FaultPoint) -> Obstacle:
    """Obstacle for a function that is not in the list, if inject's module is not loaded."""
    if kernel.symbols.hidden and kernel.config.has("CONFIG_FUNCTION_ERROR_INJECTION"):
        return Obstacle(
            f"{point.function} is not in the list of error-injectable functions, and the kernel hides the addresses"
            " that would show whether it is another name of one of them",
            kernel.symbols.show,
        )
    return Obstacle(
        f"{point.function} is not marked ALLOW_ERROR_INJECTION, so only inject's kernel module can fail it",
        f"load it ({LOAD}), or choose one of `inject list`",
    )


def without_ftrace(point: FaultPoint) -> CannotRun:
    """Obstacle for a function that cannot be probed."""
    obstacle = _without_ftrace(point)
    return CannotRun(obstacle.message, obstacle.fix)


def _without_ftrace(point: FaultPoint) -> Obstacle:
    return Obstacle(
        f"{point.function} is built without ftrace, so no probe can override it",
        "leave the ftrace flags to its object (CFLAGS_REMOVE_*.o in the Makefile), or choose one of its callers",
    )


def of_trampoline(point: FaultPoint) -> Obstacle:
    """Obstacle for a kprobe on a function that has another program's trampoline (ftrace.with_trampoline())."""
    return Obstacle(
        f"another tracing program (fentry, fexit or BPF LSM) is attached to {point.function}, and a kprobe does not"
        " keep it from calling the function's body",
        "end that program (`bpftool prog` lists it), or use --probe fmod_ret, which cannot return 0 or NULL",
    )


def refuse(kernel: Kernel, *points: FaultPoint) -> None:
    """Raise CannotRun with the first obstacle of this kernel or of one of ``points``, if there is one."""
    found = of_kernel(kernel) or [obstacle for point in points for obstacle in of_function(kernel, point)]
    if found:
        raise CannotRun(found[0].message, found[0].fix)


# ---------------------------------------------------------------- calls that no probe sees


def gaps(kernel: Kernel, point: FaultPoint) -> list[str]:
    """Calls of ``point`` that never reach its probe, as sentences; [] if there are none, or none are known."""
    found = []
    clones = kernel.symbols.clones(point.function)
    if clones:
        found.append(
            f"some callers use the compiler's clone {listed(clones)} in its place and never pass the probe:"
            f" mark {point.function} noinline __noclone"
        )
    callers = kernel.symbols.inlined_into(point.function)
    if callers:
        found.append(
            f"{point.function} is inlined into {listed(callers)}: calls from there never pass the probe;"
            " mark it noinline"
        )
    return found


def hidden_frame(kernel: Kernel, name: str) -> str:
    """Calls through ``name`` that a stack does not show; "" if there are none, or none are known."""
    callers = kernel.symbols.inlined_into(name)
    return f"calls of {name} in {listed(callers)} are inlined: there it is not in the stack" if callers else ""
