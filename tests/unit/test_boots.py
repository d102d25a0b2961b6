"""A trial that was under way when the machine ended counts as a crash, once, and only if the machine made it itself."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from inject.fleet.ledger import Ledger, Stage
from inject.model.event import PointReached
from inject.model.reached import Point
from inject.model.verdict import Counts, Status, Verdict
from inject.scenario.load import parse
from inject.sweep.boots import boot_id, ended
from inject.sweep.investigation import Investigation
from inject.sweep.journal import SweepJournal
from inject.sweep.options import SweepOptions
from inject.sweep.sweeper import Sweeper

TEXT = "name: mix\nfaults: [{function: f0, return: -EIO}]\nrun: 'true'\n"
POINTS = [Point(f"f{number}", "", ("caller+0x1",), 1, 1, "ERRNO") for number in range(3)]


class Ended(BaseException):
    """The end of the machine."""


def machine(ledger: Ledger, ending: str) -> list[Verdict]:
    """Make the trials up to the one in which the machine ends."""
    for scenario in ledger.scenarios:
        assert ledger.give(scenario.name)
        if scenario.faults[0].function == ending:
            raise Ended
        ledger.settle(Verdict(scenario.name, Status.PASS))
    return ledger.verdicts()


def run(directory: Path, boot: str, ending: str = "", *, resume: bool = True) -> tuple[list[str], list[dict[str, Any]]]:
    """What was said of earlier boots, and the trials of this one; ``ending`` is the function that ends it."""
    (scenario,) = parse(TEXT, "mix.yaml", "mix")
    with SweepJournal(directory, resume=resume) as journal:
        made = Sweeper(scenario, TEXT, SweepOptions(), journal, "this machine's 6.12", 1, boot=boot)
        said, before = made.blame_boots(), len(journal.lines)

        def record(_ledger: Ledger, _request: object, on_event: Any) -> list[Verdict]:
            for point in POINTS:
                on_event(PointReached("mix", 0, point))
            return [Verdict("mix", Status.PASS)]

        try:
            made.record(record)
            made.fail(lambda ledger, _request, _take: machine(ledger, ending))
        except Ended:
            pass
        return said, [dict(line) for line in journal.lines[before:] if line["type"] in ("begun", "trial")]


def test_the_trial_that_ended_the_machine_is_a_crash_and_not_made_again(tmp_path: Path) -> None:
    said, lines = run(tmp_path, "first", "f1", resume=False)
    assert said == [] and [line.get("boot") for line in lines] == ["first", None, "first"]
    said, lines = run(tmp_path, "second")
    assert said == [
        f"the machine was booted anew since the trial {POINTS[1].id}-once began, which counts as a crash",
    ]
    assert [line["trial"] for line in lines if line["type"] == "begun"] == [f"{POINTS[2].id}-once"]
    with SweepJournal(tmp_path, resume=True) as journal:
        (crash,) = [line for line in journal.lines if line["type"] == "trial" and line["status"] == "fail"]
    assert (crash["trial"], crash["reason"]) == (f"{POINTS[1].id}-once", "crash")
    assert "f1 armed, the machine ended" in crash["detail"]


def test_in_the_same_boot_inject_was_killed_and_the_trial_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, "first", "f1", resume=False)
    said, lines = run(tmp_path, "first")
    assert said == []
    assert [line["trial"] for line in lines if line["type"] == "trial"] == [f"{point.id}-once" for point in POINTS[1:]]


def test_a_trial_that_was_interrupted_is_not_to_blame_for_a_later_boot(tmp_path: Path) -> None:
    """`reboot` sends SIGTERM first: inject writes its last line, and the machine is booted anew."""
    run(tmp_path, "first", "f1", resume=False)
    with SweepJournal(tmp_path, resume=True) as journal:
        journal.append({"type": "end", "reason": "interrupted"})
    said, lines = run(tmp_path, "second")
    assert said == []
    assert [(line["trial"], line["status"]) for line in lines if line["type"] == "trial"] == [
        (f"{point.id}-once", "pass") for point in POINTS[1:]
    ]


def look(directory: Path, boot: str, dies: Collection[str]) -> tuple[list[str], list[str], str]:
    """A run that repeats the finding, up to a step of ``dies``, in which the machine ends.

    What was said of earlier boots, the steps that began, and the finding's entry for the user.
    """
    (scenario,) = parse(TEXT, "mix.yaml", "mix")
    began: list[str] = []

    def make(ledger: Ledger, _request: object, _take: object) -> list[Verdict]:
        while waiting := ledger.names(Stage.WAITING):
            assert ledger.give(waiting[0])
            began.append(waiting[0].rpartition("/")[2])
            if began[-1] in dies:
                raise Ended
            ledger.settle(Verdict(waiting[0], Status.PASS, counts=(Counts(1, 1, 1),)))
        return ledger.verdicts()

    with SweepJournal(directory, resume=True) as journal:
        made = Sweeper(scenario, TEXT, SweepOptions(), journal, "this machine's 6.12", 1, boot=boot)
        made.blame_boots()
        found = Investigation(made, journal, (), 40, 1)
        said = found.blame_boots()
        with contextlib.suppress(Ended):
            found.run(make)
        after = Investigation(made, journal, (), 40, 1)
        after.run(None)
        (dossier,) = after.dossiers("inject run")
        return said, began, dossier.again()


def test_a_step_that_ended_the_machine_is_a_crash_and_not_made_again(tmp_path: Path) -> None:
    """Each repetition of a crash costs a boot, and brings the finding one step on."""
    run(tmp_path, "0", "f2", resume=False)
    run(tmp_path, "1")
    looks = [look(tmp_path, str(number), {"again-1", "stack-0", "run-1", "run-2", "trace"}) for number in range(1, 8)]
    steps = [began for _, began, _ in looks]
    assert steps == [["again-1"], ["stack-0"], ["run-1"], ["run-2"], ["run-3", "trace"], [], []]
    assert [len(said) for said, _, _ in looks] == [0, 1, 1, 1, 1, 1, 0]
    (words,) = looks[1][0]
    assert words.startswith("the machine was booted anew since again-1 of the finding ")
    assert looks[-1][2] == "2 of 3 runs failed with this signature: reproducible"


def test_a_step_of_this_boot_or_of_a_guest_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, "0", "f2", resume=False)
    run(tmp_path, "1")
    for boot in ("1", "1", ""):
        said, began, _ = look(tmp_path, boot, {"again-1"})
        assert (said, began) == ([], ["again-1"])
    assert look(tmp_path, "2", {"again-1"})[:2] == ([], ["again-1"]), "a guest began it last"


@pytest.mark.parametrize(
    ("then", "now", "blamed"),
    [("a", "b", True), ("a", "a", False), ("", "b", False), ("a", "", False)],
)
def test_only_a_trial_of_this_machine_is_to_blame_for_its_end(then: str, now: str, blamed: bool) -> None:
    assert ended({"t": then}, now) == ["t"] * blamed


def test_a_boot_has_one_id() -> None:
    assert boot_id() == boot_id() != ""
