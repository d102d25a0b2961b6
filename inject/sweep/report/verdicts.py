"""The trials of a sweep as verdicts, for the reports that a run has too: JUnit and KTAP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inject.model.reached import Point
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.report import ktap
from inject.report.evidence import Fired
from inject.sweep.report.account import PointRow, SweepAccount, TrialOutcome, Tried


def verdicts(account: SweepAccount) -> list[Verdict]:
    """A verdict for each trial, and one that is skipped for each point without a trial."""
    return list(_verdicts(account))


def _verdicts(account: SweepAccount) -> Iterator[Verdict]:
    for row in account.rows:
        for one in row.trials:
            yield _verdict(account, row, one)
        if not row.trials:
            why = f"the point of {row.point.function} {row.why}"
            yield Verdict(name_of(account, row.point, row.point.id), Status.SKIP, detail=why)


def name_of(account: SweepAccount, point: Point, trial: str) -> str:
    """The name of a trial in reports: its function stands before it."""
    return f"{account.name}/{point.function}/{trial}"


def _verdict(account: SweepAccount, row: PointRow, one: Tried) -> Verdict:
    ended = one.ended
    detail = ended.detail
    notes = list(one.notes)
    if one.outcome is TrialOutcome.UNREACHED:
        notes.append(f"the point {row.why}" if row.why else "nothing was injected in this trial")
    return Verdict(
        name_of(account, row.point, ended.shot),
        ended.status,
        Reason(ended.reason) if ended.status is Status.FAIL else None,
        detail,
        counts=(Counts(injected=ended.injected, spared=ended.spared),),
        seconds=one.seconds,
        log=ended.log,
        notes=tuple(notes),
    )


def ktap_of(account: SweepAccount) -> Iterator[str]:
    """KTAP, with the totals as its last line."""
    found: Sequence[Verdict] = verdicts(account)
    yield ktap.Ktap([verdict.scenario for verdict in found]).head()
    for number, verdict in enumerate(found, 1):
        yield ktap.result(number, verdict, Fired())
    yield f"# {account.totals.line}\n"
