"""How far a sweep is: counted once, told on a terminal's last line that destroys no other, or in lines now and then."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Optional

import pytest

from inject.cli.sweep.status import PLAIN, SweepProgress
from inject.fleet.ledger import Ledger
from inject.model.event import Armed
from inject.model.reached import Point
from inject.model.scenario import Fault, Scenario
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.sweep.shot import Mode, Shot
from inject.sweep.tally import RECENT, Tally
from tests.support import ROOT
from tests.support.emulator import Emulator
from tests.support.terminal import Terminal

POINTS = [Point(f"f{number}", "", ("caller+0x1",), 1, 1, "ERRNO") for number in range(3)]
SHOTS = [Shot(point, mode) for point in POINTS for mode in Mode]
PASS = Verdict("any", Status.PASS)
FAIL = Verdict("any", Status.FAIL, Reason.CRASH, "oops")


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def tally(clock: Clock, ended: int = 0, seconds: Optional[float] = None) -> Tally:
    done = [shot.id for shot in SHOTS[:ended]]
    return Tally(SHOTS, done, points=len(POINTS), findings=0, seconds=lambda: seconds, now=clock)


def test_points_and_trials_are_counted_once() -> None:
    clock = Clock()
    made = tally(clock, ended=1)
    assert made.line() == "points 0 of 3, trials 1 of 6, 0 findings"
    for shot, verdict in zip([SHOTS[1], SHOTS[1], SHOTS[2], SHOTS[4]], [FAIL, FAIL, PASS, PASS]):
        clock.time += 10
        made.take(shot.id, verdict)
    made.take("of another batch", FAIL)
    assert made.line() == "points 1 of 3, trials 4 of 6, 1 finding, 4.5 a minute, 27 s left"


def test_the_rate_is_that_of_the_recent_trials() -> None:
    clock = Clock()
    points = [Point(f"f{number}", "", (), 1, 1, "ERRNO") for number in range(RECENT + 20)]
    shots = [Shot(point, Mode.ONCE) for point in points]
    made = Tally(shots, (), points=len(points), now=clock)
    for number, shot in enumerate(shots[:-10]):
        clock.time += 100 if number < 10 else 1
        made.take(shot.id, PASS)
    assert made.line().endswith("60 a minute, 10 s left")


def test_a_bound_in_time_is_the_time_left_if_it_is_nearer() -> None:
    clock = Clock()
    made = tally(clock, seconds=4.0)
    assert made.line().endswith("0 findings, 4.0 s left")
    for shot in SHOTS[:2]:
        clock.time += 10
        made.take(shot.id, PASS)
    assert made.line().endswith("6.0 a minute, 4.0 s left")
    for shot in SHOTS[2:]:
        made.take(shot.id, PASS)
    assert "left" not in made.line()


def scenarios() -> list[Scenario]:
    return [Scenario(f"mix/{shot.id}", "mix.yaml", (Fault("f", "-EIO"),), "true") for shot in SHOTS]


def test_without_a_terminal_a_line_comes_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    ledger = Ledger(scenarios())
    progress = SweepProgress(ledger, tally(clock), now=clock)
    progress.idle()
    progress(Armed(f"mix/{SHOTS[0].id}", 0, ()))
    assert capsys.readouterr().err == ""
    clock.time += PLAIN
    progress.idle()
    progress.idle()
    progress(Verdict(f"mix/{SHOTS[0].id}", Status.PASS))
    clock.time += PLAIN - 1
    progress.idle()
    progress.close()
    assert capsys.readouterr().err.splitlines() == [
        "inject: points 0 of 3, trials 0 of 6, 0 findings",
        f"pass mix/{SHOTS[0].id} 0.0 s",
    ]


def test_a_failure_with_nothing_injected_is_shown_and_counted_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    counts = tally(clock)
    progress = SweepProgress(Ledger(scenarios()), counts, now=clock)
    progress(replace(FAIL, scenario=f"mix/{SHOTS[0].id}", counts=(Counts(3, 3, 0),)))
    progress(replace(FAIL, scenario=f"mix/{SHOTS[1].id}", counts=(Counts(3, 3, 1),)))
    assert counts.line().startswith("points 1 of 3, trials 2 of 6, 1 finding")
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == f"error mix/{SHOTS[0].id} 0.0 s: it failed with nothing injected: oops"
    assert f"fail (crash) mix/{SHOTS[1].id} 0.0 s: oops" in shown, shown


SCRIPT = """
import sys
from tests.unit.test_sweep_status import *
clock = Clock()
progress = SweepProgress(Ledger(scenarios()), tally(clock), now=clock)
for shot in SHOTS[:3]:
    clock.time += 1
    progress.idle()
    if shot is SHOTS[1]:
        progress.note("the guest panicked")
    progress(Verdict(f"mix/{shot.id}", Status.PASS))
clock.time += 1
progress.idle()
sys.argv[1:] or progress.close()
print("end")
"""


@pytest.mark.parametrize(("words", "last"), [(["stay"], True), ([], False)])
def test_on_a_terminal_the_last_line_destroys_no_other(words: list[str], last: bool) -> None:
    terminal = Terminal(rows=12, columns=64)
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words],
        stdout=subprocess.DEVNULL,
        stderr=terminal.inner,
        env=environment,
        cwd=ROOT,
    )
    terminal.process = done
    assert terminal.end() == 0
    screen = Emulator(12, 64)
    screen.feed(terminal.seen)
    lines = [line for line in screen.lines if line]
    passed = [f"pass mix/{shot.id} 0.0 s" for shot in SHOTS[:3]]
    expected = [passed[0], "inject: the guest panicked", *passed[1:]]
    assert lines == [*expected, *(["points 1 of 3, trials 3 of 6, 0 findings, 45 a minute, 4.0 s..."] if last else [])]
