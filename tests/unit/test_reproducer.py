"""Findings made smaller: what is tried, in how many trials, and that no end of inject loses a step of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inject.cli.sweep.findings import tell
from inject.errors import ExitStatus, InjectError
from inject.fleet.ledger import Ledger, Stage
from inject.fleet.request import Request
from inject.model.errorpath import ErrorPath, Fate, Frame
from inject.model.event import Event, Injected, Injection, PointReached, RunStarted
from inject.model.reached import Point
from inject.model.scenario import Scenario
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.scenario.load import load, parse
from inject.sweep.dossier import Dossier, Seen
from inject.sweep.findings import README, Cause
from inject.sweep.investigation import Investigation
from inject.sweep.journal import SweepJournal
from inject.sweep.known import Known, read_known, why_known
from inject.sweep.minimal import Reduction
from inject.sweep.options import SweepOptions
from inject.sweep.reproducer import AFTER, BEFORE, MOST, TRACED, Step, after, is_same
from inject.sweep.reproduction import OVER, RUNS, Reproduction
from inject.sweep.shot import Mode
from inject.sweep.signature import digest, signature
from inject.sweep.state import Ended
from inject.sweep.sweeper import Sweeper
from tests.unit.test_sweep import Killed

TEXT = """\
name: dir/mix
filesystem: {type: bcachefs, size: 512M}
faults: [{function: bch2_truncate, return: -EIO}]
timeout: 20
run: |
  # a comment
  mkdir $MNT/a
  cat >$MNT/b <<'EOF'
  boom
  EOF
  for i in 1 2; do
    touch $MNT/$i
    truncate -s 1 $MNT/$i
  done
  sync
recover: sync
"""
STACK = tuple(f"caller{number}+0x{number}0" for number in range(9)) + ("do_syscall_64+0x87",)
POINT = Point("bch2_x", "bcachefs", STACK, 4, 1, "ERRNO")
ABOVE = Point("bch2_z", "bcachefs", STACK[:4], 4, 1, "NULL")
OTHER = Point("bch2_y", "bcachefs", STACK[1:], 4, 1, "ERRNO")
OOPS = (
    "BUG: kernel NULL pointer dereference, address: 0",
    "RIP: 0010:bch2_dies+0x1/0x2",
    "Call Trace:",
    " <TASK>",
    " bch2_x_caller+0x1/0x2 [bcachefs]",
)
PANIC = "with bch2_x = -ENOMEM armed, the guest panicked: BUG: kernel NULL pointer dereference; the last of 1 injection"

Judge = Callable[[Scenario], Optional[bool]]
"""Whether a scenario fails; None: inject or the machine fails."""


def needs(depth: int = 0, *, onward: bool = False, names: bool = True, lines: tuple[str, ...] = ("truncate",)) -> Judge:
    """A kernel that dies if so many callers are required, the call fails each time, and the lines run."""

    def dies(scenario: Scenario) -> bool:
        fault = scenario.faults[0]
        if fault.function != "bch2_x" or (onward and fault.when.trigger.nth):
            return False
        if not names and fault.when.stack and "+" not in fault.when.stack[0]:
            return False
        return len(fault.when.stack) >= depth and all(line in scenario.run for line in lines)

    return dies


class Kernel:
    """Runs batches on a kernel that dies as ``judge`` says; journals end with Killed after ``patience`` lines.

    With ``late`` a trial passes, and fails before the next one is armed, or at the end.
    """

    def __init__(self, journal: SweepJournal, judge: Judge, patience: int = 1 << 30, late: bool = False) -> None:
        self.ran: list[str] = []
        self.requests: list[Request] = []
        self.build = ""
        self.patience = patience
        self._judge = judge
        self._late = late
        append = journal.append

        def counted(line: dict[str, object], *, sync: bool = True) -> None:
            if self.patience <= 0:
                raise Killed
            self.patience -= 1
            append(line, sync=sync)

        journal.append = counted  # type: ignore[method-assign, assignment]

    def batch(self, ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        on_event(RunStarted("0", "6.12.9", "c0ffee", 1, (), self.build))
        if request.record is not None:
            for one in (POINT, OTHER):
                on_event(PointReached("dir/mix", 0, one))
            return [Verdict("dir/mix", Status.PASS)]
        self.requests.append(request)
        late: list[Verdict] = []
        while waiting := ledger.names(Stage.WAITING):
            scenario = ledger.scenario(waiting[0])
            assert ledger.give(scenario.name)
            self.ran.append(scenario.name)
            on_event(Injected(scenario.name, 0, INJECTION))
            verdict = self._verdict(scenario, request)
            told = [*late, verdict]
            late = []
            if self._late and verdict.status is Status.FAIL:
                late = [verdict]
                told[-1] = replace(verdict, status=Status.PASS, reason=None)
            for one in told:
                ledger.settle(one)
                on_event(one)
        for one in late:
            ledger.settle(one)
            on_event(one)
        return ledger.verdicts()

    def _verdict(self, scenario: Scenario, request: Request) -> Verdict:
        counts = (Counts(3, 3, 1),)
        dies = self._judge(scenario)
        if dies is None:
            return Verdict(scenario.name, Status.ERROR, None, "no memory")
        if not dies:
            return Verdict(scenario.name, Status.PASS, counts=counts)
        path = ErrorPath(0, "bch2_x", "-ENOMEM", Fate.SWALLOWED, where="caller1", frames=(Frame("caller0", "-ENOMEM"),))
        errors = (path,) if request.trace else ()
        said = ("[1] before", "[2] BUG: here")
        return Verdict(
            scenario.name, Status.FAIL, Reason.CRASH, PANIC, counts=counts, log=OOPS, errors=errors, kernel_log=said
        )


INJECTION = Injection(0, "bch2_x", "-ENOMEM", -12, 1, 5, 6, "truncate", 7, ("bch2_x+0x0", "caller0+0x0"))


def sweeper(
    journal: SweepJournal, text: str = TEXT, seconds: float = 1e9, now: Callable[[], float] = lambda: 0.0
) -> Sweeper:
    (scenario,) = parse(text, "mix.yaml", "mix")
    options = SweepOptions(modes=(Mode.ONCE, Mode.ONWARD), rounds=1, seconds=seconds)
    return Sweeper(scenario, text, options, journal, "stock", 7, now=now)


def swept(
    directory: Path,
    judge: Judge,
    *,
    most: int = MOST,
    known: tuple[Known, ...] = (),
    text: str = TEXT,
    late: bool = False,
    resume: bool = False,
) -> tuple[Investigation, Kernel, list[dict[str, object]]]:
    """A whole sweep with all its steps, and the lines of its journal."""
    with SweepJournal(directory / "out", resume=resume) as journal:
        kernel = Kernel(journal, judge, late=late)
        made = sweeper(journal, text)
        made.record(kernel.batch)
        made.fail(kernel.batch)
        Investigation(made, journal, known, most, 7).run(kernel.batch)
        found = Investigation(made, journal, known, most, 7)
        found.run(None)
        found.write(directory / "out", found.dossiers("inject vm run --kernel stock"))
        return found, kernel, [dict(line) for line in journal.lines]


def result(directory: Path) -> Scenario:
    (place,) = (directory / "out" / "findings").iterdir()
    (scenario,) = load([place / "scenario.yaml"])
    return scenario


# ---------------------------------------------------------------- smaller


def test_a_finding_becomes_one_call_one_line_and_no_stack(tmp_path: Path) -> None:
    found, kernel, lines = swept(tmp_path, needs())
    scenario = result(tmp_path)
    (fault,) = scenario.faults
    assert (fault.function, fault.value, fault.when.stack, fault.when.trigger.nth) == ("bch2_x", "-ENOMEM", (), 1)
    assert scenario.run == "truncate -s 1 $MNT/$i\n"
    assert scenario.expect.exit == tuple(range(256)) and str(scenario.expect.injected) == ">=1"
    assert (scenario.filesystem, scenario.recover, scenario.timeout) == (
        *(parse(TEXT, "m", "m")[0].filesystem, "sync", 20.0),
    )
    (line,) = [line for line in lines if line["type"] == "finding"]
    assert (line["runs"], line["failed"], line["faults"], line["lines"]) == (RUNS, RUNS, 1, [1, 9])
    assert len(line["trials"]) == 2 and str(line["trial"]).endswith("-once")
    assert [request.trace for request in kernel.requests].count(True) == 1 and kernel.requests[-1].trace


def test_all_steps_of_all_findings_are_one_batch_and_the_traces_another(tmp_path: Path) -> None:
    """What an answer leads to is asked while the batch runs: a guest is not opened for one step."""
    _, kernel, lines = swept(tmp_path, needs(4, lines=("mkdir", "truncate")))
    assert [request.trace for request in kernel.requests] == [False, False, True], "trials, steps, traces"
    assert len([line for line in lines if line["type"] == BEFORE]) > 10


@pytest.mark.parametrize("depth", range(10))
def test_the_shortest_stack_that_is_enough(tmp_path: Path, depth: int) -> None:
    """Found by bisection, and by names where these do as well as exact frames."""
    swept(tmp_path, needs(depth))
    assert result(tmp_path).faults[0].when.stack == tuple(frame.partition("+")[0] for frame in STACK[:depth])


def test_exact_frames_stay_where_names_are_not_enough(tmp_path: Path) -> None:
    swept(tmp_path, needs(2, names=False))
    assert result(tmp_path).faults[0].when.stack == STACK[:2]


def test_a_call_that_must_fail_each_time_fails_each_time(tmp_path: Path) -> None:
    swept(tmp_path, needs(onward=True))
    assert result(tmp_path).faults[0].when.trigger.keys() == {}


def test_lines_that_belong_together_stay_together(tmp_path: Path) -> None:
    _, kernel, _ = swept(tmp_path, needs(lines=("boom", "mkdir")))
    assert result(tmp_path).run == "mkdir $MNT/a\ncat >$MNT/b <<'EOF'\nboom\nEOF\n"


def test_no_script_with_a_syntax_error_is_tried(tmp_path: Path) -> None:
    tried: list[str] = []

    def judge(scenario: Scenario) -> bool:
        tried.append(scenario.run)
        return needs()(scenario)

    swept(tmp_path, judge)
    for script in tried:
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), script
    assert len(tried) > 10


def test_only_frames_of_functions_with_a_name_of_their_own_become_names() -> None:
    document = {"faults": [{"function": "a", "return": "-EIO", "when": {"stack": ["b#2+0x1", "c+0x2"], "nth": 1}}]}
    reduction = Reduction({**document, "run": "true"})
    steps = reduction.steps()
    tried = []
    try:
        candidate = next(steps)
        while True:
            tried.append(candidate.document["faults"][0]["when"].get("stack", []))
            candidate = steps.send(len(tried[-1]) == 2)
    except StopIteration:
        assert tried == [[], ["b#2+0x1"], ["b#2+0x1", "c"]]


def test_of_two_faults_the_one_that_is_enough_is_left() -> None:
    fault = {"function": "a", "return": "-EIO"}
    document = {"faults": [{**fault, "when": {"nth": 1}}, {**fault, "function": "b"}], "run": "true"}
    reduction = Reduction(document)
    steps = reduction.steps()
    what, candidate = [], next(steps)
    try:
        while True:
            what.append(candidate.what)
            candidate = steps.send([one["function"] for one in candidate.document["faults"]] == ["b"])
    except StopIteration:
        assert what == ["fault-1", "fault-2", "once"]
        assert reduction.kept == (1,)
        assert reduction.best["faults"] == [{**fault, "function": "b", "when": {"nth": 1}}]


@pytest.mark.parametrize(("alone", "kept"), [("bch2_z", (0, 1)), ("bch2_x", (1,))])
def test_a_check_that_fails_after_the_first_fault_alone_is_another_finding(alone: str, kept: tuple[int, ...]) -> None:
    """Its signature names the failed function: with only one left, that of this one."""
    (scenario,) = parse(TEXT, "mix.yaml", "mix")
    faults = [{"function": name, "return": "-EIO", "when": {"nth": 1}} for name in ("bch2_z", "bch2_x")]
    verdict = Verdict("a", Status.FAIL, Reason.CHECK, "fsck: bad", counts=(Counts(1, 1, 1),))
    cause = Cause(signature(verdict, POINT), (), "01-00000000")
    one = Reproduction(cause, (ABOVE, POINT), Reduction({**yaml.safe_load(TEXT), "faults": faults}), MOST)
    asks = one.asks()
    ask, tried = next(asks), []
    while ask.candidates[0].what in ("again-1", "fault-1", "fault-2"):
        (candidate,) = ask.candidates
        tried.append(candidate.what)
        names = [fault["function"] for fault in candidate.document["faults"]]
        ended = verdict if len(names) == 2 or names == [alone] else replace(verdict, status=Status.PASS, reason=None)
        step = Step(one, candidate, scenario, "key")
        ask = asks.send([after(step.line, ended, cause, step.point)])
    assert tried == ["again-1", "fault-1", "fault-2"]
    assert one.reduction.kept == kept


@pytest.mark.parametrize("enough", [0, 2])
def test_each_step_of_two_faults_has_a_name_of_its_own(enough: int) -> None:
    """A guest that gets a name a second time takes its failure for a late one of the first."""
    fault = {"function": "a", "return": "-EIO", "when": {"stack": ["b+0x1", "c+0x2", "d+0x3"]}}
    reduction = Reduction({"faults": [fault, {**fault, "function": "b"}], "run": "true\nfalse\n"})
    steps = reduction.steps()
    what, candidate = [], next(steps)
    try:
        while True:
            what.append(candidate.what)
            faults = candidate.document["faults"]
            depths = [len(one.get("when", {}).get("stack", ())) for one in faults]
            candidate = steps.send(len(faults) == 2 and min(depths) >= enough)
    except StopIteration:
        assert len(what) == len(set(what)) > 4, what
        assert {"1-once", "2-once", "1-stack-0", "2-stack-0"} <= set(what)
        assert len(reduction.best["faults"]) == 2


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("most", [0, 1, 3, 4, 8, 15, MOST])
def test_no_more_trials_than_allowed(tmp_path: Path, most: int) -> None:
    """The last of them repeat what was found; a bound that is reached is said."""
    found, kernel, lines = swept(tmp_path, needs(5, lines=("mkdir", "truncate")), most=most)
    made = [line for line in lines if line["type"] == BEFORE]
    assert len(made) <= most and len(made) == len([name for name in kernel.ran if name.count("/") == 3])
    (dossier,) = found.dossiers("x")
    (line,) = [line for line in lines if line["type"] == "finding"]
    assert line["runs"] == min(RUNS, most) == line["failed"]
    readme = dossier.files()[README]
    assert ("bound of" in readme) == (most in (4, 8, 15))
    assert ("it was not made smaller" in readme) == (most == 0)


def test_without_steps_the_trial_itself_is_handed_over(tmp_path: Path) -> None:
    swept(tmp_path, needs(), most=0)
    assert result(tmp_path).faults[0].when.stack == STACK
    (place,) = (tmp_path / "out" / "findings").iterdir()
    assert (place / "kernel.log").read_text() == "[1] before\n[2] BUG: here\n"


def test_a_known_finding_costs_no_trial(tmp_path: Path) -> None:
    found, kernel, lines = swept(tmp_path, needs(), known=(Known("judged", "crash: BUG: bch2_dies < bch2_x_caller"),))
    assert not [line for line in lines if line["type"] == BEFORE]
    (line,) = [line for line in lines if line["type"] == "finding"]
    assert line["known"] == "judged" and "Known" in found.dossiers("x")[0].files()[README]


def test_what_does_not_fail_again_is_not_made_smaller(tmp_path: Path) -> None:
    """It failed in the sweep only."""
    found, _, lines = swept(tmp_path, lambda scenario: scenario.name.count("/") == 2 and needs()(scenario))
    (line,) = [line for line in lines if line["type"] == "finding"]
    assert (line["runs"], line["failed"], line["lines"]) == (3, 0, [9, 9])
    assert "0 of 3 runs failed with this signature: not called reproducible" in found.dossiers("x")[0].files()[README]


@pytest.mark.parametrize(("shows", "word"), [(1, "not called reproducible"), (2, ": reproducible")])
def test_reproducible_from_two_of_three(tmp_path: Path, shows: int, word: str) -> None:
    def judge(scenario: Scenario) -> bool:
        name = scenario.name.rpartition("/")[2]
        return needs()(scenario) and not (name.startswith("run-") and int(name[-1]) > shows)

    found, _, lines = swept(tmp_path, judge)
    assert f"{shows} of 3 runs failed with this signature{word if word[0] == ':' else ': ' + word}" in (
        found.dossiers("x")[0].again()
    )


def step_of(scenario: Scenario) -> str:
    """What a step is called; "" for a trial of the sweep."""
    return scenario.name.rpartition("/")[2] if scenario.name.count("/") == 3 else ""


def test_an_error_is_no_run_and_a_resume_makes_it_again(tmp_path: Path) -> None:
    """It says nothing of the kernel: the finding failed in each run that was judged."""
    found, _, lines = swept(tmp_path, lambda one: None if step_of(one) in ("run-1", "run-3") else needs()(one))
    (line,) = [line for line in lines if line["type"] == "finding"]
    assert (line["runs"], line["failed"]) == (1, 1)
    readme = found.dossiers("x")[0].files()[README].replace("\n  ", " ")
    assert "Inject or the machine failed in 2 of the trials for it: --resume makes them again." in readme
    found, kernel, lines = swept(tmp_path, needs(), resume=True)
    assert [name.rpartition("/")[2] for name in kernel.ran] == ["run-1", "run-3"]
    line = [line for line in lines if line["type"] == "finding"][-1]
    assert (line["runs"], line["failed"]) == (3, 3)
    assert "machine failed" not in found.dossiers("x")[0].files()[README]


@pytest.mark.parametrize("step", ["again-", "stack-0", "lines-1", "trace"])
def test_a_step_that_ended_in_an_error_is_made_again(tmp_path: Path, step: str) -> None:
    """In the same run the search goes on without it."""
    swept(tmp_path / "whole", needs())
    broken, _, lines = swept(tmp_path, lambda one: None if step_of(one).startswith(step) else needs()(one))
    (line,) = [line for line in lines if line["type"] == "finding"]
    assert (line["runs"], line["failed"]) == (3, 3)
    assert ("No run of it was judged" in broken.dossiers("x")[0].files()[README]) is (step == "again-")
    _, kernel, _ = swept(tmp_path, needs(), resume=True)
    assert kernel.ran[0].rpartition("/")[2].startswith(step)
    assert result(tmp_path) == replace(result(tmp_path / "whole"), file=result(tmp_path).file)


def test_without_time_a_resume_loses_nothing_behind_an_error(tmp_path: Path) -> None:
    swept(tmp_path, lambda one: None if step_of(one) == "stack-0" else needs()(one))
    before = result(tmp_path)
    with SweepJournal(tmp_path / "out", resume=True) as journal:
        found = Investigation(sweeper(journal, seconds=0), journal, (), MOST, 7)
        found.run(Kernel(journal, needs()).batch)
        found.write(tmp_path / "out", found.dossiers("x"))
    assert result(tmp_path) == before and not found.unfinished


def test_what_fails_after_the_end_of_its_trial_is_reproducible(tmp_path: Path) -> None:
    """No smaller one is looked for: what is tried next is chosen before the splat comes."""
    found, kernel, lines = swept(tmp_path, needs(), late=True)
    (line,) = [line for line in lines if line["type"] == "finding"]
    assert (line["runs"], line["failed"], line["lines"]) == (3, 3, [9, 9])
    steps = [name.rpartition("/")[2] for name in kernel.ran if name.count("/") == 3]
    assert steps == ["again-1", "again-2", "run-1", "run-2", "run-3", "trace"]
    assert "Its splat comes after the end of the trial" in found.dossiers("x")[0].files()[README]
    _, again, _ = swept(tmp_path, needs(), late=True, resume=True)
    assert again.ran == [], "the same way"


def test_after_its_time_no_step_begins_and_a_resume_goes_on(tmp_path: Path) -> None:
    clock = [0.0]
    with SweepJournal(tmp_path / "out", resume=False) as journal:
        kernel = Kernel(journal, lambda scenario: clock.append(clock[-1] + 1) or needs()(scenario))
        made = sweeper(journal, seconds=12, now=lambda: clock[-1])
        made.record(kernel.batch)
        made.fail(kernel.batch)
        found = Investigation(made, journal, (), MOST, 7)
        found.run(kernel.batch)
        assert found.unfinished and len(kernel.ran) == 12
        (dossier,) = found.dossiers("x")
        assert OVER[1:] in " ".join(dossier.files()[README].split())
        assert f"{len(kernel.ran) - 2} trials were made for it" in dossier.files()[README].replace("\n  ", " ")
    with SweepJournal(tmp_path / "out", resume=True) as journal:
        again = Kernel(journal, needs())
        found = Investigation(sweeper(journal), journal, (), MOST, 7)
        found.run(again.batch)
        assert not found.unfinished and not set(again.ran) & set(kernel.ran)
        (dossier,) = found.dossiers("x")
        assert dossier.line()["failed"] == 3


def test_no_step_is_made_on_another_kernel_than_the_recordings(tmp_path: Path) -> None:
    with SweepJournal(tmp_path / "out", resume=False) as journal:
        kernel = Kernel(journal, needs())
        made = sweeper(journal)
        made.record(kernel.batch)
        made.fail(kernel.batch)
        ran = len(kernel.ran)
        recorded = next(line for line in journal.lines if line["type"] == "kernel")
        journal.append({**recorded, "build_id": "aa"})
        kernel.build = "bb"
        with pytest.raises(InjectError, match="the points were recorded on another kernel: the build id of its"):
            Investigation(made, journal, (), MOST, 7).run(kernel.batch)
        assert len(kernel.ran) == ran


# ---------------------------------------------------------------- the journal


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 40), max_size=4))
def test_after_any_end_no_step_is_lost_and_at_most_the_one_under_way_repeated(tmp_path: Path, kills: list[int]) -> None:
    directory = tmp_path / os.urandom(8).hex()
    ran: list[str] = []
    for number, patience in enumerate([*kills, 1 << 30]):
        with SweepJournal(directory, resume=number > 0) as journal:
            made = sweeper(journal)
            kernel = Kernel(journal, needs(3), patience)
            try:
                made.record(kernel.batch)
                made.fail(kernel.batch)
                found = Investigation(made, journal, (), MOST, 7)
                found.run(kernel.batch)
            except Killed:
                pass
            ran += kernel.ran
            lines = list(journal.lines)
    whole, straight, _ = swept(tmp_path / os.urandom(8).hex(), needs(3))
    assert [one.files() for one in found.dossiers("x")] == [one.files() for one in whole.dossiers("x")]
    assert set(ran) == set(straight.ran) and len(ran) <= len(set(ran)) + len(kills)
    assert {line["text"] for line in lines if line["type"] == AFTER} <= {
        line["text"] for line in lines if line["type"] == BEFORE
    }


def test_a_step_is_in_the_journal_before_it_begins(tmp_path: Path) -> None:
    _, _, lines = swept(tmp_path, needs())
    steps = [(line["type"], line["what"]) for line in lines if line["type"] in (BEFORE, AFTER, TRACED)]
    for number, (kind, what) in enumerate(steps):
        assert kind != AFTER or (BEFORE, what) in steps[:number]
    assert steps[-3:] == [(BEFORE, "trace"), (AFTER, "trace"), (TRACED, "trace")]


def test_a_finding_gets_a_line_in_the_journal_once(tmp_path: Path) -> None:
    """It is written again only if something is new, such as that it is known."""
    swept(tmp_path, needs())
    with SweepJournal(tmp_path / "out", resume=True) as journal:
        made = sweeper(journal)
        for known in ((), (), (Known("judged", "crash: BUG: bch2_dies < bch2_x_caller"),)):
            found = Investigation(made, journal, known, MOST, 7)
            found.run(None)
            found.write(tmp_path / "out", found.dossiers("x"))
        lines = [line for line in journal.lines if line["type"] == "finding"]
    assert [(line["known"], line["failed"]) for line in lines] == [("", 3), ("judged", 3)], "what was made stays"
    assert {key: lines[0][key] for key in ("signature", "digest", "directory")} == {
        "signature": "crash: BUG: bch2_dies < bch2_x_caller",
        "digest": digest("crash: BUG: bch2_dies < bch2_x_caller"),
        "directory": f"findings/01-{digest('crash: BUG: bch2_dies < bch2_x_caller')}",
    }


# ---------------------------------------------------------------- what counts as the same


@pytest.mark.parametrize(
    ("verdict", "same"),
    [
        (Verdict("a", Status.FAIL, Reason.CRASH, PANIC, log=OOPS), True),
        (Verdict("a", Status.FAIL, Reason.CRASH, PANIC, log=OOPS, counts=(Counts(1, 1, 1),)), True),
        (Verdict("a", Status.FAIL, Reason.CRASH, PANIC, log=OOPS, counts=(Counts(1, 1, 0),)), False),
        (Verdict("a", Status.FAIL, Reason.DMESG, "dmesg: " + OOPS[0], log=OOPS, counts=(Counts(1, 1, 1),)), False),
        (Verdict("a", Status.ERROR, None, PANIC, log=OOPS), False),
        (Verdict("a", Status.PASS, counts=(Counts(1, 1, 1),)), False),
    ],
)
def test_the_same_failure_after_an_injection(verdict: Verdict, same: bool) -> None:
    expected = signature(Verdict("a", Status.FAIL, Reason.CRASH, PANIC, log=OOPS), POINT)
    assert is_same(verdict, expected, POINT) is same


def test_a_check_that_fails_without_an_injection_is_another_failure() -> None:
    verdict = Verdict("a", Status.FAIL, Reason.CHECK, "fsck: bad")
    expected = signature(verdict, POINT)
    assert not is_same(verdict, expected, POINT)
    assert is_same(replace(verdict, counts=(Counts(1, 1, 1),)), expected, POINT)


# ---------------------------------------------------------------- the directory


def test_the_directory_of_a_finding(tmp_path: Path) -> None:
    swept(tmp_path, needs(1))
    (place,) = (tmp_path / "out" / "findings").iterdir()
    assert sorted(path.name for path in place.iterdir()) == sorted(
        ["scenario.yaml", "reproduce.sh", "kernel.log", "trace.txt", README]
    )
    assert (place / "kernel.log").read_text() == "[1] before\n[2] BUG: here\n"
    trace = (place / "trace.txt").read_text()
    assert "swallowed in caller1 (void)" in trace or "swallowed" in trace
    assert "truncate/6: bch2_x returns -ENOMEM (match 1)" in trace and "caller0+0x0" in trace
    readme = (place / README).read_text()
    for words in (
        "crash: BUG: bch2_dies < bch2_x_caller\n",
        PANIC[:60],
        f"inject vm run --kernel stock findings/{place.name}/scenario.yaml",
        "3 of 3 runs failed with this signature: reproducible.",
        "1 fault, 1 of 9 lines of the workload, and requires 1 of 10 callers of bch2_x",
        "Linux 6.12.9, configuration c0ffee",
        f"{POINT.id}-onward",
    ):
        assert words in readme, readme
    entry = readme[readme.index("- signature:") :].replace("why:", "why: judged")
    (tmp_path / "known.yaml").write_text(entry)
    assert why_known("crash: BUG: bch2_dies < bch2_x_caller", read_known(tmp_path / "known.yaml")) == "judged"
    assert os.access(place / "reproduce.sh", os.X_OK)


@pytest.mark.parametrize(
    ("kept", "requires", "types"),
    [
        (
            (0, 1),
            "2 faults, 9 of 9 lines of the workload, and requires 1 of 4 callers of bch2_z and 3 of 10 callers of",
            ["bch2_z NULL", "bch2_x ERRNO"],
        ),
        ((0,), "1 fault, 9 of 9 lines of the workload, and requires 1 of 4 callers of bch2_z;", ["bch2_z NULL"]),
        ((1,), "1 fault, 9 of 9 lines of the workload, and requires 3 of 10 callers of bch2_x;", ["bch2_x ERRNO"]),
    ],
)
def test_each_fault_is_compared_with_its_own_point(kept: tuple[int, ...], requires: str, types: list[str]) -> None:
    """The one that came first shows the point of the other one."""
    faults = [
        {"function": "bch2_z", "return": "NULL", "when": {"stack": ["caller0"], "nth": 1}},
        {"function": "bch2_x", "return": "-ENOMEM", "when": {"stack": ["caller0", "caller1", "caller2"], "nth": 1}},
    ]
    document = {**yaml.safe_load(TEXT), "faults": faults}
    ended = Ended(f"{ABOVE.id}-once+{POINT.id}-once", POINT.id, Status.FAIL, "crash", "it died", 1, 0, "crash: x")
    cause = Cause("crash: x", (ended,), "01-00000000")
    one = Reproduction(cause, (ABOVE, POINT), Reduction(document), MOST)
    one.reduction.kept = kept
    one.reduction.best = {**document, "faults": [faults[number] for number in kept]}
    points = {point.id: point for point in (ABOVE, POINT)}
    dossier = Dossier(cause, ended, points, "mix", one.reduction.best, one, Seen("stock", "", "", "", ""), "inject run")
    files = dossier.files()
    assert requires in " ".join(files[README].split())
    assert [line[9:] for line in files["reproduce.sh"].splitlines() if line.startswith("can_fail bch2_")] == types
    shown = [line for line in files["trace.txt"].splitlines() if line.endswith(" [bcachefs]")]
    assert shown == [f"{name.split()[0]} [bcachefs]" for name in types]
    assert dossier.line()["faults"] == len(kept)


def test_the_scenario_needs_no_other_file(tmp_path: Path) -> None:
    swept(tmp_path, needs())
    (place,) = (tmp_path / "out" / "findings").iterdir()
    elsewhere = tmp_path / "elsewhere.yaml"
    shutil.copy(place / "scenario.yaml", elsewhere)
    (scenario,) = load([elsewhere])
    assert scenario.name == f"dir/mix/{place.name[3:]}"
    assert yaml.safe_load(elsewhere.read_text())["expect"] == {"exit": "any"}


@pytest.mark.parametrize(("known", "status"), [(False, ExitStatus.FAIL), (True, ExitStatus.OK)])
def test_known_findings_alone_do_not_fail_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], known: bool, status: ExitStatus
) -> None:
    name = "crash: BUG: bch2_dies < bch2_x_caller"
    swept(tmp_path, needs())
    with SweepJournal(tmp_path / "out", resume=True) as journal:
        made = sweeper(journal)
        found = Investigation(made, journal, (Known("it must be", name),) if known else (), MOST, 7)
        found.run(None)
        assert tell(made, found, tmp_path / "out", "inject vm run") == status
    said = capsys.readouterr().out
    assert (f"known: {name}: 2 trials" in said and "  it must be\n" in said) is known
    assert (f"finding 1: {name}\n" in said and "(3 of 3 runs failed with this signature: reproducible)" in said) is (
        not known
    )
    assert "2 findings (1 signatures)" in said.splitlines()[-1]
