"""A shell script that shows a finding again without inject: by fail_function or bpftrace, as far as these can. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from inject.filesystems import TYPES
from inject.filesystems.base import FilesystemType, Members
from inject.model.errnos import ERRNOS
from inject.model.scenario import Contract, Fault, Filesystem, Returned, Scenario, Scope
from inject.model.text import listed
from inject.model.trigger import Trigger

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_EVERY_CALL = re.compile("do_syscall_64|entry_SYSCALL|x64_sys_call|ret_from_fork|kthread$")
"""Frames that no kprobe can be on, and through which every call of a task comes."""

PRIVATE = -5
"""What stands for an error that only this kernel has a number for: -EIO."""

SHOWN_CHECKS = frozenset({"dmesg", "fsck", "remount", "recovery"})
"""Checks that the script makes, too."""


@dataclass(frozen=True)
class Plain:
    """A fault as fail_function and bpftrace can express it."""

    function: str
    value: int
    callers: tuple[str, ...]
    """Functions that must be above it, innermost first."""
    trigger: Trigger
    lacks: tuple[str, ...]
    """What of the fault is not in here, as sentences."""

    @property
    def simple(self) -> bool:
        """True if fail_function can express it: it compares one range of addresses."""
        trigger = self.trigger
        return len(self.callers) <= 1 and not trigger.after


def plain(fault: Fault) -> Plain:
    """``fault`` without what neither of the two can express."""
    lacks: list[str] = []
    values = [_number(value) for value in fault.values]
    if None in values:
        lacks.append(f"{fault.returns} is an error of this kernel alone: {PRIVATE} stands for it, its number is better")
    if len(values) > 1:
        lacks.append(f"{fault.function} returns {fault.returns}; here it returns the first only")
    callers, exact = [], []
    for entry in fault.when.stack:
        name = entry.partition("+")[0]
        if not _NAME.fullmatch(name):
            lacks.append(f"the entry {entry} of the stack is not compared")
        elif not _EVERY_CALL.match(name):
            callers.append(name)
            exact += [name] if "+" in entry else []
    if exact:
        lacks.append(f"any call from {listed(exact)} counts, not only the one that scenario.yaml names by its offset")
    if fault.when.args or fault.when.device:
        lacks.append(f"the arguments of {fault.function} are not compared")
    if fault.scope is not Scope.WORKLOAD:
        lacks.append(f"scope {fault.scope.value}: only calls of the workload's own processes fail")
    if fault.contract is Contract.IGNORE:
        lacks.append("callers that must not fail (NOFAIL) are failed as well, as in the scenario")
    if fault.when.trigger.probability is not None:
        lacks.append("which calls fail at random is different in each run")
    first = values[0]
    return Plain(fault.function, PRIVATE if first is None else first, tuple(callers), fault.when.trigger, tuple(lacks))


def _number(value: Returned) -> Optional[int]:
    """The number of a value; None for an error that only the kernel's BTF knows."""
    if isinstance(value, int):
        return value
    words = {"NULL": 0, "false": 0, "true": 1}
    if value in words:
        return words[value]
    return -ERRNOS[value[1:]] if value[1:] in ERRNOS else None


def script(scenario: Scenario, signature: str, kernel: str, *, error_types: Mapping[str, str]) -> str:
    """The script, for bash. ``kernel`` is the release of the finding, ``error_types`` those of its functions."""
    faults = [plain(fault) for fault in scenario.faults]
    kind = TYPES.get(scenario.filesystem.type) if scenario.filesystem else None
    lines = [
        *_head(scenario, faults, signature, kernel),
        *_requirements(faults, kind, error_types),
        *_filesystem(scenario.filesystem, kind),
        *_scripts(scenario),
        *_arming(faults),
        *_running(scenario),
        *_checks(scenario.filesystem, kind),
    ]
    return "\n".join(lines) + "\n"


def _head(scenario: Scenario, faults: Sequence[Plain], signature: str, kernel: str) -> Iterator[str]:
    yield "#!/bin/bash"
    yield f"# {signature}"
    yield f"# Seen on Linux {kernel or '(unknown)'}. Run this as root, in a virtual machine that may crash."
    yield "# Exit code 1: the finding shows. 0: it does not. 3: this kernel cannot fail the function."
    lacks = [lack for fault in faults for lack in fault.lacks]
    checks = sorted(set(scenario.checks or ()) - SHOWN_CHECKS)
    if checks:
        lacks.append(f"the checks {listed(checks)} of inject are not made")
    if "LIB=" in scenario.run + scenario.setup:
        lacks.append("the scripts in $LIB belong to inject's checkout and must be there")
    if lacks:
        yield "#"
        yield "# scenario.yaml says more than this script can:"
        yield from (f"# - {lack}" for lack in lacks)
    yield "# shellcheck disable=SC2317 # the trap and $arm call what looks unreachable"
    yield "set -euo pipefail"


def _requirements(
    faults: Sequence[Plain], kind: Optional[FilesystemType], error_types: Mapping[str, str]
) -> Iterator[str]:
    yield ""
    yield "((EUID == 0)) || { echo 'run this as root, in a virtual machine' >&2; exit 2; }"
    yield "mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug"
    if kind is not None:
        yield f"modprobe -q {kind.name} || true"
    yield "can_fail() {"
    yield '  grep -qE "^$1( |\t)" /sys/kernel/debug/error_injection/list 2>/dev/null && return'
    yield "  cat >&2 <<END"
    yield "This kernel does not let $1 fail. In its source, put below the function"
    yield "    ALLOW_ERROR_INJECTION($1, $2);"
    yield "and include linux/error-injection.h; build it with CONFIG_FUNCTION_ERROR_INJECTION, CONFIG_FAIL_FUNCTION,"
    yield "CONFIG_FAULT_INJECTION_DEBUG_FS and CONFIG_FAULT_INJECTION_STACKTRACE_FILTER, boot it, and run this again."
    yield "END"
    yield "  exit 3"
    yield "}"
    for name in dict.fromkeys(fault.function for fault in faults):
        yield f"can_fail {name} {error_types.get(name) or 'ERRNO'}"


def _filesystem(filesystem: Optional[Filesystem], kind: Optional[FilesystemType]) -> Iterator[str]:
    yield ""
    yield "work=$(mktemp -d)"
    yield "tracer=''"
    yield "disarm() {"
    yield '  [ -z "$tracer" ] || { kill "$tracer" && wait "$tracer"; } 2>/dev/null || true'
    yield "  tracer=''"
    yield "  [ ! -w /sys/kernel/debug/fail_function/inject ] || echo >/sys/kernel/debug/fail_function/inject"
    yield "}"
    yield "cleanup() {"
    yield "  set +eu"
    yield "  disarm"
    if filesystem is not None:
        yield '  umount -R "$MNT" 2>/dev/null'
        loops = " ".join(f'"$DEV{number}"' for number in range(1, filesystem.devices + 1))
        yield f"  losetup -d {loops}"
    yield '  rmdir "/sys/fs/cgroup/${work##*/}" 2>/dev/null'
    yield '  rm -rf "$work"'
    yield "}"
    yield "trap cleanup EXIT"
    yield 'mkdir "$work/cwd"'
    if filesystem is None or kind is None:
        return
    names = [f"DEV{number}" for number in range(1, filesystem.devices + 1)]
    for name in names:
        yield f'truncate -s {filesystem.size} "$work/{name}"'
        yield f'{name}=$(losetup -f --show "$work/{name}")'
    yield f"export {' '.join(names)} DEV=$DEV1 MNT=$work/mnt"
    yield 'mkdir "$MNT"'
    devices = " ".join(f'"${name}"' for name in names)
    yield f"{shlex.join([*kind.mkfs.argv, *filesystem.mkfs])} {devices} >/dev/null"
    options = [shlex.quote(option) for option in filesystem.mount]
    source = '"$DEV1"'
    if kind.members is Members.COLONS:
        source = '"' + ":".join(f"${name}" for name in names) + '"'
    elif kind.members is Members.OPTIONS:
        options += [f'device="${name}"' for name in names[1:]]
    chosen = f" -o {','.join(options)}" if options else ""
    yield f'mount_it() {{ mount -i -t {kind.name}{chosen} {source} "$MNT"; }}'
    yield "mount_it"


def _scripts(scenario: Scenario) -> Iterator[str]:
    """The scenario's scripts, each in a file."""
    for name, text in (("setup", scenario.setup), ("run", scenario.run), ("recover", scenario.recover)):
        if text.strip():
            end = f"END_OF_{name.upper()}"
            while end in text.split("\n"):
                end += "_"
            yield ""
            yield f"cat >\"$work/{name}\" <<'{end}'"
            yield from text.rstrip("\n").split("\n")
            yield end


def _arming(faults: Sequence[Plain]) -> Iterator[str]:
    yield ""
    yield "# Either of the two fails the calls of the processes in this cgroup, which have /proc/self/make-it-fail set."
    yield "group=/sys/fs/cgroup/${work##*/}"
    yield 'mkdir "$group"'
    yield from _bpftrace(faults)
    if len(faults) == 1 and faults[0].simple:
        yield from _fail_function(faults[0])
        yield "if [ -w /sys/kernel/debug/fail_function/inject ]; then arm=fail_function_; else arm=bpftrace_; fi"
    else:
        yield "arm=bpftrace_  # fail_function knows one caller of one function only"


def _bpftrace(faults: Sequence[Plain]) -> Iterator[str]:
    """A program that follows the callers from the outermost one inwards, and overrides the call."""
    yield "bpftrace_() {"
    yield "  command -v bpftrace >/dev/null || { echo 'install bpftrace' >&2; exit 3; }"
    yield '  bpftrace --unsafe - >"$work/bpftrace.log" 2>&1 <<END &'
    yield 'BEGIN { printf("armed\\n"); }'
    for number, fault in enumerate(faults, 1):
        above = ""
        for depth, caller in reversed(list(enumerate(fault.callers, 1))):
            flag = f"@f{number}c{depth}[tid]"
            yield f"kprobe:{caller} {above}{{ {flag} = 1; }}"
            yield f"kretprobe:{caller} {{ delete({flag}); }}"
            above = f"/{flag}/ "
        test = f'cgroup == cgroupid("$group"){f" && {above.strip().strip(chr(47))}" if above else ""}'
        yield f"kprobe:{fault.function} /{test}/ {{"
        yield f"  @calls{number} = @calls{number} + 1;"
        yield f"  if ({_condition(number, fault.trigger)}) {{"
        yield f"    @fails{number} = @fails{number} + 1;"
        yield f"    override({fault.value});"
        yield "  }"
        yield "}"
    yield "END"
    yield "  tracer=$!"
    yield "  for ((tries = 0; tries < 300; tries++)); do"
    yield "    ! grep -q '^armed' \"$work/bpftrace.log\" || return 0"
    yield "    sleep 0.1"
    yield "  done"
    yield '  cat "$work/bpftrace.log" >&2'
    yield "  exit 3"
    yield "}"


def _condition(number: int, trigger: Trigger) -> str:
    """Which calls fail, as bpftrace writes it; ``@callsN`` counts from 1."""
    calls = f"@calls{number}"
    if trigger.after:
        calls = f"({calls} - {trigger.after})"
    tests = [f"{calls} > 0"]
    if trigger.nth:
        tests = [f"{calls} == {trigger.nth}"]
    elif trigger.every:
        tests.append(f"{calls} % {trigger.every} == 0")
    if trigger.probability is not None:
        tests.append(f"rand % 10000 < {round(trigger.probability * 10000)}")
    if trigger.limit and not trigger.nth:
        tests.append(f"@fails{number} < {trigger.limit}")
    return " && ".join(tests)


def _fail_function(fault: Plain) -> Iterator[str]:
    """Documentation/fault-injection/fault-injection.rst, v6.12; the attributes are those of all functions."""
    trigger = fault.trigger
    percent = 100 if trigger.probability is None else max(1, round(100 * trigger.probability))
    times = 1 if trigger.nth else trigger.limit or -1
    yield "fail_function_() {"
    yield "  cd /sys/kernel/debug/fail_function"
    yield f"  echo {fault.function} >inject"
    yield f"  printf %#x {fault.value} >{fault.function}/retval"
    yield "  echo Y >task-filter"
    yield f"  echo {percent} >probability; echo {trigger.nth or trigger.every or 1} >interval"
    yield f"  printf %d {times} >./times; echo 0 >space; echo 1 >verbose"
    for caller in fault.callers:
        yield "  local range"
        yield f"  range=$(sort /proc/kallsyms | awk -v name={caller} \\"
        yield "    'from && !told && $1 != from { print from, $1; told = 1 } $3 == name { from = $1 }')"
        yield '  echo 32 >stacktrace-depth; echo "0x${range% *}" >require-start; echo "0x${range#* }" >require-end'
    yield "}"


def _running(scenario: Scenario) -> Iterator[str]:
    yield ""
    yield 'cd "$work/cwd"'
    if scenario.setup.strip():
        yield 'bash -euo pipefail "$work/setup"'
    yield "dmesg -C"
    yield "$arm"
    yield 'cd "$work/cwd"'
    yield "# shellcheck disable=SC2016 # the inner shell expands it"
    yield f'timeout {scenario.timeout:g} bash -c \'echo $$ >"$1/cgroup.procs"'
    yield "[ ! -e /proc/self/make-it-fail ] || echo 1 >/proc/$$/make-it-fail"
    yield 'exec bash -euo pipefail "$2"\' - "$group" "$work/run" && code=0 || code=$?'
    yield 'echo "the workload exited with $code"'
    yield "disarm"
    yield "found=0"
    yield "((code != 124)) || { echo 'the workload did not end'; found=1; }"
    if scenario.recover.strip():
        yield "bash -euo pipefail \"$work/recover\" || { echo 'recover failed'; found=1; }"


def _checks(filesystem: Optional[Filesystem], kind: Optional[FilesystemType]) -> Iterator[str]:
    if filesystem is not None and kind is not None:
        names = [f"DEV{number}" for number in range(1, filesystem.devices + 1)]
        checked = names if kind.checker.every_device else names[:1]
        devices = " ".join(f'"${name}"' for name in checked)
        yield "mkdir \"$MNT/afterwards\" || { echo 'an ordinary mkdir fails'; found=1; }"
        yield "cd /"
        yield "umount -R \"$MNT\" || { echo 'it does not unmount'; found=1; }"
        yield f"{shlex.join(kind.checker.argv)} {devices} || {{ echo 'fsck complains'; found=1; }}"
        yield "mount_it || { echo 'it does not mount again'; found=1; }"
    yield "if dmesg | grep -E 'BUG:|WARNING:|kernel BUG|Oops|KASAN|blocked for more'; then found=1; fi"
    yield "exit $found"
