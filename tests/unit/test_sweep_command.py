"""The command around a sweep: exit codes, the last line, and each bad end as one sentence with the next step."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

import click
import pytest
from click.testing import CliRunner

from inject.cli.sweep import command
from inject.cli.sweep.command import run_sweep
from inject.cli.sweep.options import SweepChoice, sweep_options, the_scenario
from inject.errors import CannotRun, InjectError
from inject.fleet.ledger import Ledger, Stage
from inject.fleet.request import Request
from inject.model.event import Event, PointReached
from inject.model.reached import Point
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.sweep.agenda import BEYOND, UNASKED
from inject.sweep.journal import NAME
from inject.sweep.report.write import HTML, KTAP
from inject.sweep.state import UNENDED, UNJUDGED
from inject.sweep.sweeper import Batch, Sweeper

TEXT = "name: mix\nfaults: [{function: f0, return: -EIO}]\nrun: 'true'\n"
POINTS = [Point(f"f{number}", "", ("caller+0x1",), 1, 1, "ERRNO") for number in range(4)]


class FakeGuests:
    """Runs batches: functions named in ``ends`` have these verdicts; ``stop`` is raised in the trial of its key."""

    def __init__(self) -> None:
        self.ends: dict[str, Status] = {}
        self.stop: dict[str, Callable[[], BaseException]] = {}
        self.points = POINTS
        self.traced: set[str] = set()
        """Trials whose errors were to be followed."""
        self.observed: set[str] = set()
        """Trials that were to report what they reach."""

    def batch(self, ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        if request.record is not None:
            for point in self.points:
                on_event(PointReached("mix", 0, point))
            return [Verdict("mix", Status.PASS)]
        for name in [scenario.name for scenario in ledger.scenarios]:
            assert ledger.give(name)
            self.traced |= {name} if request.trace else set()
            self.observed |= {name} if request.observe else set()
            function = "baseline" if name.endswith("/baseline") else ledger.scenario(name).faults[0].function
            if function in self.stop:
                raise self.stop[function]()
            status = self.ends.get(function, Status.PASS)
            reason = Reason.CRASH if status is Status.FAIL else None
            words = "" if status is Status.PASS else f"{function} did it"
            hit = int(status is not Status.ERROR)
            ledger.settle(Verdict(name, status, reason, words, counts=(Counts(1, 1, hit),), exit=0))
        return ledger.verdicts()


@pytest.fixture
def guests() -> FakeGuests:
    return FakeGuests()


def sweep(directory: Path, guests: FakeGuests, *words: str) -> int:
    """`inject vm sweep mix.yaml WORDS` with other guests; the exit code."""
    directory.mkdir(exist_ok=True)
    file = directory / "mix.yaml"
    file.write_text(TEXT)

    @click.command()
    @sweep_options
    def run(**values: Any) -> int:
        choice = SweepChoice.taken(values)
        return run_sweep(the_scenario(str(file)), choice, "stock", "inject vm run", lambda _: guests.batch)

    words = ("--rounds", "1", *words, "-o", str(directory / "out"), "--reproduce", "0")
    return int(run.main(list(words), standalone_mode=False))


def lines(directory: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (directory / "out" / NAME).read_text().splitlines()]
    return [line for line in found if line["type"] == kind]


def reported(directory: Path) -> str:
    """The totals of the reports; the page has the same as the others."""
    last = (directory / "out" / KTAP).read_text().splitlines()[-1][2:]
    assert f"<p>{last}</p>" in (directory / "out" / HTML).read_text()
    return last


def test_errors_are_followed_if_asked_in_trials_only(tmp_path: Path, guests: FakeGuests) -> None:
    assert sweep(tmp_path, guests) == 0 and guests.traced == set()
    assert sweep(tmp_path / "traced", guests, "--trace", "--rounds", "3") == 0
    assert guests.traced == {f"mix/{point.id}-once" for point in POINTS}
    assert guests.observed == set(), "a return probe changes the stack traces of what a trial reaches"
    assert sweep(tmp_path / "rounds", guests, "--rounds", "2") == 0 and len(guests.observed) == len(POINTS)


def test_errors_are_not_followed_where_two_points_fail(tmp_path: Path, guests: FakeGuests) -> None:
    with pytest.raises(click.UsageError, match="--depth 2 .* with --trace nothing does"):
        sweep(tmp_path, guests, "--trace", "--depth", "2", "--rounds", "3")


@pytest.mark.parametrize(
    ("ends", "code", "last"),
    [
        ({}, 0, "4 passed, 0 findings (0 signatures), 0 errors"),
        ({"f1": Status.FAIL, "f2": Status.ERROR}, 1, "2 passed, 1 findings (1 signatures), 1 errors"),
        ({"f2": Status.ERROR}, 4, "3 passed, 0 findings (0 signatures), 1 errors"),
    ],
)
def test_the_exit_code_and_the_last_line(
    tmp_path: Path,
    guests: FakeGuests,
    capsys: pytest.CaptureFixture[str],
    ends: dict[str, Status],
    code: int,
    last: str,
) -> None:
    guests.ends = ends
    assert sweep(tmp_path, guests) == code
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].endswith(f"trials 4: {last}")
    (end,) = lines(tmp_path, "end")
    assert f"{end['passed']} passed, {end['findings']} findings ({end['signatures']} signatures)" in last
    assert (end["errors"], end["reason"]) == (int(last.split()[-2]), "")
    assert ("1 trial could not be judged: f2 did it" in shown.err) == ("f2" in ends)
    assert json.loads((tmp_path / "out" / NAME).read_text().splitlines()[-1]) == end
    assert reported(tmp_path) == shown.out.splitlines()[-1]


def test_an_interrupted_sweep_reports_what_it_has_and_goes_on(
    tmp_path: Path, guests: FakeGuests, capsys: pytest.CaptureFixture[str]
) -> None:
    guests.stop["f2"] = KeyboardInterrupt
    assert sweep(tmp_path, guests) == 130
    shown = capsys.readouterr()
    assert "interrupted; make the trials that are left with --resume -o " in shown.err
    assert "trials 2: 2 passed" in shown.out.splitlines()[-1]
    assert reported(tmp_path) == shown.out.splitlines()[-1], "the reports are written after an interruption, too"
    assert lines(tmp_path, "end")[-1]["reason"] == "interrupted"
    guests.stop.clear()
    assert sweep(tmp_path, guests, "--resume") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "trials 4: 4 passed" in last and reported(tmp_path) == last
    assert lines(tmp_path, "end")[-1]["reason"] == ""


class FakeHere:
    """This machine: the trial of ``spoils`` fails, shows a new point, and leaves a kernel that must not run more."""

    def __init__(self, guests: FakeGuests, spoils: str) -> None:
        self.ran: list[str] = []
        self.unusable = ""
        self._guests = guests
        self._spoils = spoils

    def run(self, ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        if self.unusable:
            raise InjectError(f"this kernel must not run more trials: {self.unusable}", "reboot")
        if request.record is not None:
            self.unusable = "it has oopsed" if self._spoils == "recording" else ""
            return self._guests.batch(ledger, request, on_event)
        while (waiting := ledger.names(Stage.WAITING)) and not self.unusable:
            name = waiting[0]
            assert ledger.give(name)
            self.ran.append(name.partition("/")[2])
            function = "baseline" if name.endswith("/baseline") else ledger.scenario(name).faults[0].function
            if function != self._spoils:
                ledger.settle(Verdict(name, Status.PASS, counts=(Counts(1, 1, 1),), exit=0))
                continue
            self.unusable = "it has oopsed"
            if function == "baseline":
                ledger.settle(Verdict(name, Status.PASS, exit=0))
                continue
            ledger.reach(PointReached(name, 0, Point("new", "", ("caller+0x1",), 1, 0, "ERRNO")))
            ledger.settle(Verdict(name, Status.FAIL, Reason.CRASH, "oops", counts=(Counts(1, 1, 1),)))
        return ledger.verdicts()


@pytest.mark.parametrize(
    ("spoils", "words", "code", "last"),
    [
        ("f3", ["--rounds", "2", "--reproduce", "0"], 1, "points 5: 4 injected, 0 not reached again, 1 skipped; "),
        ("f3", ["--rounds", "1", "--reproduce", "9"], 1, "points 5: 4 injected, 0 not reached again, 1 skipped; "),
        ("f1", ["--rounds", "2", "--reproduce", "9"], 1, "points 5: 2 injected, 0 not reached again, 3 skipped; "),
        (
            "recording",
            ["--rounds", "2", "--reproduce", "9"],
            4,
            "points 4: 0 injected, 0 not reached again, 4 skipped; ",
        ),
        (
            "baseline",
            ["--rounds", "2", "--reproduce", "9"],
            4,
            "points 4: 0 injected, 0 not reached again, 4 skipped; ",
        ),
    ],
)
def test_a_kernel_that_must_run_no_more_ends_the_sweep_with_its_report(
    tmp_path: Path,
    guests: FakeGuests,
    capsys: pytest.CaptureFixture[str],
    spoils: str,
    words: list[str],
    code: int,
    last: str,
) -> None:
    """Whatever would come next: the rest of a round, another round, or a look into the findings."""
    file = tmp_path / "mix.yaml"
    file.write_text(TEXT)
    choice = chosen_by("-o", str(tmp_path / "out"), *words)
    machine = FakeHere(guests, spoils)

    def ready(made: Sweeper) -> Batch:
        return command._here(made, machine)  # type: ignore[arg-type]

    assert run_sweep(the_scenario(str(file)), choice, "this machine's 6.12", "inject run", ready, boot="b") == code
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].startswith(last)
    assert shown.err.count("this kernel must not run more trials: it has oopsed") == 1
    assert "reboot, and make those that are left with --resume -o" in shown.err
    assert lines(tmp_path, "end")[-1]["reason"] == "unusable"
    assert reported(tmp_path) == shown.out.splitlines()[-1]
    assert len(machine.ran) == len(lines(tmp_path, "begun")) + (spoils != "recording")


def test_a_bound_is_said(tmp_path: Path, guests: FakeGuests, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(tmp_path, guests, "--limit", "3") == 0
    assert "points are left, because of --limit or --rounds" in capsys.readouterr().err
    assert lines(tmp_path, "end")[-1]["reason"] == "limit"
    assert BEYOND in (tmp_path / "out" / HTML).read_text().replace("&#39;", "'")
    assert sweep(tmp_path, guests, "--resume", "--limit", "9") == 0
    assert lines(tmp_path, "end")[-1]["trials"] == 4


def why_left(directory: Path) -> list[str]:
    """Why points have no trial, as report.html has it."""
    page = (directory / "out" / HTML).read_text().replace("&#39;", "'")
    return [why for why in (BEYOND, UNASKED, UNENDED, UNJUDGED) if why in page]


def test_a_resume_of_some_points_reports_what_all_runs_found(
    tmp_path: Path, guests: FakeGuests, capsys: pytest.CaptureFixture[str]
) -> None:
    """The terminal, the exit code, the journal's last line and the reports count the same trials."""
    guests.ends = {"f1": Status.FAIL, "f2": Status.ERROR}
    assert sweep(tmp_path, guests, "--modes", "once,onward") == 1
    capsys.readouterr()
    guests.ends = {}
    assert sweep(tmp_path, guests, "--resume", "--only", POINTS[0].id) == 1
    shown = capsys.readouterr()
    assert (
        shown.out.splitlines()[-1]
        == reported(tmp_path)
        == (
            "points 4: 3 injected, 0 not reached again, 1 skipped; "
            "trials 8: 4 passed, 2 findings (1 signatures), 2 errors"
        )
    )
    assert "4 points, 1 trials, 1 have ended" in shown.err
    end = lines(tmp_path, "end")[-1]
    assert (end["trials"], end["findings"], end["errors"], end["skipped"]) == (8, 2, 2, 1)
    assert (tmp_path / "out" / lines(tmp_path, "finding")[-1]["directory"] / "scenario.yaml").exists()
    assert why_left(tmp_path) == [UNJUDGED]


def test_why_a_point_has_no_trial_is_what_the_last_run_says(tmp_path: Path, guests: FakeGuests) -> None:
    assert sweep(tmp_path, guests, "--limit", "2") == 0
    assert why_left(tmp_path) == [BEYOND]
    assert sweep(tmp_path, guests, "--resume", "--only", POINTS[2].id) == 0
    assert why_left(tmp_path) == [UNASKED]
    guests.stop["f3"] = KeyboardInterrupt
    assert sweep(tmp_path, guests, "--resume") == 130
    assert why_left(tmp_path) == [UNENDED]
    assert sweep(tmp_path, guests, "--resume", "--limit", "3") == 0
    assert why_left(tmp_path) == [BEYOND]
    before = len(lines(tmp_path, "left"))
    assert sweep(tmp_path, guests, "--resume", "--limit", "3") == 0
    assert len(lines(tmp_path, "left")) == before, "it is said once"
    guests.stop.clear()
    assert sweep(tmp_path, guests, "--resume") == 0
    assert why_left(tmp_path) == []


@contextmanager
def room(size: Optional[int]) -> Iterator[None]:
    """Files may grow to ``size`` bytes, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size or old[0], old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.7, 0.8, 0.9, 0.99])
def test_a_full_disk_loses_no_trial(tmp_path: Path, guests: FakeGuests, part: float) -> None:
    """Wherever the journal ends, the rest is made once there is room."""
    guests.ends = {"f1": Status.FAIL}
    (tmp_path / "whole").mkdir()
    assert sweep(tmp_path / "whole", guests) == 1
    size = (tmp_path / "whole" / "out" / NAME).stat().st_size
    with room(int(part * size)), pytest.raises(InjectError, match="make room, and go on with --resume"):
        sweep(tmp_path, guests)
    assert (tmp_path / "out" / NAME).read_bytes().endswith((b"\n", b"")), "no line is torn"
    begun = {line["trial"] for line in lines(tmp_path, "begun")}
    assert sweep(tmp_path, guests, *["--resume"] * bool(begun)) == 1
    trials = [line["trial"] for line in lines(tmp_path, "trial")]
    assert len(set(trials)) == len(trials) == 4
    assert len(lines(tmp_path, "begun")) <= 5


def test_reports_that_cannot_be_written_are_a_remark(
    tmp_path: Path, guests: FakeGuests, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_journals: object, _directory: Path) -> None:
        raise CannotRun("jinja2 is not installed", "apt install python3-jinja2")

    monkeypatch.setattr(command, "write_reports", refused)
    assert sweep(tmp_path, guests) == 0
    shown = capsys.readouterr()
    assert (
        "the reports are not written: jinja2 is not installed; apt install python3-jinja2; `inject report" in shown.err
    )
    assert shown.out.splitlines()[-1].startswith("points 4: ")


@pytest.mark.parametrize(
    ("words", "points", "sentence"),
    [
        ((), [], "reaches none of the functions that are recorded; choose others"),
        (("--only", "nix"), POINTS, "no point's name begins with `nix` (--only); "),
        ((), [Point("f", "", (), 1, 1, "BOOL")], "none of the points of mix can be failed: 1 returns a value"),
    ],
)
def test_nothing_to_fail(
    tmp_path: Path, guests: FakeGuests, words: tuple[str, ...], points: list[Point], sentence: str
) -> None:
    guests.points = points
    with pytest.raises(InjectError) as caught:
        sweep(tmp_path, guests, *words)
    assert sentence in str(caught.value)
    guests.points = POINTS
    assert sweep(tmp_path, guests) == 0, "the directory is not blocked"


def test_a_broken_workload_is_said_before_any_trial(tmp_path: Path, guests: FakeGuests) -> None:
    guests.ends = {"baseline": Status.FAIL}
    with pytest.raises(InjectError, match=r"mix fails with no fault armed \(crash\): baseline did it; change"):
        sweep(tmp_path, guests)
    assert lines(tmp_path, "begun") == []


def test_options_that_are_no_directory_or_no_mode(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    @click.command()
    @sweep_options
    def run(**_: Any) -> None:
        pytest.fail("it must not begin")

    for words, sentence in (
        (["-o", str(tmp_path / "file")], "is a file"),
        (["--modes", "twice"], "write once, onward"),
    ):
        done = CliRunner().invoke(run, words)
        assert done.exit_code == 2 and sentence in done.output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0", "`0` is not a failure; write an errno such as -EIO"),
        ("NULL", "`NULL` is not a failure"),
        ("true", "`true` is not a failure"),
        ("VM_FAULT_OOM", "`VM_FAULT_OOM` is not a failure"),
        ("-4000", "`-4000` is not a failure"),
        ("ENOMEM", "an errno must be negative and in capitals, got `ENOMEM`; write -ENOMEM"),
        ("-enomem", "write -ENOMEM"),
        ("-EFOO", "there is no errno `EFOO`"),
        ("5", "no error-injectable function may return `5`; write -5"),
        ("", "`--return` has no value"),
    ],
)
def test_only_a_failure_is_returned(tmp_path: Path, guests: FakeGuests, text: str, sentence: str) -> None:
    """A success would fail no call, and a misspelt one would be noticed after the recording."""
    with pytest.raises(click.BadParameter) as caught:
        sweep(tmp_path, guests, "--return", text)
    assert sentence in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("text", "errno"), [("-EIO", "-EIO"), ("-5", "-EIO"), ("-BCH_ERR_x", "-BCH_ERR_x")])
def test_an_errno_has_one_name(tmp_path: Path, guests: FakeGuests, text: str, errno: str) -> None:
    assert sweep(tmp_path, guests, "--return", text) == 0
    assert [line["errno"] for line in lines(tmp_path, "sweep")] == [errno]


def test_resume_goes_on_with_the_latest_sweep_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after midnight, when the directory of a new one would have another name."""
    monkeypatch.chdir(tmp_path)
    other = ("sweep-mix-2026-01-09", "sweep-mix-2026-01-10", "sweep-mix-more-2026-01-11", "sweep-mix-2026-01-12")
    for name in other:
        (tmp_path / name).mkdir()
    for name in other[:3]:
        (tmp_path / name / NAME).touch()
    choice = chosen_by()
    assert choice.directory("mix.yaml").name not in other
    assert replace(choice, resume=True).directory("some/mix.yaml") == Path("sweep-mix-2026-01-10")
    assert replace(choice, resume=True, output=Path("o")).directory("mix.yaml") == Path("o")
    assert replace(choice, resume=True).directory("nix.yaml") == choice.directory("nix.yaml")


def chosen_by(*words: str) -> SweepChoice:
    """What the command line says."""

    @click.command()
    @sweep_options
    def run(**values: Any) -> SweepChoice:
        return SweepChoice.taken(values)

    found = run.main(list(words), standalone_mode=False)
    assert isinstance(found, SweepChoice)
    return found


def test_a_file_of_several_scenarios(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(TEXT + "---\n" + TEXT.replace("mix", "other"))
    with pytest.raises(click.UsageError, match="has 2 scenarios: a sweep is of one"):
        the_scenario(str(tmp_path / "two.yaml"))
