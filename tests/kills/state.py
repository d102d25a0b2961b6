"""What inject may leave behind: one picture of it before a kill, one after it."""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from inject.engine.syscall import bpf
from inject.process.cgroup import hierarchy
from inject.process.stat import stat_of
from inject.store import cache_root

PROG_NEXT, MAP_NEXT, LINK_NEXT = 11, 12, 31
"""enum bpf_cmd, include/uapi/linux/bpf.h: BPF_PROG_GET_NEXT_ID and its like."""

MOST = 100_000
"""Objects of one kind that are looked at."""

TRACING = ("kprobe_events", "uprobe_events", "set_event", "set_ftrace_filter", "current_tracer", "tracing_on")
SETTINGS = ("kernel", "vm", "fs")
"""Directories of /proc/sys."""

CHANGES = frozenset({"ns_last_pid", "perf_event_max_sample_rate", "perf_cpu_time_max_percent"})
"""Settings that the kernel changes by itself (kernel/pid.c; perf_sample_event_took(), kernel/events/core.c, v6.12)."""

State = Mapping[str, frozenset[str]]


def state() -> State:
    """Names of what is there, by kind."""
    debug = Path("/sys/kernel/debug")
    return {
        "process": frozenset(_processes()),
        "kprobe": _lines(debug / "kprobes/list"),
        "patched function": _lines(Path("/sys/kernel/tracing/enabled_functions")),
        "module": frozenset(line.partition(" ")[0] for line in _lines(Path("/proc/modules"))),
        "BPF program": frozenset(_numbers(PROG_NEXT)),
        "BPF map": frozenset(_numbers(MAP_NEXT)),
        "BPF link": frozenset(_numbers(LINK_NEXT)),
        "cgroup": frozenset(directory for directory, _, _ in os.walk(hierarchy())),
        "mount": frozenset(line.partition(" ")[2].partition(" ")[2] for line in _lines(Path("/proc/self/mountinfo"))),
        "loop device": frozenset(map(str, Path("/sys/block").glob("loop*/loop"))),
        "partition": frozenset(line.split()[-1] for line in _lines(Path("/proc/partitions")) if line),
        "file": frozenset(_files()),
        "tracing": frozenset(f"{name}: {_text(Path('/sys/kernel/tracing') / name)}" for name in TRACING),
    }


def settings() -> dict[str, str]:
    """Values of the kernel's settings that can be written, by their names below /proc/sys."""
    found = {}
    for part in SETTINGS:
        for path in sorted((Path("/proc/sys") / part).rglob("*")):
            if path.is_file() and path.stat().st_mode & 0o200 and path.name not in CHANGES:
                found[str(path)] = _text(path)
    return found


def stays(before: State, seconds: float) -> list[str]:
    """What is there now and was not in ``before``, or the reverse, ``seconds`` from now at the latest."""
    deadline = time.monotonic() + seconds
    while True:
        now = state()
        found = sorted(
            f"{kind} {sign}{name}"
            for kind in before
            for sign, names in (("+", now[kind] - before[kind]), ("-", before[kind] - now[kind]))
            for name in names
        )
        if not found or time.monotonic() >= deadline:
            return found
        time.sleep(0.05)


def _processes() -> Iterator[str]:
    for directory in Path("/proc").glob("[0-9]*"):
        task = stat_of(directory)
        if task is not None and not task.kernel_thread and task.state != "Z":
            yield f"{directory.name} {_text(directory / 'comm')}"


def _numbers(command: int) -> Iterator[str]:
    number = 0
    for _ in range(MOST):
        attributes = bytearray(struct.pack("<III", number, 0, 0))
        try:
            bpf(command, attributes)
        except FileNotFoundError:
            return
        (number,) = struct.unpack_from("<I", attributes, 4)
        yield str(number)
    raise AssertionError(f"more than {MOST} BPF objects")


def _files() -> Iterator[str]:
    places = {Path(place) for place in ("/tmp", "/var/tmp", "/dev/shm", "/run", tempfile.gettempdir())}
    for place in sorted(places):
        with contextlib.suppress(OSError):
            yield from map(str, place.iterdir())
    with contextlib.suppress(OSError):
        yield from map(str, cache_root().rglob("*"))


def _lines(path: Path) -> frozenset[str]:
    return frozenset(_text(path).splitlines())


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Settings that differ, in words."""
    return [f"{name}: {value} -> {after.get(name)}" for name, value in before.items() if after.get(name) != value]
