"""A sweep: which trials it has, what its journal keeps, how it adds up, and that no end loses a trial."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inject.errors import CannotRun, InjectError
from inject.fleet.ledger import Ledger, Stage, Start
from inject.fleet.request import Request
from inject.model.errorpath import ErrorPath, Fate
from inject.model.event import Armed, Event, FunctionSkipped, PointReached, RunEnded, RunStarted
from inject.model.reached import Point, Skipped
from inject.model.scenario import Bound, Scenario
from inject.model.trigger import Trigger
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.scenario.derived import derived, document_of
from inject.scenario.load import parse
from inject.sweep.agenda import ALIKE, BEYOND, UNASKED, UNKNOWN, agenda
from inject.sweep.journal import NAME, SweepJournal
from inject.sweep.ledger import SweepLedger
from inject.sweep.options import SweepOptions
from inject.sweep.shot import CALLERS, Mode, Shot, value_of
from inject.sweep.state import SPARED, UNENDED, UNJUDGED, UNREACHED, state_of, totals, trial_line
from inject.sweep.sweeper import Sweeper

BOTH = (Mode.ONCE, Mode.ONWARD)
TEXT = """\
name: mix
filesystem: {type: bcachefs, size: 512M}
faults: [{function: bch2_truncate, return: -EIO}]
expect: {exit: 7, errno: {write: EIO}}
finding: {reason: crash, text: known}
timeout: 90
checks: [dmesg, fsck]
run: |
  echo "a: b" >$MNT/f
  rm $MNT/f
recover: sync
"""


def point(number: int, error_type: str = "ERRNO", callers: int = 3) -> Point:
    stack = tuple(f"caller{level}+0x{number + 1:x}" for level in range(callers))
    return Point(f"f{number}", "xfs", stack, number, 1, error_type)


POINTS = [point(0), point(1, "NULL"), point(2, "NUMBER"), point(3)]


# ---------------------------------------------------------------- trials


def test_each_point_in_each_mode() -> None:
    plan = agenda(POINTS, SweepOptions(modes=BOTH, limit=100))
    assert [shot.id for shot in plan.shots] == [
        f"{one.id}-{mode}" for one in (POINTS[0], POINTS[1], POINTS[3]) for mode in ("once", "onward")
    ]
    assert plan.skipped == {POINTS[2].id: UNKNOWN}


def test_what_is_left_out_is_said_so() -> None:
    plan = agenda(POINTS, SweepOptions(modes=BOTH, limit=5))
    assert (len(plan.shots), plan.skipped) == (4, {POINTS[2].id: UNKNOWN, POINTS[3].id: BEYOND})
    plan = agenda(POINTS, SweepOptions(modes=BOTH, only=(POINTS[3].id[:6],), limit=5))
    assert [shot.point for shot in plan.shots] == [POINTS[3]] * 2
    assert set(plan.skipped.values()) == {UNASKED}


def test_points_that_no_fault_can_tell_apart_are_failed_once() -> None:
    deep = Point("f", "", tuple(f"c{number}+0x1" for number in range(CALLERS)), error_type="ERRNO")
    deeper = Point("f", "", (*deep.stack, "d+0x1"), error_type="ERRNO")
    plan = agenda([deep, deeper], SweepOptions(modes=BOTH, limit=9))
    assert (len(plan.shots), plan.skipped) == (2, {deeper.id: ALIKE})
    assert len(Shot(deeper, Mode.ONCE).fault("-EIO").when.stack) == CALLERS


@pytest.mark.parametrize(
    ("error_type", "value"),
    [("ERRNO", "-EIO"), ("ERRNO_NULL", "-EIO"), ("NULL", "NULL"), ("TRUE", "true"), ("BOOL", None), ("", None)],
)
def test_the_value_that_is_a_failure(error_type: str, value: str) -> None:
    assert value_of(point(1, error_type), "-EIO") == value


def test_once_is_the_first_call_and_onward_every_one() -> None:
    assert Shot(POINTS[0], Mode.ONCE).fault("-EIO").when.trigger == Trigger(nth=1)
    fault = Shot(POINTS[0], Mode.ONWARD).fault("-EIO")
    assert (fault.when.trigger, fault.when.stack, fault.function) == (Trigger(), POINTS[0].stack, "f0")


# ---------------------------------------------------------------- the journal


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    with SweepJournal(tmp_path / "new" / "dir", resume=False) as journal:
        journal.append({"type": "sweep", "text": "ä\n"})
        journal.append({"type": "two"})
    with SweepJournal(tmp_path / "new" / "dir", resume=True) as journal:
        assert (journal.lines, journal.cut) == ([{"type": "sweep", "text": "ä\n"}, {"type": "two"}], 0)


@pytest.mark.parametrize("rest", [b'{"type": "tw', b"{", b'{"type":"two"}', b'{"type":"\xc3', b"\0" * 9])
def test_a_line_that_was_cut_is_taken_away(tmp_path: Path, rest: bytes) -> None:
    (tmp_path / NAME).write_bytes(b'{"type":"sweep"}\n' + rest)
    with SweepJournal(tmp_path, resume=True) as journal:
        assert (journal.lines, journal.cut) == ([{"type": "sweep"}], len(rest))
        journal.append({"type": "three"})
    assert (tmp_path / NAME).read_text() == '{"type":"sweep"}\n{"type":"three"}\n'


@pytest.mark.parametrize("line", [b"no", b"[]", b'{"kind": 1}', b'{"type": 1}', b"\xff", b""])
def test_a_damaged_journal_is_refused_with_its_line(tmp_path: Path, line: bytes) -> None:
    (tmp_path / NAME).write_bytes(b'{"type":"sweep"}\n' + line + b'\n{"type":"two"}\n')
    with pytest.raises(InjectError, match=f"{NAME}:2: not a line of a journal"):
        SweepJournal(tmp_path, resume=True)


def test_two_sweeps_do_not_share_a_directory(tmp_path: Path) -> None:
    with SweepJournal(tmp_path, resume=False):
        with pytest.raises(InjectError, match="another sweep writes to"):
            SweepJournal(tmp_path, resume=True)
        with pytest.raises(InjectError, match="another sweep writes to"):
            SweepJournal(tmp_path, resume=False)
    SweepJournal(tmp_path, resume=True).close()


def test_trials_are_not_lost_unasked_and_a_sweep_without_any_is_begun_anew(tmp_path: Path) -> None:
    head = {"type": "sweep"}
    for line in ({"type": "recorded"}, {"type": "begun", "trial": "a"}):
        with SweepJournal(tmp_path, resume=False) as journal:
            assert journal.lines == []
            journal.append(head)
            journal.append(line)
    with pytest.raises(InjectError, match="has a sweep; go on with it"):
        SweepJournal(tmp_path, resume=False)
    with SweepJournal(tmp_path, resume=True) as journal:
        assert journal.lines == [head, {"type": "begun", "trial": "a"}]


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"visit","page":1}\n',
        b'{"type":"visit"}\n{"type":"vi',
        b"notes without a newline",
        b'{"type":"sweeper',
        b"\0",
    ],
)
@pytest.mark.parametrize("resume", [True, False])
def test_another_file_of_this_name_is_left_alone(tmp_path: Path, data: bytes, resume: bool) -> None:
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(InjectError, match=f"{NAME} is not the journal of a sweep; choose another -o"):
        SweepJournal(tmp_path, resume=resume)
    assert (tmp_path / NAME).read_bytes() == data


@pytest.mark.parametrize("data", [b"", b"{", b'{"type":"swe', b'{"type":"sweep","scena', b'{"type": "sweep"}\n'])
def test_a_journal_whose_first_line_was_cut_is_begun_anew(tmp_path: Path, data: bytes) -> None:
    (tmp_path / NAME).write_bytes(data)
    with SweepJournal(tmp_path, resume=False) as journal:
        assert journal.lines == []
    assert (tmp_path / NAME).read_bytes() == b""


def test_a_journal_that_is_too_long_to_be_read_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inject.sweep.journal.LARGEST", 10)
    (tmp_path / NAME).write_bytes(b'{"type":"sweep"}\n')
    with pytest.raises(InjectError, match="has 17, and 10 are read at most"):
        SweepJournal(tmp_path, resume=True)
    assert (tmp_path / NAME).stat().st_size == 17


def test_there_must_be_something_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(InjectError, match="has no sweep to go on with"):
        SweepJournal(tmp_path / "none", resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(InjectError, match="cannot write .*choose another -o"):
        SweepJournal(tmp_path / "file" / "below", resume=False)
    with pytest.raises(InjectError, match="file is not a directory; choose another -o"):
        SweepJournal(tmp_path / "file", resume=False)


def test_a_full_disk_is_one_sentence_and_the_rest_can_be_read(tmp_path: Path) -> None:
    with SweepJournal(tmp_path, resume=False) as journal:
        journal.append({"type": "sweep"})
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30, old[1]))
        try:
            with pytest.raises(InjectError, match=f"cannot write .*{NAME}: .*make room, and go on with --resume"):
                journal.append({"type": "two", "text": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
            signal.signal(signal.SIGXFSZ, before)
        with pytest.raises(InjectError, match="cannot write"):
            journal.append({"type": "three"})
    with SweepJournal(tmp_path, resume=True) as journal:
        assert (journal.lines, journal.cut) == ([{"type": "sweep"}], 0)


# ---------------------------------------------------------------- adding up


def ended(
    shot: Shot, status: Status, *, injected: int = 0, spared: int = 0, detail: str = "", counted: bool = True
) -> dict[str, object]:
    counts = (Counts(9, 9, injected, spared),) if counted else ()
    reason = Reason.CRASH if status is Status.FAIL else None
    log = ("Call Trace:", " xfs_dies+0x1/0x2") if status is Status.FAIL else ()
    return trial_line(shot, Verdict("mix", status, reason, detail, counts=counts, log=log))


def test_every_point_and_every_trial_is_counted_once() -> None:
    """A point counts by the best of its trials."""
    points = [point(number) for number in range(7)]
    shots = {(number, mode): Shot(points[number], mode) for number in range(7) for mode in BOTH}
    lines = [
        ended(shots[0, Mode.ONCE], Status.PASS, injected=1),
        ended(shots[0, Mode.ONWARD], Status.FAIL, injected=3, detail="oops at 0x12"),
        ended(shots[1, Mode.ONCE], Status.PASS),
        ended(shots[2, Mode.ONCE], Status.PASS, spared=2),
        ended(shots[3, Mode.ONCE], Status.ERROR),
        ended(shots[4, Mode.ONCE], Status.FAIL, detail="oops at 0x99", counted=False),
        ended(shots[5, Mode.ONCE], Status.ERROR),
        ended(shots[5, Mode.ONCE], Status.PASS, injected=1),
    ]
    plan = agenda(points, SweepOptions(modes=BOTH, limit=100))
    found = totals(points, plan, state_of(lines).ended)
    assert found.line == (
        "points 7: 3 injected, 2 not reached again, 2 skipped; trials 7: 4 passed, 2 findings (1 signatures), 1 errors"
    )
    assert found.unreached == {UNREACHED: 1, SPARED: 1}
    assert found.skipped == {UNJUDGED: 1, UNENDED: 1}


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(BOTH), st.sampled_from(Status), st.integers(0, 2))))
def test_it_always_adds_up(trials: list[tuple[int, Mode, Status, int]]) -> None:
    points = [point(number, "ERRNO" if number % 4 else "BOOL") for number in range(10)]
    lines = [ended(Shot(points[n], mode), status, injected=injected) for n, mode, status, injected in trials]
    found = totals(points, agenda(points, SweepOptions(modes=BOTH, limit=12)), state_of(lines).ended)
    assert found.points == found.injected + sum(found.unreached.values()) + sum(found.skipped.values()) == 10
    assert found.trials == found.passed + found.findings + found.errors


def test_a_trial_that_fails_with_nothing_injected_is_an_error() -> None:
    """It says nothing about the failure of its point, and the next run makes it again."""
    line = ended(Shot(POINTS[0], Mode.ONCE), Status.FAIL, detail="fsck: 3 errors")
    assert (line["status"], line["reason"], line["signature"]) == ("error", "", "")
    assert line["detail"] == "it failed with nothing injected: fsck: 3 errors"
    found = totals(POINTS[:1], agenda(POINTS[:1], SweepOptions()), state_of([line]).ended)
    assert (found.injected, found.findings, found.errors, found.skipped) == (0, 0, 1, {UNJUDGED: 1})


@pytest.mark.parametrize(("fired", "injected"), [([0], 0), ([1], 1), (None, 1), ([], 1)])
def test_a_finding_of_an_older_journal_is_injected_unless_its_counts_say_otherwise(
    fired: Optional[list[int]], injected: int
) -> None:
    line = dict(ended(Shot(POINTS[0], Mode.ONCE), Status.FAIL, counted=False))
    line.update({"injected": sum(fired or ()), "fired": fired} if fired is not None else {})
    if fired is None:
        del line["fired"]
    found = totals(POINTS[:1], agenda(POINTS[:1], SweepOptions()), state_of([line]).ended)
    assert (found.injected, sum(found.unreached.values()), found.findings) == (injected, 1 - injected, 1)


# ---------------------------------------------------------------- derived scenarios


def test_a_trial_is_the_scenario_with_another_fault(tmp_path: Path) -> None:
    made = sweeper(tmp_path).trial(Shot(POINTS[0], Mode.ONCE))
    (base,) = parse(TEXT, "mix.yaml", "mix")
    assert (made.name, made.file) == (f"mix/{POINTS[0].id}-once", "mix.yaml")
    assert (made.run, made.recover, made.filesystem, made.timeout, made.checks) == (
        *(base.run, base.recover, base.filesystem),
        *(base.timeout, base.checks),
    )
    (fault,) = made.faults
    assert (fault.function, fault.value, fault.when.stack) == ("f0", "-ENOMEM", POINTS[0].stack)
    assert (made.finding, made.sweep, dict(made.expect.errno)) == (None, None, {})
    assert made.expect.exit == tuple(range(256)) and made.expect.injected == Bound(0)
    assert parse(made.text, "x.yaml", "x")[0] == made.__class__(**{**vars(made), "file": "x.yaml"})


@pytest.mark.parametrize(
    ("depth", "modes", "room"),
    [(1, (Mode.ONCE,), 128 - 22), (1, BOTH, 128 - 24), (2, (Mode.ONCE,), 128 - 44), (2, BOTH, 128 - 46)],
)
def test_a_name_leaves_room_for_those_of_the_trials(
    tmp_path: Path, depth: int, modes: tuple[Mode, ...], room: int
) -> None:
    """The longest name that is taken is that of a scenario that can be made; the next one is refused at once."""
    first = Shot(POINTS[0], modes[-1])
    shot = first if depth == 1 else Shot(POINTS[1], Mode.ONCE, first)
    for length in (room, room + 1):
        text = TEXT.replace("mix", "m" * length)
        (scenario,) = parse(text, "mix.yaml", "mix")
        with SweepJournal(tmp_path / str(length), resume=False) as journal:
            options = SweepOptions(modes=modes, depth=depth)
            if length == room:
                made = Sweeper(scenario, text, options, journal, "stock", 7).trial(shot)
                assert len(made.name) == 128
                continue
            with pytest.raises(InjectError, match=f"has {length} characters, and {room} at most leave room .*shorter"):
                Sweeper(scenario, text, options, journal, "stock", 7)


def test_the_scenario_of_several_is_found_by_its_name() -> None:
    text = "name: a\nrun: one\n---\nname: b\nrun: two\n"
    assert document_of(text, "b") == {"name": "b", "run": "two"}
    with pytest.raises(KeyError):
        document_of(text, "c")
    assert derived(document_of("run: one\n", "any"), {"name": "x"}) == "run: one\nname: x\n"


def named(line: str) -> str:
    return {"name: '90'\n": "90", "name: 1.50\n": "1.50"}.get(line, "")


@pytest.mark.parametrize(
    "line",
    [
        "timeout: 90\n",
        "name: '90'\n",
        "name: 1.50\n",
        "filesystem: {type: xfs, size: 512M}\n",
        "filesystem:\n  mkfs: ['-m', 'x: y', on]\n",
        "run: |\n  echo 'a: b' # c\n  x=\"$y\"\n",
        "allow:\n  - 'a: \\d+'\n",
    ],
)
def test_what_is_written_stays_as_it_is(line: str) -> None:
    """A number stays one, and a text that looks like one as well; a second time changes nothing."""
    text = derived(document_of(line, named(line)), {})
    assert derived(document_of(text, named(line)), {}) == text
    assert document_of(text, named(line)) == document_of(line, named(line))
    assert yaml.safe_load(text) == yaml.safe_load(line)


# ---------------------------------------------------------------- the whole


class Killed(BaseException):
    """The end of inject at any moment."""


class Machine:
    """Runs batches; ends with Killed when the journal has had ``patience`` lines."""

    def __init__(self, journal: SweepJournal, patience: int = 1 << 30) -> None:
        self.started = RunStarted("0", "6.12", "", 1, ())
        self.ran: list[str] = []
        self._journal = journal
        self._append = journal.append
        self._patience = patience
        journal.append = self._counted  # type: ignore[method-assign]

    def _counted(self, line: dict[str, object], *, sync: bool = True) -> None:
        if self._patience <= 0:
            raise Killed
        self._patience -= 1
        self._append(line, sync=sync)

    def batch(self, ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        on_event(self.started)
        if request.record is not None:
            for one in POINTS:
                on_event(PointReached("mix", 0, one))
            on_event(FunctionSkipped("mix", 0, Skipped("g", "", "returns nothing")))
            return [Verdict("mix", Status.PASS)]
        verdicts = []
        for scenario in ledger.scenarios:
            assert ledger.give(scenario.name)
            self.ran.append(scenario.name)
            on_event(Armed(scenario.name, 0, scenario.faults))
            verdict = judged(scenario)
            ledger.settle(verdict)
            on_event(verdict)
            verdicts.append(verdict)
        on_event(RunEnded.of(verdicts))
        return verdicts


def judged(scenario: Scenario) -> Verdict:
    """f1 crashes from the second call on, f3 is not reached again."""
    (fault,) = scenario.faults
    if fault.function == "f1" and fault.when.trigger.limit is None:
        return Verdict(scenario.name, Status.FAIL, Reason.CRASH, "the guest panicked: oops", counts=(Counts(2, 2, 2),))
    return Verdict(scenario.name, Status.PASS, counts=(Counts(2, 2, int(fault.function != "f3")),))


def sweeper(directory: Path, *, resume: bool = False, **changes: object) -> Sweeper:
    (scenario,) = parse(str(changes.get("text", TEXT)), "mix.yaml", "mix")
    journal = SweepJournal(directory / "sweep", resume=resume)
    checks = ("dmesg",) if changes.get("checks") else None
    errno, trace = str(changes.get("errno", "-ENOMEM")), bool(changes.get("trace"))
    options = SweepOptions(modes=BOTH, errno=errno, checks=checks, trace=trace)
    try:
        return Sweeper(scenario, str(changes.get("text", TEXT)), options, journal, "stock", 7)
    except InjectError:
        journal.close()
        raise


def run(directory: Path, patience: int, *, resume: bool) -> tuple[Sweeper, Machine, bool]:
    """A sweep until it ends, or is killed."""
    made = sweeper(directory, resume=resume)
    machine = Machine(made._journal, patience)
    try:
        made.record(machine.batch)
        made.fail(machine.batch)
    except Killed:
        return made, machine, False
    finally:
        made._journal.close()
    return made, machine, True


EXPECTED = (
    "points 4: 2 injected, 1 not reached again, 1 skipped; trials 6: 5 passed, 1 findings (1 signatures), 0 errors"
)


def test_a_sweep_records_and_fails_each_point(tmp_path: Path) -> None:
    made, machine, whole = run(tmp_path, 1 << 30, resume=False)
    assert whole and len(machine.ran) == 6 and made.left == []
    assert made.totals().line == EXPECTED


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 25), max_size=4), st.integers(0, 40))
def test_after_any_end_no_trial_is_lost_and_at_most_one_repeated(tmp_path: Path, kills: list[int], torn: int) -> None:
    """The last line may be torn as well; each end costs the trial under way."""
    directory = tmp_path / os.urandom(8).hex()
    ran: list[str] = []
    for number, patience in enumerate([*kills, 1 << 30]):
        made, machine, whole = run(directory, patience, resume=number > 0)
        ran += machine.ran
        path = directory / "sweep" / NAME
        if not whole and torn:
            with path.open("ab") as file:
                file.write(b'{"type": "trial", "trial": "' + b"x" * torn)
    assert made.totals().line == EXPECTED
    assert len(set(ran)) == 6 and len(ran) <= 6 + len(kills)


def test_a_trial_is_in_the_journal_before_it_begins(tmp_path: Path) -> None:
    made = sweeper(tmp_path)
    machine = Machine(made._journal)
    made.record(machine.batch)
    began: list[set[str]] = []

    def watch(event: Event) -> None:
        if isinstance(event, Armed):
            began.append({f"mix/{trial}" for trial in state_of(made._journal.lines).begun})
            assert event.scenario in began[-1]

    made.fail(lambda ledger, request, _: machine.batch(ledger, request, watch))
    made._journal.close()
    assert [len(names) for names in began] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("key", "value"), [("text", TEXT + "# other\n"), ("errno", "-EIO"), ("checks", True)])
def test_the_journal_of_another_sweep_is_refused(tmp_path: Path, key: str, value: object) -> None:
    sweeper(tmp_path)._journal.close()
    with pytest.raises(InjectError, match=f"the journal is of another sweep: {key} was"):
        sweeper(tmp_path, resume=True, **{key: value})


def test_a_journal_of_an_older_version_does_not_say_which_checks_its_trials_have(tmp_path: Path) -> None:
    sweeper(tmp_path)._journal.close()
    path = tmp_path / "sweep" / NAME
    path.write_text(path.read_text().replace('"checks":"all",', ""))
    for checks in (True, False):
        sweeper(tmp_path, resume=True, checks=checks)._journal.close()


def test_a_trial_says_how_its_workload_ended() -> None:
    shot = Shot(POINTS[0], Mode.ONCE)
    ends = [trial_line(shot, Verdict("mix", Status.PASS, exit=exit))["exit"] for exit in (0, 137, None)]
    assert ends == [0, 137, None]


def test_a_trial_says_what_became_of_the_errors_of_its_point() -> None:
    """Of two faults the last one is that of the point."""
    paths = [
        ErrorPath(0, "f0", "-ENOMEM", Fate.SWALLOWED),
        ErrorPath(1, "f1", "-ENOMEM", Fate.PROPAGATED, "ENOMEM", call="write", count=3),
        ErrorPath(1, "f1", "-ENOMEM", Fate.PROPAGATED, "ENOMEM", call="read"),
        ErrorPath(1, "f1", "-ENOMEM", Fate.UNSEEN),
    ]
    shot = Shot(POINTS[1], Mode.ONCE, Shot(POINTS[0], Mode.ONCE))
    verdict = Verdict("mix", Status.PASS, counts=(Counts(1, 1, 1), Counts(5, 5, 5)), errors=tuple(paths))
    assert trial_line(shot, verdict)["fates"] == {"propagated": 4, "unseen": 1}
    assert trial_line(shot, replace(verdict, counts=(), errors=(paths[0],)))["fates"] == {"swallowed": 1}
    assert "fates" not in trial_line(shot, replace(verdict, errors=()))


@pytest.mark.parametrize("trace", [False, True])
def test_trials_follow_their_errors_if_asked(tmp_path: Path, trace: bool) -> None:
    made = sweeper(tmp_path, trace=trace)
    machine = Machine(made._journal)
    asked: list[tuple[bool, bool]] = []

    def batch(ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        asked.append((request.record is None, request.trace))
        return machine.batch(ledger, request, on_event)

    made.record(batch)
    made.fail(batch)
    assert asked == [(False, False), (True, trace)]


def test_a_trial_says_how_its_guest_came_to_be(tmp_path: Path) -> None:
    made = sweeper(tmp_path)
    machine = Machine(made._journal)
    starts = iter((Start.FORK, Start.BOOT, None, *[Start.FORK] * len(POINTS) * 2))

    def batch(ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        if request.record is None:
            for scenario, start in zip(ledger.scenarios, starts):
                if start is not None:
                    ledger.place(scenario.name, start)
        return machine.batch(ledger, request, on_event)

    made.record(batch)
    made.fail(batch)
    trials = [line for line in made._journal.lines if line["type"] == "trial"]
    assert [trial.get("how") for trial in trials[:4]] == ["fork", "boot", None, "fork"]


def test_a_recording_that_was_cut_begins_anew(tmp_path: Path) -> None:
    made, _, whole = run(tmp_path, 5, resume=False)
    assert not whole and not made.state.recorded and len(made.state.points) == 3
    made, _, whole = run(tmp_path, 1 << 30, resume=True)
    assert whole and made.state.points == POINTS


def test_what_is_in_the_journal_is_not_done_again(tmp_path: Path) -> None:
    run(tmp_path, 1 << 30, resume=False)
    made, machine, whole = run(tmp_path, 0, resume=True)
    assert whole and machine.ran == [] and made.totals().line == EXPECTED


def test_after_its_time_no_trial_waits(tmp_path: Path) -> None:
    """The recording counts as well; what has begun ends."""
    (scenario,) = parse(TEXT, "mix.yaml", "mix")
    seconds = iter([0.0, 3.0, 5.0, 6.0, 7.0])
    with SweepJournal(tmp_path / "sweep", resume=False) as journal:
        options = SweepOptions(modes=BOTH, seconds=5)
        made = Sweeper(scenario, TEXT, options, journal, "stock", 7, now=lambda: next(seconds))
        ledger = SweepLedger([made.trial(Shot(POINTS[0], mode)) for mode in BOTH], print, print, made.is_over)
        assert len(ledger.names(Stage.WAITING)) == 2
        assert ledger.names(Stage.WAITING) == []
        assert ledger.give(f"mix/{POINTS[0].id}-once") and len(ledger.names(Stage.GIVEN)) == 1
        assert made.is_over()


OTHER_KERNELS = [
    ({"kernel": "6.13"}, "its release was `6.12` and is `6.13`"),
    ({"config_hash": "f00"}, "its configuration was `c0de` and is `f00`"),
    ({"build_id": "bb"}, "the build id of its vmlinux was `aa` and is `bb`"),
    ({"build_id": ""}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("change", "words"), OTHER_KERNELS)
@pytest.mark.parametrize("next_step", [Sweeper.check, Sweeper.fail])
def test_no_trial_is_made_on_another_kernel_than_the_recordings(
    tmp_path: Path, next_step: Callable[[Sweeper, object], None], change: dict[str, str], words: str
) -> None:
    """All points would be said not to be reached again: in another build each stack trace is another one."""
    made = sweeper(tmp_path)
    machine = Machine(made._journal)
    machine.started = RunStarted("0", "6.12", "c0de", 1, (), "aa")
    made.record(machine.batch)
    made._journal.close()
    made = sweeper(tmp_path, resume=True)
    machine = Machine(made._journal)
    machine.started = replace(RunStarted("0", "6.12", "c0de", 1, (), "aa"), **change)
    if words:
        with pytest.raises(InjectError, match=f"the points were recorded on another kernel: {words}; go on with that"):
            next_step(made, machine.batch)
    else:
        next_step(made, machine.batch)
    assert bool(machine.ran) == (not words)
    made._journal.close()


def test_a_journal_of_an_older_version_does_not_say_its_build(tmp_path: Path) -> None:
    run(tmp_path, 9, resume=False)
    path = tmp_path / "sweep" / NAME
    path.write_text(path.read_text().replace(',"build_id":""', ""))
    assert "build_id" not in path.read_text()
    made = sweeper(tmp_path, resume=True)
    machine = Machine(made._journal)
    machine.started = replace(machine.started, build_id="bb")
    made.fail(machine.batch)
    assert made.totals().line == EXPECTED


def test_a_workload_that_reaches_nothing(tmp_path: Path) -> None:
    made = sweeper(tmp_path)
    made.record(lambda *_: [Verdict("mix", Status.PASS)])
    made.fail(lambda *_: pytest.fail("there is nothing to run"))
    made._journal.close()
    assert made.totals().line == (
        "points 0: 0 injected, 0 not reached again, 0 skipped; trials 0: 0 passed, 0 findings (0 signatures), 0 errors"
    )


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [
        (Verdict("mix", Status.SKIP, None, "no xfs"), CannotRun),
        (Verdict("mix", Status.ERROR, None, "lost"), InjectError),
    ],
)
def test_without_a_whole_recording_nothing_is_failed(tmp_path: Path, verdict: Verdict, kind: type[InjectError]) -> None:
    made = sweeper(tmp_path)
    with pytest.raises(kind, match=verdict.detail):
        made.record(lambda *_: [verdict])
    assert not made.state.recorded
    made._journal.close()


def test_only_stack_traces_are_failed(tmp_path: Path) -> None:
    with pytest.raises(InjectError, match="by: nth"):
        sweeper(tmp_path, text=TEXT + "sweep: {by: nth}\n")


@pytest.mark.parametrize(
    "line",
    [
        {"type": "trial"},
        {"type": "trial", "trial": "a", "point": "b", "status": "glad"},
        {"type": "point", "function": 3},
        {"type": "begun"},
        {"type": "begun", "trial": []},
    ],
)
def test_a_line_with_other_contents_is_a_sentence(line: dict[str, object]) -> None:
    with pytest.raises(InjectError, match="line 2 of the journal is damaged"):
        state_of([{"type": "recording"}, line])
