"""The scenario format as one table, from which the reader and the JSON Schema are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from inject.filesystems import TYPES
from inject.model.scenario import (
    DEFAULT_TIMEOUT,
    VM_CPUS,
    VM_KERNELS,
    VM_MEMORY,
    Contract,
    Expectation,
    Fault,
    Filesystem,
    Finding,
    Requires,
    Scope,
    Sweep,
    VmWishes,
    When,
)
from inject.model.text import either, shown
from inject.model.trigger import KEYS, Trigger
from inject.model.verdict import Reason
from inject.scenario.fields import Choice, Fields, Key, ListOf, Pattern, Record, Script, Text, scalar_text
from inject.scenario.mappings import Arguments, Errnos
from inject.scenario.mkfs import MkfsOptions
from inject.scenario.problems import wrong
from inject.scenario.rules import check_fault, check_scenario, check_when
from inject.scenario.scalars import Decimal, Size, Whole
from inject.scenario.spelling import CONFIG, FRAME, FUNCTION, FUNCTION_GLOB, SCENARIO
from inject.scenario.tree import Node
from inject.scenario.values import ExitCode, Fates, Injections, ReturnValues

CHECKS = ("dmesg", "fsck", "remount", "leaks", "reservations", "coherence", "recovery")
"""The checks that `checks` may name."""

FILESYSTEMS = tuple(TYPES)
MAX_DEVICES = 4
MAX_TIMEOUT = 86_400
COMM_LENGTH = 15
"""Characters of a task's name: TASK_COMM_LEN - 1 (include/linux/sched.h, Linux 6.12)."""

_NAME = Text(
    "a name such as page-cache/add-folio",
    SCENARIO,
    "use letters, digits and . _ + -, in parts joined by /",
    longest=128,
)
_FUNCTION = Text("the name of a kernel function", FUNCTION, "write the symbol alone, as `inject list` shows it")
_GLOB = Text(
    "a kernel function or a pattern such as bch2_*", FUNCTION_GLOB, "write a symbol; * stands for any characters"
)
_FRAME = Text("a function, a pattern or module:NAME", FRAME, "write it like ksys_write, bch2_*, module:xfs or !bch2_*")
_WORD = Text("single words", r"\S+", "write one item for each word")
_ARGUMENT = Text("single arguments", r"(?!-[^=\s]*\s)[^\n]+", "write an option and its value as two items")


@dataclass(frozen=True)
class Comm:
    """A task's name as the kernel stores it, or a pattern for it."""

    def read(self, node: Node, label: str) -> str:
        """The pattern; raises ScenarioError."""
        text = scalar_text(node, label, "the name of a task")
        if len(text) > COMM_LENGTH and not re.search(r"[*?\[]", text):
            what = f"the kernel cuts task names to {COMM_LENGTH} characters, so {shown(text)} never matches"
            raise wrong(node.place, what, f"write {text[:COMM_LENGTH]}")
        return text

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return Text("").schema()


def _choice(enum: Any) -> Choice:
    return Choice(tuple(member.value for member in enum))


# ---------------------------------------------------------------- faults


def _build_when(fields: Fields) -> When:
    return When(
        args=fields.get("args", ()),
        stack=fields.get("stack", ()),
        comm=fields.get("comm"),
        device=fields.get("device"),
        trigger=Trigger(**{name: fields.values[name] for name in KEYS if name in fields.values}),
    )


LEAST_PROBABILITY = 1e-19
"""The kernel draws one of 2**64 numbers: what is below 1/2**64 would be no probability at all."""
_PROBABILITY_SLIPS = ((r"[0-9.]+\s*%", "write 1% as 0.01"), (r"[0-9]+/[0-9]+", "write 1/100 as 0.01"))
_TIMEOUT_SLIPS = ((r"[0-9][0-9.]*\s*[a-zA-Z]+", "write the number of seconds alone"),)
_DEVICE = Text(
    "$DEV, $DEV1 ... or /dev/NAME", r"\$DEV[1-4]?|/dev/\S+", "the scenario's own devices are $DEV, $DEV1 ..."
)

WHEN = Record(
    (
        Key("args", Arguments(), "Parameters, or members reached from them, and what they must be."),
        Key(
            "stack",
            ListOf(_FRAME, filled=True, unique=False),
            "Callers, innermost first, others may lie between: a name, a glob, module:NAME, name+0xOFFSET, or !NAME for"
            " absence.",
        ),
        Key("comm", Comm(), "Name of the calling task, or a shell pattern for it."),
        Key("device", _DEVICE, "Fail only calls with an argument that leads to this block device."),
        Key("after", Whole(0), "Skip the first N matching calls."),
        Key("nth", Whole(1), "Fail only the Nth matching call, counted from 1 after those that `after` skips."),
        Key("every", Whole(1), "Fail every Nth matching call."),
        Key(
            "probability",
            Decimal(1, "a number", _PROBABILITY_SLIPS, low=LEAST_PROBABILITY),
            "Fail each matching call with this probability; the seed of the run decides which.",
        ),
        Key("times", Whole(1), "Inject at most N times; default 1 with `nth`, otherwise no limit."),
    ),
    build=_build_when,
    check=check_when,
    also={
        "allOf": [
            {"not": {"required": pair}} for pair in (["nth", "every"], ["nth", "probability"], ["every", "probability"])
        ]
    },
    elsewhere={name: "faults" for name in ("scope", "follow", "contract", "injected", "return", "error")},
)


def _build_fault(fields: Fields) -> Fault:
    return Fault(
        function=fields.get("function"),
        value=fields.get("return"),
        scope=Scope.WRITEBACK if "follow" in fields else Scope(fields.get("scope", Scope.WORKLOAD.value)),
        contract=Contract(fields.get("contract", Contract.KEEP.value)),
        when=fields.get("when", When()),
        injected=fields.get("injected"),
        error=fields.get("error"),
        place=fields.place,
        value_places=tuple(node.place for node in getattr(fields.nodes["return"], "items", (fields.nodes["return"],))),
    )


_WHEN_KEYS = {key.name: "when" for key in WHEN.keys}

FAULT = Record(
    (
        Key(
            "function",
            _FUNCTION,
            "The function to fail; `inject list` shows error-injectable ones, `inject list --all` all others.",
            required="function: NAME",
        ),
        Key(
            "return",
            ReturnValues(),
            "What it returns: -ERRNO, -BCH_ERR_*, another enumerator, a number, NULL, true or false; a list: in turn.",
            required="return: -ENOMEM",
        ),
        Key(
            "scope",
            _choice(Scope),
            "Whose calls fail. workload (default): those of its process tree; writeback: also those of kernel threads, "
            "if an argument leads to one of the scenario's own devices; any: those of any task.",
        ),
        Key("follow", Choice((Scope.WRITEBACK.value,)), "The old form of `scope: writeback`.", deprecated=True),
        Key(
            "contract",
            _choice(Contract),
            "keep (default): skip callers that must not fail (NOFAIL), refuse functions that are not marked and whose"
            " name promises an effect (lock, put, free); ignore: fail them too.",
        ),
        Key("when", WHEN, "Which calls fail: every key must hold. Absent: every call in scope."),
        Key("injected", Injections(), 'How often this fault must be injected: 3, ">=1", "<=2" or "1..5".'),
        Key("error", Fates(), "What must become of its errors: propagated, translated, swallowed, blocked, or a list."),
    ),
    build=_build_fault,
    check=check_fault,
    noun="the fault",
    elsewhere={**_WHEN_KEYS, "errno": "expect", "exit": "expect"},
)

# ---------------------------------------------------------------- the rest

REQUIRES = Record(
    (
        Key(
            "functions",
            ListOf(_FUNCTION),
            "Error-injectable functions that must exist; those in `faults` are implied.",
        ),
        Key("programs", ListOf(_WORD), "Programs that must be installed."),
        Key(
            "config",
            ListOf(Text("kernel options", CONFIG, "write it like CONFIG_KASAN or CONFIG_KASAN=y")),
            "Options that the kernel must be built with: CONFIG_X or CONFIG_X=value.",
        ),
    ),
    build=lambda fields: Requires(**fields.values),
)

FILESYSTEM = Record(
    (
        Key("type", Choice(FILESYSTEMS), f"{either(FILESYSTEMS)}.", required="type: bcachefs"),
        Key("devices", Whole(1, MAX_DEVICES), "Number of scratch devices, $DEV1 $DEV2 ...; default 1."),
        Key("size", Size(4096, 1 << 44, "512M"), "Size of each device, with K, M, G or T (binary); default 512M."),
        Key("mkfs", MkfsOptions(_ARGUMENT, unique=False), "Options for mkfs, and their values; no devices."),
        Key(
            "mount",
            ListOf(Text("mount options", r"[^-\s]\S*", "write the option alone, without -o")),
            "Mount options.",
        ),
    ),
    build=lambda fields: Filesystem(**fields.values),
)

EXPECT = Record(
    (
        Key("exit", ExitCode(), "Exit code of `run`: a number, a list of numbers, nonzero, or any; default 0."),
        Key("errno", Errnos(), "The errno that user space must see, by system call: {write: ENOSPC}."),
        Key("injected", Injections(), 'How often each fault must be injected: 3, ">=1" (default), "<=2" or "1..5".'),
        Key(
            "output",
            Pattern(),
            "Regular expression that must match somewhere in stdout and stderr; ^ and $ match at every line.",
        ),
        Key(
            "error",
            Fates(),
            "What must become of every injected error: propagated (the system call fails with the same errno), "
            "translated (with another), swallowed (it succeeds) or blocked (not back in time); or a list.",
        ),
    ),
    build=lambda fields: Expectation(**fields.values),
)

FINDING = Record(
    (
        Key("reason", _choice(Reason), "The reason for which the scenario must fail.", required="reason: dmesg"),
        Key(
            "text",
            Text(),
            "What the kernel does wrong, where, and since when.",
            required="text: what the kernel does wrong",
        ),
        Key(
            "evidence",
            Pattern(),
            "Regular expression that the detail or a log line of the known failure matches; "
            "default: every failure with `reason` is the known one.",
        ),
    ),
    build=lambda fields: Finding(Reason(fields.get("reason")), fields.get("text"), fields.get("evidence")),
)

VM = Record(
    (
        Key("cpus", Whole(*VM_CPUS), "CPUs of the guest."),
        Key("memory", Size(*VM_MEMORY, "1G"), "Memory of the guest, with K, M, G or T (binary)."),
        Key("kernel", Choice(VM_KERNELS), "Kernel of the guest; default `stock`, or `test` for what only that has."),
    ),
    build=lambda fields: VmWishes(**fields.values),
)

SWEEP = Record(
    (
        Key(
            "functions",
            ListOf(_GLOB, filled=True),
            "Functions or patterns to record and fail; default the error-injectable ones, or the filesystem's.",
        ),
        Key(
            "by",
            Choice(("stack", "nth")),
            "stack: each distinct stack trace (default); `inject vm sweep` refuses nth: every ordinal.",
        ),
        Key(
            "modes",
            ListOf(Choice(("once", "onward")), filled=True),
            "once: fail one call (default); onward: fail that call and all after it.",
        ),
        Key("limit", Whole(1, 1_000_000), "Stop after this many trials; default 500."),
    ),
    build=lambda fields: Sweep(**fields.values),
)


SCENARIO_KEYS = (
    Key("name", _NAME, "Name in reports; default the file's path. Required if a file has several scenarios."),
    Key("description", Text(), "What fails, and what the kernel must do."),
    Key("tags", ListOf(_WORD), "Words to select scenarios by."),
    Key("requires", REQUIRES, "What the scenario needs; if something is missing it is skipped, with the reason."),
    Key("filesystem", FILESYSTEM, "A filesystem that inject makes for every run, at $MNT on $DEV. Absent: none."),
    Key("setup", Script(), "Shell commands that run before the faults are armed; they must succeed."),
    Key(
        "faults",
        ListOf(FAULT, filled=True, unique=False),
        "The faults; all are armed at the same time.",
        required="faults: [{function: NAME, return: -ENOMEM}]",
    ),
    Key("run", Script(), "The workload: shell commands that run while the faults are armed.", required="run: COMMAND"),
    Key("expect", EXPECT, "What must be seen of the workload."),
    Key("recover", Script(), "Shell commands that run after the faults are disarmed; they must succeed."),
    Key("checks", ListOf(Choice(CHECKS)), "Checks to run afterwards; default all that apply, [] for none."),
    Key(
        "allow",
        ListOf(Pattern()),
        "Regular expressions for kernel-log lines that are expected; ^ and $ match at every line.",
    ),
    Key(
        "timeout",
        Decimal(MAX_TIMEOUT, "a number of seconds", _TIMEOUT_SLIPS),
        f"Seconds for `run`; default {DEFAULT_TIMEOUT:g}. Three times as many with KASAN, KMSAN or lockdep.",
    ),
    Key(
        "finding",
        FINDING,
        "A known kernel bug that this scenario shows: it must fail for this reason, and in no other way.",
    ),
    Key("vm", VM, "The guest that `inject vm` boots for it; other commands ignore it."),
    Key(
        "sweep",
        SWEEP,
        "What `inject vm sweep` fails, and how; `inject record` records these functions. Other commands ignore it.",
    ),
)

_ELSEWHERE = {
    **{key.name: "expect" for key in EXPECT.keys},
    **{key.name: "filesystem" for key in FILESYSTEM.keys},
    **{key.name: "requires" for key in REQUIRES.keys},
    **{key.name: "vm" for key in VM.keys},
    **{key.name: "when" for key in WHEN.keys},
    **{key.name: "faults" for key in FAULT.keys},
}

SCENARIO_RECORD = Record(
    SCENARIO_KEYS, build=lambda fields: fields, check=check_scenario, noun="the scenario", elsewhere=_ELSEWHERE
)
