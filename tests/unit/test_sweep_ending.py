"""The end of a sweep: the journal's last line adds up as the terminal's, and says what ended it before all trials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest

from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.model.event import Event, PointReached
from inject.model.reached import Point
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.scenario.load import parse
from inject.sweep.ending import NEXT, End, unjudged
from inject.sweep.journal import SweepJournal
from inject.sweep.options import SweepOptions
from inject.sweep.state import Ended
from inject.sweep.sweeper import Sweeper

TEXT = "name: mix\nfaults: [{function: f0, return: -EIO}]\nrun: 'true'\n"
POINTS = [Point(f"f{number}", "", ("caller+0x1",), 1, 1, "ERRNO") for number in range(4)]
STATUS = {"f0": Status.PASS, "f1": Status.FAIL, "f2": Status.ERROR, "f3": Status.PASS}


class Machine:
    """Runs batches: f1 crashes; f2 is an error in each of the first ``errors`` trials."""

    def __init__(self, errors: int = 1 << 30) -> None:
        self.ran: list[str] = []
        self._errors = errors

    def batch(self, ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        if request.record is not None:
            for point in POINTS:
                on_event(PointReached("mix", 0, point))
            return [Verdict("mix", Status.PASS)]
        return [self._one(ledger, name) for name in [scenario.name for scenario in ledger.scenarios]]

    def _one(self, ledger: Ledger, name: str) -> Verdict:
        assert ledger.give(name)
        function = ledger.scenario(name).faults[0].function
        self.ran.append(function)
        status = STATUS[function]
        if status is Status.ERROR:
            self._errors -= 1
            status = Status.ERROR if self._errors >= 0 else Status.PASS
        reason = Reason.CRASH if status is Status.FAIL else None
        verdict = Verdict(
            name, status, reason, "oops", counts=(Counts(1, 1, int(function != "f3" and status is not Status.ERROR)),)
        )
        ledger.settle(verdict)
        return verdict


def sweep(
    directory: Path, machine: Machine, *, resume: bool = False, limit: int = 9, seconds: Optional[float] = None
) -> tuple[Sweeper, SweepJournal]:
    (scenario,) = parse(TEXT, "mix.yaml", "mix")
    journal = SweepJournal(directory, resume=resume)
    made = Sweeper(scenario, TEXT, SweepOptions(limit=limit, seconds=seconds), journal, "stock", 1)
    made.record(machine.batch)
    made.fail(machine.batch)
    return made, journal


def last(journal: SweepJournal) -> dict[str, Any]:
    journal.close()
    line = dict(journal.lines[-1])
    assert line.pop("type") == "end" and line.pop("seconds") >= 0
    return line


def test_the_last_line_adds_up_as_the_terminals(tmp_path: Path) -> None:
    made, journal = sweep(tmp_path, Machine())
    made.close(made.ending())
    line = last(journal)
    assert line == {
        "points": 4,
        "injected": 2,
        "unreached": 1,
        "skipped": 1,
        "trials": 4,
        "passed": 2,
        "findings": 1,
        "signatures": 1,
        "errors": 1,
        "reason": "",
    }
    assert made.totals().line == (
        "points {points}: {injected} injected, {unreached} not reached again, {skipped} skipped; "
        "trials {trials}: {passed} passed, {findings} findings ({signatures} signatures), {errors} errors"
    ).format(**line)


@pytest.mark.parametrize(
    ("limit", "seconds", "interrupted", "end"),
    [
        (3, None, False, End.LIMIT),
        (9, 1e-9, False, End.TIME),
        (3, 1e-9, True, End.INTERRUPTED),
        (9, None, False, End.NOTHING),
    ],
)
def test_what_ended_it_is_said(
    tmp_path: Path, limit: int, seconds: Optional[float], interrupted: bool, end: End
) -> None:
    machine = Machine()
    if seconds is not None:
        machine.batch = lambda ledger, request, on_event: (  # type: ignore[method-assign]
            Machine().batch(ledger, request, on_event) if request.record else []
        )
    made, journal = sweep(tmp_path, machine, limit=limit, seconds=seconds)
    made.close(made.ending(interrupted=interrupted))
    assert last(journal)["reason"] == end.value
    assert (end in NEXT) == bool(end.value)


def test_trials_that_were_not_judged_are_made_again_by_the_next_run_once(tmp_path: Path) -> None:
    machine = Machine(errors=2)
    made, journal = sweep(tmp_path, machine)
    assert made.left == [] and made.totals().errors == 1
    journal.close()
    for errors, ran in ((1, ["f2"]), (0, ["f2"]), (0, [])):
        machine.ran.clear()
        made, journal = sweep(tmp_path, machine, resume=True)
        assert (made.totals().errors, machine.ran, made.left) == (errors, ran, [])
        journal.close()


def test_trials_that_were_not_judged_are_counted_by_cause(tmp_path: Path) -> None:
    lost = ["the guest ended: QEMU 1", "no module", "the guest ended: QEMU 22"]
    ended = [
        *(Ended(f"t{number}", "p", Status.ERROR, "", words, 0, 0, "") for number, words in enumerate(lost)),
        Ended("t8", "p", Status.SKIP, "", "no module", 0, 0, ""),
        Ended("t9", "p", Status.FAIL, "crash", "oops", 1, 0, ""),
    ]
    assert unjudged([*ended, ended[1]]) == [
        "3 trials could not be judged: no module",
        "2 trials could not be judged: the guest ended: QEMU 1",
    ]
    assert unjudged(ended[-1:]) == []


def test_trials_that_nobody_makes_in_time_are_those_of_a_kernel_that_must_run_no_more(tmp_path: Path) -> None:
    machine = Machine()
    machine.batch = lambda ledger, request, on_event: (  # type: ignore[method-assign]
        Machine().batch(ledger, request, on_event) if request.record else []
    )
    made, journal = sweep(tmp_path, machine)
    assert made.ending() is End.UNUSABLE
    journal.close()
