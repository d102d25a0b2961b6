"""The verdict on a trial's facts. Pure, so that every verdict can be tested without a kernel."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from inject.model.errnos import ERRNOS, as_written
from inject.model.errorpath import ErrorPath, as_lines, describe, grouped
from inject.model.scenario import Finding, Scenario
from inject.model.text import either, listed
from inject.model.verdict import Complaint, Counts, Reason, Status, Verdict
from inject.process.matching import Runaway, matches

MOST_PATHS = 5
"""Different error paths that a failure shows."""

OUTPUT_LINES = 30
"""Lines of a workload's output that a failure shows."""

EXPECTED = (Reason.NOT_INJECTED, Reason.EXIT, Reason.ERRNO)
"""Reasons of what ``expect`` says: of one bug a workload may show several."""


@dataclass(frozen=True)
class Facts:
    """Observations of one trial."""

    counts: tuple[Counts, ...]
    how: str
    """How the workload ended, in words."""
    code: Optional[int] = None
    """Its exit code as a shell gives it: 128 plus the signal's number if one killed it; None if it never ended."""
    output: str = ""
    began: bool = True
    """False if bash ended before the first command of ``run``."""
    timed_out: bool = False
    allowed: float = 0.0
    """Seconds that it had, if more than the scenario says."""
    blocked: tuple[str, ...] = ()
    """Lines that say what its tasks waited for at the timeout."""
    readers: tuple[str, ...] = ()
    """The same for readers and programs that were asked afterwards and were out of time."""
    errnos: Mapping[tuple[str, str], int] = field(default_factory=dict)
    complaints: tuple[Complaint, ...] = ()
    """What the oracles and ``recover`` found."""
    errors: tuple[ErrorPath, ...] = ()
    """Where injected errors went, one for each injection that was traced."""
    troubles: tuple[str, ...] = ()
    """Checks that inject or the machine failed to make."""
    runaway: str = ""
    """The regular expression of the scenario that could not be matched in time; "" if all could."""
    cut_short: str = ""
    """Why inject ended injection before the scenario's own conditions did; "" if it did not."""
    uncounted: int = 0
    """Failed system calls that found no room in the table of ``errnos``."""


@dataclass(frozen=True)
class Judgement:
    """The status of a trial and why, as long as the complaints are still apart."""

    status: Status
    complaints: tuple[Complaint, ...] = ()
    """What is wrong, in Reason's order, but a known failure last; empty if nothing is, or the kernel was not judged."""
    words: str = ""
    """Why the kernel was not judged."""
    log: tuple[str, ...] = ()
    """Lines that explain an error; those of a failure are its first complaint's."""
    troubles: tuple[str, ...] = ()
    """Checks that inject or the machine failed to make, although the kernel failed."""
    finding: str = ""
    """Text of the known failure, if that is all that is wrong; ``status`` is then PASS."""

    def verdict(self, scenario: Scenario, trial: int = 0, reproduce: str = "") -> Verdict:
        """The verdict, with the details of all complaints as one text."""
        if not self.complaints:
            return Verdict(scenario.name, self.status, None, self.words, trial, reproduce=reproduce, log=self.log)
        first = self.complaints[0]
        detail = first.detail
        if self.complaints[1:]:
            detail += "; also: " + "; ".join(complaint.detail for complaint in self.complaints[1:])
        reason = first.reason if self.status is Status.FAIL else None
        return Verdict(
            scenario.name,
            self.status,
            reason,
            detail,
            trial,
            reproduce=reproduce,
            log=first.log,
            finding=self.finding,
        )


def judge(scenario: Scenario, facts: Facts) -> Judgement:
    """The judgement of the kernel; ERROR if inject or the machine failed, so that the kernel cannot be judged."""
    found = _complaints(scenario, facts)
    runaway = facts.runaway
    try:
        found = in_order((*found, *_output(scenario, facts)))
    except Runaway as error:
        runaway = runaway or str(error)
    first = found[0] if found else None
    if runaway:
        words = "; also: ".join((runaway, *(complaint.detail for complaint in found)))
        return Judgement(Status.ERROR, words=words, log=first.log if first else ())
    if not facts.began and (first is None or first.reason in EXPECTED):
        lines = tail(facts.output)
        last = f": {lines[-1]}" if lines else ""
        return Judgement(Status.ERROR, words=f"`run` never began: bash {facts.how}{last}", log=lines)
    if facts.cut_short and (first is None or first.reason in EXPECTED):
        return Judgement(Status.ERROR, words=facts.cut_short, log=first.log if first else ())
    if first is not None and first.reason is Reason.ERRNO and facts.uncounted:
        words = f"{first.detail}; but {facts.uncounted} failed system calls were not counted (table full)"
        return Judgement(Status.ERROR, words=words, log=first.log)
    if first is None and facts.troubles:
        return Judgement(Status.ERROR, words="; ".join(facts.troubles), log=facts.readers)
    return Judgement(Status.FAIL if found else Status.PASS, found, troubles=facts.troubles)


def with_hangs(judgement: Judgement, complaints: Sequence[Complaint]) -> Judgement:
    """The judgement of a trial that ended early: a task that cannot be killed fails it, why ever it ended."""
    if judgement.status is Status.FAIL or not any(complaint.reason is Reason.HANG for complaint in complaints):
        return judgement
    found = in_order(complaints)
    if judgement.words and not any(judgement.words in complaint.detail for complaint in found):
        first = replace(found[0], detail=f"{found[0].detail}; {judgement.words}")
        found = (first, *found[1:])
    return Judgement(Status.FAIL, found)


def in_order(complaints: Sequence[Complaint]) -> tuple[Complaint, ...]:
    """``complaints`` in Reason's order."""
    order = list(Reason)
    return tuple(sorted(complaints, key=lambda complaint: order.index(complaint.reason)))


def _complaints(scenario: Scenario, facts: Facts) -> tuple[Complaint, ...]:
    """Everything that is wrong, in Reason's order."""
    hang = _hang(scenario, facts)
    found = [*([hang] if hang else []), *facts.complaints]
    for complaint in (
        _injected(scenario, facts),
        _exit(scenario, facts),
        _errno(scenario, facts),
        _errors(scenario, facts),
    ):
        if complaint is not None:
            found.append(complaint)
    return in_order(found)


def tail(output: str) -> tuple[str, ...]:
    """The last lines of a workload's output, as evidence."""
    lines = output.splitlines()
    if len(lines) > OUTPUT_LINES:
        lines = [f"[... {len(lines) - OUTPUT_LINES} lines before ...]", *lines[-OUTPUT_LINES:]]
    return tuple(lines)


def _hang(scenario: Scenario, facts: Facts) -> Optional[Complaint]:
    if not facts.timed_out:
        return None
    detail = f"the workload was still running after {max(scenario.timeout, facts.allowed):g} s"
    return Complaint(Reason.HANG, detail, (*(facts.blocked or tail(facts.output)), *facts.readers))


def _injected(scenario: Scenario, facts: Facts) -> Optional[Complaint]:
    for index, counts in enumerate(facts.counts):
        bound = scenario.expected_injections(index)
        if bound.holds(counts.injected):
            continue
        fault = scenario.faults[index]
        times = f"{counts.injected} injection{'s' * (counts.injected != 1)}"
        detail = f"{fault.function}: {times}, expected {bound} ({_why_not(counts)})"
        return Complaint(Reason.NOT_INJECTED, detail, tail(facts.output))
    return None


def _why_not(counts: Counts) -> str:
    if not counts.seen and not counts.missed:
        return "the workload never called it"
    skipped = f", {counts.spared} skipped as NOFAIL" if counts.spared else ""
    unread = f", {counts.unread} not compared: string not in memory" if counts.unread else ""
    missed = f", up to {counts.missed} missed" if counts.missed else ""
    return f"{counts.seen} call{'s' * (counts.seen != 1)} seen, {counts.matched} matched{skipped}{unread}{missed}"


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
    return None


def _output(scenario: Scenario, facts: Facts) -> tuple[Complaint, ...]:
    """The complaint about the output of a workload that ended as expected; raises Runaway."""
    pattern = scenario.expect.output
    if pattern is None or facts.timed_out or _exit(scenario, facts) is not None:
        return ()
    if matches(pattern, [facts.output])[0]:
        return ()
    return (Complaint(Reason.EXIT, f"nothing in the workload's output matches {str(pattern)!r}", tail(facts.output)),)


def _errno(scenario: Scenario, facts: Facts) -> Optional[Complaint]:
    seen: dict[tuple[str, str], int] = {}
    for (call, name), count in facts.errnos.items():
        key = call, as_written(name, scenario.errnos)
        seen[key] = seen.get(key, 0) + count
    for call, wanted in scenario.expect.errno.items():
        if any(seen.get((call, name)) for name, number in ERRNOS.items() if number == ERRNOS.get(wanted)):
            continue
        other = ", ".join(
            f"{name} {count} time{'s' * (count != 1)}"
            for (failed, name), count in sorted(seen.items())
            if failed == call
        )
        instead = f"it failed with {other}" if other else "it never failed"
        instead += _failed_so(call, wanted, seen)
        return Complaint(Reason.ERRNO, f"{call}(2) did not return {wanted}: {instead}", tail(facts.output))
    return None


def _failed_so(call: str, wanted: str, seen: Mapping[tuple[str, str], int]) -> str:
    """Calls other than ``call`` that did fail with ``wanted``: the C library may use one of them."""
    found = [f"{other}(2)" for other, name in sorted(seen) if other != call and ERRNOS.get(name) == ERRNOS.get(wanted)]
    return f"; {listed(found)} failed with {wanted}" if found else ""


def _errors(scenario: Scenario, facts: Facts) -> Optional[Complaint]:
    """An error with a fate that the scenario does not allow, or a fault of which no error was traced."""
    for index, fault in enumerate(scenario.faults):
        wanted = scenario.expected_fates(index)
        if wanted is None or not facts.counts[index].injected:
            continue
        words = either([fate.value for fate in wanted])
        own = [path for path in facts.errors if path.fault == index]
        if not own:
            return Complaint(Reason.ERRNO, f"no error of {fault.function} was traced, expected {words}")
        astray = grouped([path for path in own if path.fate not in wanted], MOST_PATHS)
        if astray:
            count = sum(path.count for path in astray)
            detail = f"{count} of {len(own)} errors of {fault.function} were not {words}: {describe(astray[0])}"
            return Complaint(Reason.ERRNO, detail, tuple(line for path in astray for line in as_lines(path)))
    return None


def with_finding(scenario: Scenario, judgement: Judgement) -> Judgement:
    """The judgement under the known ``finding``: to fail just so is a pass, any other end is a failure."""
    finding = scenario.finding
    if finding is None or judgement.status in (Status.SKIP, Status.ERROR):
        return judgement
    word = finding.reason.value
    if judgement.status is Status.PASS:
        detail = f"the known failure ({word}) did not occur: remove `finding` if the bug is fixed"
        return replace(judgement, status=Status.FAIL, complaints=(Complaint(finding.reason, detail),))
    try:
        known = [complaint for complaint in judgement.complaints if _is_known(finding, complaint)]
    except Runaway as error:
        return Judgement(Status.ERROR, words=str(error), log=judgement.complaints[0].log)
    if not any(complaint.reason is finding.reason for complaint in known):
        remark = f" (not the known failure: `evidence` does not match all of this {word})"
        return replace(
            judgement,
            complaints=tuple(
                replace(one, detail=one.detail + remark) if one.reason is finding.reason else one
                for one in judgement.complaints
            ),
        )
    others = [complaint for complaint in judgement.complaints if complaint not in known]
    if others:
        marked = [replace(complaint, detail=f"the known failure, {complaint.detail}") for complaint in known]
        return replace(judgement, complaints=(*others, *marked))
    if judgement.troubles:
        return Judgement(Status.ERROR, words="; ".join(judgement.troubles), log=known[0].log)
    return replace(judgement, status=Status.PASS, finding=finding.text)


def _is_known(finding: Finding, complaint: Complaint) -> bool:
    """True if ``complaint`` is what ``finding`` describes, or an unmet expectation that matches its evidence, too."""
    if finding.evidence is None:
        return complaint.reason is finding.reason
    if complaint.reason is not finding.reason and complaint.reason not in EXPECTED:
        return False
    parts = complaint.parts or ((complaint.detail, *complaint.log),)
    return all(any(matches(finding.evidence, part)) for part in parts)


def command_again(prefix: str, scenario: Scenario, seed: int) -> str:
    """The command that runs ``scenario`` again, for a shell; ``prefix`` is it up to the scenario's file."""
    return f"{prefix} {shlex.join([scenario.file, '--only', scenario.name, '--seed', str(seed)])}"


def exit_status(verdicts: Sequence[Verdict], *, no_skip: bool = False) -> int:
    """The exit code of a run: 0 passed, 1 a failure, 3 skipped (all, or any with ``no_skip``), 4 an error."""
    statuses = [verdict.status for verdict in verdicts]
    if Status.FAIL in statuses:
        return 1
    if Status.ERROR in statuses:
        return 4
    if Status.SKIP in statuses and (no_skip or Status.PASS not in statuses):
        return 3
    return 0 if statuses else 3
