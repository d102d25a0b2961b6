"""The baseline of a sweep: its scenario with every check and nothing failing, before any point is failed. Pure.

A workload that fails by itself would be a finding at each point, and the time that it takes bounds that of the trials.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

from inject.errors import CannotRun, InjectError
from inject.model.scenario import Fault
from inject.model.trigger import Trigger
from inject.model.verdict import Status, Verdict

NAME = "baseline"
"""Stands for the point in the name of its trial."""

NEVER = Trigger(nth=(1 << 32) - 1)
"""What selects no call of any workload."""

UNUSABLE = {126: "a command cannot be executed", 127: "a command was not found"}
"""Exit codes of a shell for a workload that does not work here."""

TIMES = 10
LEAST = 20.0
"""The workload of a trial may take TIMES the baseline's time, and LEAST seconds in any case."""


def unfired(fault: Fault) -> Fault:
    """``fault``, attached as in a trial, and never failing a call."""
    return replace(fault, when=replace(fault.when, trigger=NEVER))


def is_baseline(scenario: str) -> bool:
    """True if the scenario of this name is the baseline of a sweep."""
    return scenario.endswith(f"/{NAME}")


def baseline_line(verdict: Verdict) -> dict[str, Any]:
    """The journal's line for it."""
    return {
        "type": "baseline",
        "status": verdict.status.value if is_good(verdict) else Status.FAIL.value,
        "reason": verdict.reason.value if verdict.reason else "",
        "detail": verdict.detail,
        "exit": verdict.exit,
        "seconds": round(verdict.workload, 3),
        "log": list(verdict.log),
    }


def is_good(verdict: Verdict) -> bool:
    """True if points may be failed in a scenario with this baseline."""
    return verdict.status is Status.PASS and verdict.exit not in UNUSABLE


def remarks(name: str, verdict: Verdict) -> tuple[str, ...]:
    """What to say about the baseline of scenario ``name``. Raises InjectError, with the next step, for a bad one."""
    if verdict.status is Status.SKIP:
        raise CannotRun(f"{name} cannot run here: {verdict.detail}")
    if verdict.status is Status.ERROR:
        raise InjectError(f"{name} could not be judged with no fault armed: {verdict.detail}", "try again")
    if verdict.status is Status.FAIL:
        reason = verdict.reason.value if verdict.reason else ""
        raise InjectError(
            f"{name} fails with no fault armed ({reason}): {verdict.detail}",
            "change its workload, or leave out the check (`checks:`, --checks cheap): each trial would fail like this",
        )
    if verdict.exit in UNUSABLE:
        raise InjectError(
            f"`run` of {name} exits with {verdict.exit} with no fault armed: {UNUSABLE[verdict.exit]}",
            "write a workload whose commands are there",
        )
    if verdict.exit:
        return (f"`run` exits with {verdict.exit} with no fault armed; what it leaves out then is not swept",)
    return ()


def timeout(own: float, seconds: Optional[float]) -> float:
    """Seconds that a trial's workload may take: ``own`` are the scenario's, ``seconds`` those of the baseline."""
    return own if seconds is None else min(own, max(LEAST, TIMES * seconds))
