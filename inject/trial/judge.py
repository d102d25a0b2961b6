"""What a trial's facts amount to: pure, so that every verdict can be tested without a kernel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from inject.model.errorpath import ErrorPath, as_lines, describe, grouped
from inject.model.scenario import Scenario
from inject.model.verdict import Complaint, Counts, Reason, Status, Verdict
from inject.scenario.problems import either

MOST_PATHS = 5
"""Different ways of errors that a failure shows."""

OUTPUT_LINES = 30
"""Lines of a workload's output that a failure shows."""


@dataclass(frozen=True)
class Facts:
    """What was seen of one trial."""

    counts: tuple[Counts, ...]
    how: str
    """How the workload ended, in words."""
    code: Optional[int] = None
    """Its exit code as a shell gives it: 128 and the signal's number if one killed it; None if it never ended."""
    output: str = ""
    timed_out: bool = False
    blocked: tuple[str, ...] = ()
    """At a timeout: lines that say what its tasks waited for."""
    errnos: Mapping[tuple[str, str], int] = field(default_factory=dict)
    complaints: tuple[Complaint, ...] = ()
    """Of the oracles and of ``recover``."""
    errors: tuple[ErrorPath, ...] = ()
    """Where injected errors went, one for each injection that was traced."""
    troubles: tuple[str, ...] = ()
    """Checks that inject or the machine failed to make."""
    cut_short: str = ""
    """Why inject ended injection before the scenario's own conditions did; "" if it did not."""


Judgement = tuple[Status, Optional[Reason], str, tuple[str, ...]]
"""Status, reason, detail and log of a verdict."""


def judge(scenario: Scenario, facts: Facts) -> Judgement:
    """Judge the kernel, and give an error instead where the facts do not allow that."""
    status, reason, detail, log = _judge_kernel(scenario, facts)
    if facts.cut_short and reason in (None, Reason.NOT_INJECTED, Reason.EXIT, Reason.ERRNO):
        return Status.ERROR, None, facts.cut_short, log
    if status is Status.PASS and facts.troubles:
        return Status.ERROR, None, "; ".join(facts.troubles), log
    return status, reason, detail, log


def _judge_kernel(scenario: Scenario, facts: Facts) -> Judgement:
    """PASS, or FAIL with the first reason in Reason's order and all details."""
    found = [*facts.complaints]
    for complaint in (
        _hang(scenario, facts),
        _injected(scenario, facts),
        _exit(scenario, facts),
        _errno(scenario, facts),
        _errors(scenario, facts),
    ):
        if complaint is not None:
            found.append(complaint)
    if not found:
        return Status.PASS, None, "", ()
    order = list(Reason)
    found.sort(key=lambda complaint: order.index(complaint.reason))
    first = found[0]
    detail = first.detail
    if found[1:]:
        detail += "; also: " + "; ".join(complaint.detail for complaint in found[1:])
    return Status.FAIL, first.reason, detail, first.log


def tail(output: str) -> tuple[str, ...]:
    """The last lines of a workload's output, as evidence."""
    lines = output.splitlines()
    if len(lines) > OUTPUT_LINES:
        lines = [f"[... {len(lines) - OUTPUT_LINES} lines before ...]", *lines[-OUTPUT_LINES:]]
    return tuple(lines)


def _hang(scenario: Scenario, facts: Facts) -> Optional[Complaint]:
    if not facts.timed_out:
        return None
    detail = f"the workload was still running after {scenario.timeout:g} s"
    return Complaint(Reason.HANG, detail, facts.blocked or tail(facts.output))


def _injected(scenario: Scenario, facts: Facts) -> Optional[Complaint]:
    for index, counts in enumerate(facts.counts):
        bound = scenario.expected_injections(index)
        if bound.holds(counts.injected):
            continue
        fault = scenario.faults[index]
        times = "once" if counts.injected == 1 else f"{counts.injected} times"
        detail = f"{fault.function} was failed {times}, expected {bound} ({_why_not(counts)})"
        if not counts.injected:
            detail = f"{fault.function} was never failed, expected {bound}: {_why_not(counts)}"
        return Complaint(Reason.NOT_INJECTED, detail, tail(facts.output))
    return None


def _why_not(counts: Counts) -> str:
    if not counts.seen:
        return "the workload never called it"
    spared = f", {counts.spared} spared by its known contract" if counts.spared else ""
    if not counts.matched:
        return f"of {counts.seen} calls none met the conditions{spared}"
    return f"{counts.seen} calls seen, {counts.matched} met the conditions{spared}"


def _exit(scenario: Scenario, facts: Facts) -> Optional[Complaint]:
    if facts.timed_out:
        return None
    wanted = scenario.expect.exit
    if wanted is None:
        fine, words = facts.code is not None and facts.code != 0, "a nonzero exit code"
    else:
        fine, words = facts.code in wanted, "exit code " + " or ".join(str(code) for code in wanted)
    if not fine:
        return Complaint(Reason.EXIT, f"the workload {facts.how}, expected {words}", tail(facts.output))
    pattern = scenario.expect.output
    if pattern is not None and not re.search(pattern, facts.output):
        return Complaint(Reason.EXIT, f"nothing in the workload's output matches {pattern!r}", tail(facts.output))
    return None


def _errno(scenario: Scenario, facts: Facts) -> Optional[Complaint]:
    for call, wanted in scenario.expect.errno.items():
        if facts.errnos.get((call, wanted)):
            continue
        other = ", ".join(
            f"{name} {count} time{'s' * (count != 1)}"
            for (seen, name), count in sorted(facts.errnos.items())
            if seen == call
        )
        instead = f"it failed with {other}" if other else "it never failed"
        return Complaint(Reason.ERRNO, f"{call}(2) did not return {wanted}: {instead}", tail(facts.output))
    return None


def _errors(scenario: Scenario, facts: Facts) -> Optional[Complaint]:
    """An error that went where the scenario does not allow it, or faults of which none could be followed."""
    for index, fault in enumerate(scenario.faults):
        wanted = scenario.expected_fates(index)
        if wanted is None or not facts.counts[index].injected:
            continue
        words = either([fate.value for fate in wanted])
        own = [path for path in facts.errors if path.fault == index]
        if not own:
            return Complaint(Reason.ERRNO, f"no error of {fault.function} could be followed, expected {words}")
        astray = grouped([path for path in own if path.fate not in wanted], MOST_PATHS)
        if astray:
            count = sum(path.count for path in astray)
            detail = (
                f"{count} of {len(own)} errors of {fault.function} went elsewhere than {words}: {describe(astray[0])}"
            )
            return Complaint(Reason.ERRNO, detail, tuple(line for path in astray for line in as_lines(path)))
    return None


def with_finding(scenario: Scenario, verdict: Verdict) -> Verdict:
    """The verdict in the light of a known ``finding``: failing just so is a pass, passing is a failure."""
    finding = scenario.finding
    if finding is None or verdict.finding:
        return verdict
    if verdict.status is Status.FAIL and verdict.reason is finding.reason:
        return replace(verdict, status=Status.PASS, reason=None, finding=finding.text)
    if verdict.status is Status.PASS:
        return replace(
            verdict,
            status=Status.FAIL,
            reason=finding.reason,
            detail=f"the known finding ({finding.reason.value}) no longer shows: remove `finding` if it is mended",
        )
    return verdict


def exit_status(verdicts: Sequence[Verdict], *, no_skip: bool = False) -> int:
    """The exit code of a run: 0 passed, 1 a finding, 3 skipped (all, or any with ``no_skip``), 4 our error."""
    statuses = [verdict.status for verdict in verdicts]
    if Status.FAIL in statuses:
        return 1
    if Status.ERROR in statuses:
        return 4
    if Status.SKIP in statuses and (no_skip or Status.PASS not in statuses):
        return 3
    return 0 if statuses else 3
