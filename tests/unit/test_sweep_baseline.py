"""A scenario that fails by itself, or in which nothing can be failed, is a sentence before any trial is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest

from inject.errors import CannotRun, ExitStatus, InjectError
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.model.event import Event, PointReached
from inject.model.reached import Point
from inject.model.scenario import Scenario
from inject.model.verdict import Reason, Status, Verdict
from inject.scenario.load import parse
from inject.sweep.agenda import ELSEWHERE, UNKNOWN, Agenda, agenda
from inject.sweep.baseline import LEAST, NEVER, TIMES, timeout
from inject.sweep.journal import NAME, SweepJournal
from inject.sweep.nothing import refuse
from inject.sweep.options import SweepOptions
from inject.sweep.sweeper import Sweeper

TEXT = "name: mix\nfaults: [{function: f0, return: -EIO}]\ntimeout: 90\nchecks: [dmesg]\nrun: 'true'\n"
POINTS = [Point(f"f{number}", "", ("caller+0x1",), 1, 1, "ERRNO") for number in range(2)]


class Machine:
    """Runs batches; ``baseline`` is the verdict on the trial in which nothing fails."""

    def __init__(self, baseline: Verdict) -> None:
        self.ran: list[Scenario] = []
        self._baseline = baseline

    def batch(self, ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        if request.record is not None:
            for point in POINTS:
                on_event(PointReached("mix", 0, point))
            return [Verdict("mix", Status.PASS)]
        self.ran += ledger.scenarios
        if ledger.scenarios[0].name == "mix/baseline":
            return [self._baseline]
        for scenario in ledger.scenarios:
            assert ledger.give(scenario.name)
            ledger.settle(Verdict(scenario.name, Status.PASS))
        return ledger.verdicts()


def sweep(
    directory: Path, baseline: Verdict, *, resume: bool = False, checks: Optional[tuple[str, ...]] = None
) -> tuple[list[Scenario], list[str]]:
    """The scenarios that were run, and what was said."""
    (scenario,) = parse(TEXT, "mix.yaml", "mix")
    machine, said = Machine(baseline), list[str]()
    with SweepJournal(directory, resume=resume) as journal:
        made = Sweeper(scenario, TEXT, SweepOptions(checks=checks), journal, "stock", 1)
        made.record(machine.batch)
        made.check(machine.batch, said.append)
        made.fail(machine.batch)
    return machine.ran, said


def passed(seconds: float = 1.0, exit: int = 0) -> Verdict:
    return Verdict("mix/baseline", Status.PASS, seconds=9 * seconds, workload=seconds, exit=exit)


def test_it_comes_first_with_all_checks_and_a_fault_that_never_fires(tmp_path: Path) -> None:
    ran, said = sweep(tmp_path, passed())
    assert [one.name for one in ran] == ["mix/baseline", *(f"mix/{point.id}-once" for point in POINTS)]
    assert said == [] and ran[0].checks == ("dmesg",)
    (fault,) = ran[0].faults
    assert (fault.function, fault.when.trigger, fault.when.stack) == ("f0", NEVER, POINTS[0].stack)
    assert ran[0].timeout == 90, "it says itself how long it takes"


@pytest.mark.parametrize(("seconds", "limit"), [(0.5, LEAST), (4.0, 4.0 * TIMES), (1000.0, 90.0)])
def test_its_time_bounds_that_of_the_trials(tmp_path: Path, seconds: float, limit: float) -> None:
    ran, _ = sweep(tmp_path, passed(seconds))
    assert {one.timeout for one in ran[1:]} == {limit}
    assert timeout(90.0, None) == 90.0


def test_it_is_run_until_it_has_passed(tmp_path: Path) -> None:
    with pytest.raises(InjectError):
        sweep(tmp_path, Verdict("mix/baseline", Status.ERROR, None, "the guest is gone"))
    ran, _ = sweep(tmp_path, passed(3.0), resume=True)
    assert ran[0].name == "mix/baseline"
    ran, _ = sweep(tmp_path, passed(), resume=True)
    assert ran == []


@pytest.mark.parametrize(
    ("verdict", "words", "kind"),
    [
        (
            Verdict("b", Status.FAIL, Reason.CHECK, "fsck: 3 errors"),
            "mix fails with no fault armed (check): fsck: 3 errors; change its workload, or leave out the check",
            InjectError,
        ),
        (Verdict("b", Status.ERROR, None, "gone"), "could not be judged with no fault armed: gone; try", InjectError),
        (Verdict("b", Status.SKIP, None, "no xfs"), "mix cannot run here: no xfs", CannotRun),
        (passed(exit=127), "exits with 127 with no fault armed: a command was not found; write a", InjectError),
    ],
)
def test_a_broken_scenario_is_not_swept(tmp_path: Path, verdict: Verdict, words: str, kind: type[InjectError]) -> None:
    with pytest.raises(kind) as caught:
        sweep(tmp_path, verdict)
    assert words in str(caught.value)
    lines = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    assert lines[-1]["type"] == "baseline" and lines[-1]["status"] != "pass"


def test_a_workload_that_fails_in_part_is_swept_and_it_is_said(tmp_path: Path) -> None:
    ran, said = sweep(tmp_path, passed(exit=3))
    assert len(ran) == 3
    assert said == ["`run` exits with 3 with no fault armed; what it leaves out then is not swept"]


def test_without_trials_there_is_nothing_to_say_of_the_baseline(tmp_path: Path) -> None:
    (scenario,) = parse(TEXT, "mix.yaml", "mix")
    with SweepJournal(tmp_path, resume=False) as journal:
        made = Sweeper(scenario, TEXT, SweepOptions(), journal, "stock", 1)
        made.record(lambda *_: [Verdict("mix", Status.PASS)])
        made.check(lambda *_: pytest.fail("there is nothing to compare it with"))


def test_a_recording_without_all_its_points_is_none(tmp_path: Path) -> None:
    sweep(tmp_path, passed())
    lines = (tmp_path / NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / NAME).write_bytes(
        b"".join(line for line in lines if POINTS[0].id.encode() not in line or b"begun" in line)
    )
    (scenario,) = parse(TEXT, "mix.yaml", "mix")
    with SweepJournal(tmp_path, resume=True) as journal:
        assert not Sweeper(scenario, TEXT, SweepOptions(), journal, "stock", 1).state.recorded


# ---------------------------------------------------------------- nothing to fail


def refused(points: list[Point], plan: Agenda, *only: str) -> InjectError:
    with pytest.raises(InjectError) as caught:
        refuse("mix", points, plan, only, Path("out/journal.jsonl"))
    return caught.value


def test_a_workload_that_reaches_nothing() -> None:
    error = refused([], Agenda((), {}))
    assert str(error).startswith("the workload of mix reaches none of the functions that are recorded; choose others")
    assert error.status is ExitStatus.CANNOT_RUN


def test_a_point_that_there_is_not() -> None:
    plan = agenda(POINTS, SweepOptions(only=(POINTS[0].id[:4],)))
    refuse("mix", POINTS, plan, (POINTS[0].id[:4],), Path("x"))
    error = refused(POINTS, plan, POINTS[0].id[:4], "nix")
    assert str(error) == ("no point's name begins with `nix` (--only); out/journal.jsonl has the names of all 2")
    assert error.status is ExitStatus.USAGE


def test_points_that_cannot_be_failed() -> None:
    error = refused(POINTS, Agenda((), {point.id: UNKNOWN for point in POINTS}))
    assert str(error) == f"none of the points of mix can be failed: 2 {UNKNOWN}; choose other --functions"
    refuse("mix", POINTS, Agenda((), {point.id: ELSEWHERE for point in POINTS}), (), Path("x"))
