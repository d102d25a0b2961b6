"""Journals of sweeps as large as real ones, made from a number: the same one each time."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from inject.model.event import PointReached
from inject.model.reached import Point
from inject.model.text import printable
from inject.report.jsonl import to_json
from inject.sweep.journal import NAME

ENTRY = ("do_syscall_64+0x82", "entry_SYSCALL_64_after_hwframe+0x76")
VERBS = [
    "alloc",
    "get",
    "set",
    "insert",
    "update",
    "commit",
    "lookup",
    "read",
    "write",
    "flush",
    "lock",
    "unlock",
    "init",
    "find",
    "check",
    "mark",
    "split",
    "merge",
]
NOUNS = [
    "btree",
    "trans",
    "inode",
    "dirent",
    "extent",
    "bucket",
    "journal",
    "key",
    "node",
    "path",
    "iter",
    "disk_reservation",
    "snapshot",
    "folio",
    "data",
]
CALLS = {
    "write": ("vfs_write", "new_sync_write", "bch2_write_iter"),
    "fallocate": ("vfs_fallocate", "bch2_fallocate_dispatch"),
    "ftruncate": ("do_truncate", "notify_change", "bch2_setattr", "bchfs_truncate"),
    "unlinkat": ("do_unlinkat", "vfs_unlink", "bch2_unlink"),
    "mkdirat": ("do_mkdirat", "vfs_mkdir", "bch2_mkdir"),
    "renameat2": ("do_renameat2", "vfs_rename", "bch2_rename2"),
    "fsync": ("do_fsync", "vfs_fsync_range", "bch2_fsync"),
    "ioctl": ("bch2_fs_file_ioctl", "bch2_ioctl_subvolume_create", "bch2_snapshot_node_create"),
}
SPLAT = """\
BUG: kernel NULL pointer dereference, address: 00000000000000{address:02x}
#PF: supervisor read access in kernel mode
#PF: error_code(0x0000) - not-present page
Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI
CPU: 0 UID: 0 PID: 412 Comm: dd Not tainted 6.12.57 #1
RIP: 0010:{function}+0x{address:x}/0x2f0 [bcachefs]
Call Trace:
 <TASK>
{trace}
 </TASK>
Kernel panic - not syncing: Fatal exception""".splitlines()
CHECKS = ("dmesg: WARNING: CPU: 0 PID: 99 at fs/bcachefs/btree_iter.c:{}", "fsck: bucket {} gen 0 has wrong data type")


HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--",
    "\u2028\x00\x1b[31m",
    "ok 1 fake\n1..9",
    "end_of_record\nSF:/etc/passwd",
    "'\"><img src=x onerror=alert(1)>",
    "]]>",
    "f,1,2",
    "{{ 7 * 7 }}",
    "../../etc",
)


Lines = list[dict[str, Any]]


def of_type(lines: Lines, kind: str) -> Lines:
    """Those of ``lines`` with this type."""
    return [line for line in lines if line["type"] == kind]


def certain() -> random.Random:
    """Chances that are the same each time."""
    return random.Random(1)


def point_lines(some: Iterable[Point]) -> Lines:
    """The lines of a recording of these points."""
    return [to_json(PointReached("mix", 0, point)) for point in some]


def points(count: int, seed: int = 1) -> list[Point]:
    """``count`` different points, with stack traces as a filesystem's workload has them."""
    chance = random.Random(seed)
    names = [
        f"bch2_{noun}_{verb}{tail}"
        for noun in NOUNS
        for verb in VERBS
        for tail in ("", "_trans", "_locked", "_one", "_all")
    ]
    names = chance.sample(names, min(len(names), 60 + count // 8))
    calls = {name: [(other, chance.randrange(16, 2000)) for other in chance.sample(names, 3)] for name in names}
    found: dict[str, Point] = {}
    while len(found) < count:
        stack, function = _walk(chance, names, calls)
        kind = "BOOL" if chance.random() < 0.03 else chance.choice(("ERRNO", "ERRNO", "ERRNO", "ERRNO_NULL", "NULL"))
        point = Point(function, "bcachefs", tuple(stack), chance.randrange(1, 5000), chance.randrange(1, 900), kind)
        found.setdefault(point.id, point)
    return list(found.values())


def _walk(chance: random.Random, names: list[str], calls: dict[str, list[tuple[str, int]]]) -> tuple[list[str], str]:
    """The callers, innermost first, and the function, of one way down."""
    call = chance.choice(list(CALLS))
    frames = [*reversed(ENTRY), f"__x64_sys_{call}+0x1d", *(f"{name}+0x{9 * len(name):x}" for name in CALLS[call])]
    here = names[sum(map(ord, call)) % len(names)]
    for _ in range(chance.randrange(1, 22)):
        here_next, offset = chance.choice(calls[here])
        frames.append(f"{here}+0x{offset:x} [bcachefs]")
        here = here_next
    return frames[::-1], here


def journal(count: int, seed: int = 1, modes: tuple[str, ...] = ("once", "onward")) -> Iterator[dict[str, Any]]:
    """The lines of a sweep of ``count`` points that ended."""
    chance = random.Random(seed)
    yield {
        **{"type": "sweep", "scenario": "mix", "text": "0" * 64, "functions": ["bch2_*"], "checked": False},
        **{"errno": "-ENOMEM", "checks": "all", "kernel": "test", "version": "0.1.0", "file": "mix.yaml"},
    }
    yield {"type": "recording"}
    yield {"type": "skipped", "scenario": "mix", "trial": 0, "function": "g", "module": "", "why": "returns nothing"}
    some = points(count, seed)
    yield from point_lines(some)
    yield {"type": "recorded", "notes": []}
    yield {"type": "baseline", "status": "pass", "reason": "", "detail": "", "exit": 0, "seconds": 1.0, "log": []}
    for point in some:
        for mode in modes if point.error_type != "BOOL" else ():
            trial = f"{point.id}-{mode}"
            yield {"type": "begun", "trial": trial, "point": point.id, "mode": mode}
            yield trial_line(point, mode, chance)


def trial_line(point: Point, mode: str, chance: random.Random) -> dict[str, Any]:
    """The line of a trial: most pass, one of a hundred does not."""
    line = {
        **{"type": "trial", "trial": f"{point.id}-{mode}", "point": point.id, "mode": mode, "status": "pass"},
        **{"reason": "", "detail": "", "injected": 1 if mode == "once" else chance.randrange(1, 40), "spared": 0},
        **{"exit": int(int(point.id, 16) % 3 == 0), "how": "fork"},
        **({"fates": {"swallowed": 1}} if int(point.id, 16) % 7 == 0 else {}),
        **{"seconds": round(chance.uniform(0.5, 2.5), 3), "signature": "", "notes": [], "log": []},
    }
    throw = chance.random()
    if throw < 0.003:
        return {**line, **_crash(point, chance)}
    if throw < 0.008:
        number = chance.randrange(3)
        detail = CHECKS[number % 2].format(100 + number)
        reason = "dmesg" if number % 2 == 0 else "check"
        failed = {"status": "fail", "reason": reason, "detail": detail, "signature": f"{reason}: {detail}"}
        return {**line, **failed, "log": [detail]}
    if throw < 0.01:
        return {**line, "status": "error", "injected": 0, "detail": "setup exited with 1: mkfs: no space"}
    return {**line, "injected": 0} if throw < 0.04 else line


def _crash(point: Point, chance: random.Random) -> dict[str, Any]:
    """A panic in the function that called the failed one."""
    function, _, _ = point.stack[0].partition("+")
    shown = {"function": function, "address": chance.randrange(255), "trace": "\n".join(f" {f}" for f in point.stack)}
    log = "\n".join(SPLAT).format(**shown).splitlines()
    signature = (
        f"crash: NULL pointer dereference in {'bch2_' + function.split('_')[1] if '_' in function else function}"
    )
    detail = f"the guest panicked: BUG: kernel NULL pointer dereference in {function}"
    return {"status": "fail", "reason": "crash", "detail": detail, "signature": signature, "log": log}


def hostile() -> Lines:
    """A sweep in which the guest sends text of any kind. Each point is still one that a scenario can fail."""
    head, recording = itertools.islice(journal(0), 2)
    lines: Lines = [{**head, "scenario": f"mix {HOSTILE[0]}"}, recording]
    names = [text.encode("ascii", "backslashreplace").decode() for text in map(printable, HOSTILE)]
    points = [Point(f"f{number}", name, ("b+0x2", "a+0x1"), 1, 1, "ERRNO") for number, name in enumerate(names)]
    lines += point_lines(points)
    lines += [
        {"type": "skipped", "scenario": name, "trial": 0, "function": name, "module": name, "why": name}
        for name in names
    ]
    lines.append({"type": "recorded", "notes": list(HOSTILE)})
    for number, (point, text) in enumerate(zip(points, HOSTILE)):
        trial = {"type": "trial", "trial": f"{point.id}-once", "point": point.id, "mode": "once", "spared": 0}
        told = {"injected": 1, "seconds": 0.5, "notes": [text], "log": [text, text], "detail": text}
        if number % 3 == 2:
            lines.append({**trial, **told, "status": "error", "reason": "", "signature": ""})
        else:
            lines.append({**trial, **told, "status": "fail", "reason": "dmesg", "signature": f"dmesg: {text}"})
    return lines


def write(directory: Path, lines: Iterable[dict[str, Any]]) -> Path:
    """A journal in ``directory``, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NAME
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    return path
