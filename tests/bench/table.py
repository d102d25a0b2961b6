"""The lines of measure.py as Markdown, and the goals against what was measured. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from tabulate import tabulate

Line = Mapping[str, Any]

WAYS = ("kprobe", "fmod_ret", "kfunc", "module", "sys_exit")
"""Columns."""

SLAB = "should_failslab"

MOST_SECONDS = 60
"""Of 10**9 instructions, for loading every program on the debug kernel."""


@dataclass(frozen=True)
class Goal:
    """``measured`` None: it was not measured. ``least``: it must be ``limit`` or more, else or less."""

    words: str
    limit: float
    measured: Optional[float]
    least: bool = False

    @property
    def met(self) -> bool:
        if self.measured is None:
            return False
        return self.measured >= self.limit if self.least else self.measured <= self.limit


def of(lines: Iterable[Line], kind: str, **facts: Any) -> list[Line]:
    """Those of type ``kind`` that say ``facts``."""
    return [line for line in lines if line["type"] == kind and all(line.get(k) == v for k, v in facts.items())]


def added(lines: Sequence[Line], kernel: str, case: str, way: str) -> Optional[float]:
    """Instructions that inject adds to umask(2), None where that was not measured."""
    found = of(lines, "cost", kernel=kernel, call="umask", program="inject", case=case, way=way)
    return found[0]["added"] if found else None


def start(lines: Sequence[Line], what: str) -> Optional[float]:
    """Seconds of 10**9 instructions."""
    found = of(lines, "start", what=what)
    return found[0]["ns"] / 1e9 if found else None


def loading(lines: Sequence[Line], kernel: str) -> Optional[float]:
    """Seconds of 10**9 instructions that all programs, able to do all that a rule may ask, take to load."""
    found = of(lines, "load", kernel=kernel, rule="any rule")
    return sum(found[0]["programs"].values()) / 1e9 if found else None


def goals(lines: Sequence[Line]) -> list[Goal]:
    """What was promised, in the order of the tables; the cost of a call first."""
    return [*cost_goals(lines, "test"), *cost_goals(lines, STOCK), *time_goals(lines)]


STOCK = "stock"
"""Debian's own kernel: only inject's module overrides there."""

KERNEL_CHECKS = 45
"""Instructions that the measured kernels themselves add to every kprobe, with any program. An empty one costs 321
in a test kernel without kernel-config/oracles.fragment, 362 with it, which counts preemption
(CONFIG_DEBUG_ATOMIC_SLEEP) and asserts about memory, and 360 in Debian's, which counts preemption as well
(CONFIG_PREEMPT_DYNAMIC); its mitigations are 4 of them. The goals are for a kernel without either."""


def cost_goals(lines: Sequence[Line], kernel: str) -> list[Goal]:
    """Instructions added to a call by ``kernel``."""
    own = (
        ("out of scope", "fmod_ret", 200),
        ("out of scope", "kprobe", 400),
        ("argument misses", "fmod_ret", 700),
        ("argument misses", "kprobe", 700),
        ("call path misses", "fmod_ret", 450),
        ("call path misses", "kprobe", 450),
        ("fires", "fmod_ret", 1500),
        ("fires", "kprobe", 1500),
    )
    module = (("out of scope", "kfunc", 400), ("call path misses", "kfunc", 450))
    checked = {"out of scope": KERNEL_CHECKS, "call path misses": KERNEL_CHECKS}
    return [
        Goal(
            f"{case}, {way}, {kernel} kernel: added instructions",
            limit + (checked.get(case, 0) if way != "fmod_ret" else 0),
            added(lines, kernel, case, way),
        )
        for case, way, limit in (module if kernel == STOCK else (*own, *module))
    ]


def time_goals(lines: Sequence[Line]) -> list[Goal]:
    """Times and events."""
    warm = [taken for taken in (start(lines, "warm, kprobe"), start(lines, "warm, fmod_ret")) if taken]
    compiled = start(lines, "bcc inject compiles and attaches")
    ratio = compiled / max(warm) if compiled and warm else None
    rates = of(lines, "rate")
    unseen = rates[0]["injected"] - rates[0]["told"] - rates[0]["lost"] if rates else None
    return [
        Goal("warm start, s of 10^9 instructions", 0.1, max(warm, default=None)),
        Goal("warm start, times shorter than bcc's inject tool takes to compile", 10, ratio, least=True),
        Goal("events neither told nor counted as lost, at 100,000 injections a second", 0, unseen),
        Goal("all programs loaded on the debug kernel, s of 10^9 instructions", MOST_SECONDS, loading(lines, "debug")),
    ]


# ---------------------------------------------------------------- tables


def markdown(lines: Sequence[Line]) -> str:
    """Everything, for the README."""
    parts = []
    for kernel in dict.fromkeys(line["kernel"] for line in of(lines, "bare")):
        bare = {line["call"]: line["instructions"] for line in of(lines, "bare", kernel=kernel)}
        where = f"{kernel} kernel"
        parts += [
            costs(lines, kernel, "umask", f"{where}: added to umask(2), {bare.get('umask', 0):.0f} instructions bare"),
            costs(
                lines,
                kernel,
                "getcwd",
                f"{where}: added to `{SLAB}`, in getcwd(2), {bare.get('getcwd', 0):.0f} bare",
            ),
            costs(
                lines,
                kernel,
                "getppid",
                f"{where}: added to any system call, here getppid(2), {bare.get('getppid', 0):.0f} bare",
            ),
        ]
    parts += [times(lines), promised(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def costs(lines: Sequence[Line], kernel: str, call: str, title: str) -> str:
    """One row for each program and case, one column for each way in."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for line in of(lines, "cost", kernel=kernel, call=call):
        rows.setdefault((line["program"], line["case"]), {})[line["way"]] = line["added"]
    ways = [way for way in WAYS if any(way in row for row in rows.values())]
    body = [[*key, *(_number(row.get(way)) for way in ways)] for key, row in rows.items()]
    align = ("left", "left", *["right"] * len(ways))
    return _table(body, (title, "", *ways), align) if body else ""


def times(lines: Sequence[Line]) -> str:
    """Starts, loads and events."""
    body = [(f"armed: {line['what']}", f"{line['ns'] / 1e9:.3f} s") for line in of(lines, "start")]
    for line in of(lines, "load"):
        taken = sum(line["programs"].values()) / 1e9
        words = f"{len(line['programs'])} programs loaded for {line['rule']}, {line['kernel']} kernel"
        body.append((words, f"{taken:.3f} s"))
    for line in of(lines, "rate"):
        words = f"{line['injected']:,} injections at {line['rate']:,} a second: events told / lost"
        body.append((words, f"{line['told']:,} / {line['lost']:,}"))
    return _table(body, ("seconds of 10^9 instructions", ""), ("left", "right")) if body else ""


def promised(lines: Sequence[Line]) -> str:
    """Goals against what was measured."""
    body = [
        (
            goal.words,
            f"{'≥' if goal.least else '≤'} {goal.limit}",
            _number(goal.measured) or "not measured",
            "met" if goal.met else "MISSED",
        )
        for goal in goals(lines)
    ]
    return _table(body, ("goal", "", "measured", ""), ("left", "right", "right", "left"))


def _number(value: Optional[float]) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str], align: Sequence[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="pipe", colalign=align, disable_numparse=True)
