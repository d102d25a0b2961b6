"""The signature of a finding: what trials that fail of one cause have in common. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

from inject.kernel.patterns import PATTERNS
from inject.model.reached import Point
from inject.model.verdict import Reason, Verdict

TOP = 3
"""Frames of a splat that count, the innermost."""

LONGEST = 200
"""Characters of a signature."""

READ_ONLY = "read-only"
"""In place of the check, if one says that the filesystem stopped writing: it is why the others fail, and most
filesystems do that on purpose. Which of them complains first depends on what the workload left."""

_EROFS = "Read-only file system"

_ALSO = "; also: "
"""What stands between the complaints of a verdict (trial/judge.py)."""

_CHECK = re.compile(r"([a-z][a-z-]*): ")
_STAMP = re.compile(r"^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_FRAME = re.compile(r"\s*(\? )?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[^\]]*\])?\s*$")
_RIP = re.compile(r"RIP: 0010:([A-Za-z_][\w.]*)\+0x")
_TRACE = re.compile(r"Call Trace:")
_SECTION = re.compile(r"\s*<(?:TASK|IRQ|SOFTIRQ)>")
_NMI = re.compile(r"\s*<(/?)NMI>")
_TASK = re.compile(r"task:\S.* state:D |.*/\d+ state D\b")
"""A blocked task: of sysrq w (sched_show_task() in kernel/sched/core.c, 6.12), and as process/blocked.py writes it."""
_BLOCKED_FRAME = re.compile(r"\s+([A-Za-z_][\w.]*)\+0x[0-9a-f]+(?: \[[^\]]*\])?\s*$")
_IDLE = re.compile(r"\b(?:do_idle|cpu_startup_entry)\+0x")
_CLONE = re.compile(r"\.(?:constprop|isra|part|cold|llvm)\b.*")

_VARYING = (
    (re.compile(r"/tmp/\S*?(?=[/:;,`'\"]*(?:\s|$)|/mnt\b)"), "DIR"),
    (
        re.compile(r"/dev/[\w/-]*\d\b|/dev/(?:vd|sd|nvme|loop|ram)\w*|\b(?:vd|sd)[a-z]\d*\b|\b(?:loop|nvme|ram)\d\w*"),
        "DEV",
    ),
    (re.compile(r"\b0x[0-9a-f]+\b|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b|\b\d+\b", re.IGNORECASE), "N"),
)
"""What differs from run to run, and what stands for it: directories, devices, addresses and numbers."""

_REPORTING = (
    *(
        "dump_stack",
        "show_stack",
        "show_trace",
        "show_regs",
        "panic",
        "nmi_panic",
        "die",
        "oops_",
        "do_trap",
        "do_error_",
    ),
    *("handle_bug", "report_bug", "fixup_bug", "page_fault_oops", "kernelmode_fixup_or_oops", "bad_area", "asm_exc_"),
    *("asm_sysvec_", "exc_", "do_user_addr_fault", "do_kern_addr_fault", "warn_slowpath", "warn", "print_report"),
    *("print_address_description", "kasan_", "asan_", "ubsan_", "kmsan_", "msan_", "kcsan_", "tsan_", "kfence_"),
    *(
        "check_region_inline",
        "lockdep_",
        "lock_acquire",
        "lock_release",
        "validate_chain",
        "check_prev",
        "check_deadlock",
    ),
    *(
        "check_noncircular",
        "check_irq_usage",
        "print_circular_bug",
        "print_deadlock_bug",
        "print_usage_bug",
        "mark_lock",
    ),
    *("debug_check_no_", "debug_locks_", "might_resched", "might_sleep", "schedule_bug", "refcount_warn_saturate"),
    *("list_add_valid", "list_del_entry_valid", "fortify_panic", "usercopy_abort", "check_object_size", "object_err"),
    *("slab_err", "slab_pad_check", "check_slab", "check_object", "free_debug_processing", "alloc_debug_processing"),
    *("free_to_partial_list", "slab_free", "kfree", "kvfree", "kmem_cache_free", "memcpy", "memmove", "memset"),
)
"""Functions that report a bug, or do what they are told, by the beginning of their names without underscores."""

_INJECTING = (
    *(
        "inject_",
        "bpf_prog_",
        "bpf_trampoline_",
        "bpf_override",
        "bpf_get_stack",
        "trace_call_bpf",
        "kprobe_",
        "kretprobe_",
    ),
    *("aggr_pre_handler", "opt_pre_handler", "optimized_callback", "ftrace_", "arch_ftrace_", "fprobe_", "rethook_"),
    *("arch_rethook_", "return_to_handler", "fentry", "fexit", "just_return_func", "override_function_with_return"),
)
"""Functions by which inject fails a call, so that they stand between it and its caller."""

_WAITING = (
    *("schedule", "io_schedule", "preempt_schedule", "cond_resched", "mutex_lock", "rwsem_", "down_read", "down_write"),
    *(
        "down_killable",
        "down_interruptible",
        "percpu_down_",
        "percpu_rwsem_",
        "wait_for_completion",
        "wait_for_common",
        "folio_wait_bit",
    ),
    *("wait_on_bit", "out_of_line_wait_on_bit", "bit_wait", "closure_sync", "msleep", "usleep_range", "rt_mutex_"),
    *("context_switch", "switch_to"),
)
"""Functions in which a task sleeps, whatever it waits for."""

_ENTRY = (
    *(
        "do_syscall_64",
        "x64_sys_call",
        "entry_SYSCALL",
        "ret_from_fork",
        "kthread",
        "worker_thread",
        "process_one_work",
    ),
    *("process_scheduled_works", "syscall_exit_to_user_mode", "task_work_run"),
)
"""Functions through which every call comes."""

_GENERIC = re.compile("|".join((*_REPORTING, *_INJECTING, *_WAITING, *_ENTRY)))


def signature(verdict: Verdict, point: Point) -> str:
    """The signature of a failed trial of ``point``, which of two faults is the last one's.

    It is the reason and what was seen: the kind and the TOP frames of a splat, or where the tasks hang. Without
    such a stack it is the check that failed, and the failed function and its caller.
    """
    first = verdict.detail.split(_ALSO)[0]
    lines = [_STAMP.sub("", line) for line in verdict.log]
    what, frames = "", list[str]()
    if verdict.reason is Reason.HANG:
        frames = _where_it_hangs(lines) or _where_it_loops(lines)
    elif verdict.reason in (Reason.CRASH, Reason.DMESG):
        what, frames = _kind([_message(first), *lines]), _splat(lines, last=verdict.reason is Reason.CRASH)
        what = what if frames or verdict.reason is Reason.CRASH and what else normalised(_message(first))
    else:
        what = READ_ONLY if _EROFS in verdict.detail else _check(first)
    where = frames or [point.function, *(name_of(frame) for frame in point.stack[:1])]
    reason = verdict.reason.value if verdict.reason else ""
    return ": ".join(part for part in (reason, what, " < ".join(where)) if part)[:LONGEST]


def digest(text: str) -> str:
    """A short name of a signature, 8 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def normalised(text: str) -> str:
    """One line without what differs from run to run."""
    line = text.splitlines()[0].strip() if text.strip() else ""
    for pattern, stands in _VARYING:
        line = pattern.sub(stands, line)
    return line[:120]


def name_of(frame: str) -> str:
    """The function of a frame, ``symbol+0xoff [module]``, without what the compiler adds to its name."""
    return _CLONE.sub("", frame.partition("+")[0].partition(" ")[0].partition("#")[0])


def is_generic(function: str) -> bool:
    """True for a function that says nothing of a bug: it reports, injects, sleeps, or every call comes through it."""
    return bool(_GENERIC.match(function.lstrip("_")))


def _message(detail: str) -> str:
    """What the kernel said: without what inject wrote before and behind it."""
    _, panicked, after = detail.partition("the guest panicked: ")
    if panicked:
        return after.partition("; ")[0]
    text = re.sub(r"^with .* armed, ", "", detail).partition("; the last of ")[0].partition("; nothing was injected")[0]
    return re.sub(r"^(?:dmesg: |after the end of \S+: )", "", text).partition("; tainted: ")[0]


def _kind(lines: Iterable[str]) -> str:
    """The name of the first of the kernel's messages that ``lines`` have; "" if there is none."""
    for line in lines:
        for known in PATTERNS:
            if known.pattern.search(line):
                return known.name
    return ""


def _check(detail: str) -> str:
    """The name of the check that complains, else its words."""
    named = _CHECK.match(detail)
    return named.group(1) if named else normalised(detail)


def _top(functions: Iterable[str]) -> list[str]:
    """The first TOP of them that are not generic."""
    told = [name for name in functions if not is_generic(name)]
    return told[:TOP]


def _splat(lines: Sequence[str], *, last: bool) -> list[str]:
    """The top frames of the first splat, or of the ``last`` one, which ended the kernel; [] if there is none."""
    starts = [number for number, line in enumerate(lines) if _TRACE.search(line)]
    starts = starts or [number for number, line in enumerate(lines) if _SECTION.match(line)][:1]  # the rest was cut
    if not starts:
        return []
    start = starts[-1] if last else starts[0]
    before = starts[starts.index(start) - 1] if start != starts[0] else 0
    end = next((number for number in starts if number > start), len(lines))
    found = [_RIP.search(line) for line in (*lines[before:start], *(lines[start:end] if last else ()))]
    rips = [match.group(1) for match in found if match]
    trace = list(_functions(lines[start + 1 : end]))
    rip = rips[-1] if rips else ""
    return _top(_CLONE.sub("", name) for name in ([rip] if rip and trace[:1] != [rip] else []) + trace)


def _functions(lines: Iterable[str]) -> Iterator[str]:
    """The functions of one stack trace: without frames that the unwinder only guessed, and those of an NMI."""
    in_nmi = False
    for line in lines:
        nmi = _NMI.match(line)
        if nmi:
            in_nmi = not nmi.group(1)
            continue
        frame = _FRAME.match(line)
        if frame and not frame.group(1) and not in_nmi:
            yield frame.group(2)
        elif not frame and not in_nmi and not line.lstrip().startswith("<") and line.strip():
            return


def _where_it_hangs(lines: Sequence[str]) -> list[str]:
    """The top frames of the first task that is blocked; [] if no stack of one is there."""
    for number, line in enumerate(lines):
        if not _TASK.match(line):
            continue
        frames = []
        for below in lines[number + 1 :]:
            frame = _FRAME.match(below) or _BLOCKED_FRAME.match(below)
            if frame:
                if not below.lstrip().startswith("?"):
                    frames.append(_CLONE.sub("", frame.groups()[-1]))
            elif frames or not re.match(r"\s*(?:Call Trace:|<)", below):
                break
        told = _top(frames)
        if told:
            return told
    return []


def _where_it_loops(lines: Sequence[str]) -> list[str]:
    """The top frames of the CPU that an NMI found at work; [] if it found it idle."""
    idle = any(_IDLE.search(line) for line in lines)
    return [] if idle else _splat(lines, last=True)
