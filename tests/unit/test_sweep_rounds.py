"""Rounds of a sweep: points that show up while something fails, two failures in one trial, and parts of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inject.campaign.shard import Shard
from inject.errors import InjectError
from inject.fleet.ledger import Ledger, Stage
from inject.fleet.request import Request
from inject.model.event import Event, PointReached
from inject.model.reached import Point
from inject.model.scenario import Scenario
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.scenario.load import parse
from inject.sweep import sweeper as sweepers
from inject.sweep.agenda import ALIKE, BEYOND, ELSEWHERE, LATE, UNASKED, agenda
from inject.sweep.journal import NAME, SweepJournal
from inject.sweep.options import SweepOptions
from inject.sweep.shot import CALLERS, RECORDED, Mode, Origin, Shot
from inject.sweep.state import UNREACHED, Ended, count, point_line, state_of, trial_line
from inject.sweep.sweeper import Sweeper

BOTH = (Mode.ONCE, Mode.ONWARD)
TEXT = "name: mix\nfilesystem: {type: xfs}\nfaults: [{function: f, return: -EIO}]\nrun: 'true'\n"
FUNCTIONS = "abcdefgh"
POINTS = {name: Point(name, "", (f"caller+0x{number:x}",), 1, 1, "ERRNO") for number, name in enumerate(FUNCTIONS, 1)}
RECORDING = [POINTS[name] for name in "abcd"]
SHOWS: Mapping[str, str] = {"a": "ef", "b": "fg", "c": "", "ae": "h", "f": "h"}
"""The functions of points that trials reach beside those of the recording, by the functions that they fail.

`e` is reached only when `a` fails, `f` by chance as well; `h` needs two failures, or `f`.
"""
ALONE = "abcdf"
"""Functions that are reached if nothing else fails."""


class World:
    """Runs batches of trials; raises Killed when the journal has had ``patience`` lines."""

    def __init__(self, journal: SweepJournal, patience: int = 1 << 30) -> None:
        self.ran: list[str] = []
        self.requests: list[Request] = []
        self._append = journal.append
        self._patience = patience
        journal.append = self._counted  # type: ignore[method-assign]

    def _counted(self, line: Mapping[str, Any], *, sync: bool = True) -> None:
        if self._patience <= 0:
            raise Killed
        self._patience -= 1
        self._append(line, sync=sync)

    def batch(self, ledger: Ledger, request: Request, on_event: Callable[[Event], None]) -> list[Verdict]:
        self.requests.append(request)
        if request.record is not None:
            for point in RECORDING:
                on_event(PointReached("mix", 0, point))
            return [Verdict("mix", Status.PASS)]
        for scenario in ledger.scenarios:
            if not ledger.names(Stage.WAITING):
                break
            assert ledger.give(scenario.name)
            self.ran.append(scenario.name.partition("/")[2])
            if request.observe is not None:
                for name in shown(scenario):
                    if POINTS[name].id not in request.observe.known:
                        ledger.reach(PointReached(scenario.name, 0, POINTS[name]))
            ledger.settle(judged(scenario))
        return ledger.verdicts()


class Killed(BaseException):
    """The end of inject at any moment."""


def failed(scenario: Scenario) -> str:
    """The functions that fail: of two, the second only if it is reached then."""
    names = [fault.function for fault in scenario.faults]
    if names[0] not in ALONE:
        return ""
    return "".join(names[:1] + [name for name in names[1:] if name in ALONE + SHOWS.get(names[0], "")])


def shown(scenario: Scenario) -> str:
    return SHOWS.get(failed(scenario), "")


def judged(scenario: Scenario) -> Verdict:
    hit = failed(scenario)
    counts = tuple(Counts(1, 1, int(fault.function in hit)) for fault in scenario.faults)
    if hit == "ae":
        return Verdict(scenario.name, Status.FAIL, Reason.DMESG, "dmesg: BUG", counts=counts)
    return Verdict(scenario.name, Status.PASS, counts=counts)


def swept(
    directory: Path, patience: int = 1 << 30, *, resume: bool = False, **options: Any
) -> tuple[Sweeper, World, bool]:
    """A sweep until it ends, or is killed."""
    (scenario,) = parse(TEXT, "mix.yaml", "mix")
    with SweepJournal(directory / "sweep", resume=resume) as journal:
        world = World(journal, patience)
        made = Sweeper(scenario, TEXT, SweepOptions(**options), journal, "stock", 7)
        try:
            made.record(world.batch)
            made.fail(world.batch)
        except Killed:
            return made, world, False
    return made, world, True


def trials(*words: str) -> list[str]:
    """``a`` for `POINT-once`, ``a+e`` for two."""
    return ["+".join(f"{POINTS[name].id}-once" for name in word.split("+")) for word in words]


# ---------------------------------------------------------------- rounds


def test_what_shows_up_in_a_round_is_failed_in_the_next(tmp_path: Path) -> None:
    made, world, _ = swept(tmp_path)
    assert world.ran == trials("a", "b", "c", "d", "e", "f", "g", "h")
    origins = {POINTS[name].id: RECORDED for name in "abcd"}
    origins.update({POINTS[name].id: Origin(1, under) for name, under in zip("efg", trials("a", "a", "b"))})
    origins[POINTS["h"].id] = Origin(2, *trials("f"))
    assert made.state.origins == origins
    assert made.totals().line == (
        "points 8: 5 injected, 3 not reached again, 0 skipped; trials 8: 8 passed, 0 findings (0 signatures), 0 errors"
    )
    rounds = [line for line in made._journal.lines if line["type"] == "round"]
    assert [(line["round"], line["points"], line["trials"]) for line in rounds] == [(1, 4, 4), (2, 7, 3), (3, 8, 1)]


def test_what_shows_up_in_the_last_round_is_known_and_not_failed(tmp_path: Path) -> None:
    made, world, _ = swept(tmp_path, rounds=2)
    assert world.ran == trials("a", "b", "c", "d", "e", "f", "g")
    assert made.plan.skipped == {POINTS["h"].id: LATE}
    assert made.totals().skipped == {LATE: 1}


def test_in_one_round_nothing_is_observed(tmp_path: Path) -> None:
    made, world, _ = swept(tmp_path, rounds=1)
    assert world.ran == trials("a", "b", "c", "d")
    assert [request.observe for request in world.requests] == [None, None]
    assert len(made.state.points) == 4


def test_a_trial_is_told_what_is_known(tmp_path: Path) -> None:
    _, world, _ = swept(tmp_path)
    known = [set(request.observe.known) for request in world.requests if request.observe is not None]
    assert known == [{POINTS[name].id for name in names} for names in ("abcd", "abcdefg", "abcdefgh")]


def test_points_come_before_the_trial_that_reached_them(tmp_path: Path) -> None:
    made, _, _ = swept(tmp_path)
    ended: set[str] = set()
    for line in made._journal.lines:
        if line["type"] == "point":
            assert line["under"] not in ended
            assert (line["round"] == 0) == (line["under"] == "")
        elif line["type"] == "trial":
            ended.add(line["trial"])


def test_a_guest_that_reports_without_end_does_not_fill_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweepers, "MOST_NEW", 1)
    made, _, _ = swept(tmp_path)
    assert {name for name, origin in made.state.origins.items() if origin.round == 1} == {
        POINTS["e"].id,
        POINTS["f"].id,
    }


@pytest.mark.parametrize("depth", [1, 2])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 30), max_size=5), st.booleans())
def test_after_any_end_in_any_round_the_sweep_is_the_same(
    tmp_path: Path, depth: int, kills: list[int], torn: bool
) -> None:
    """Only trials under way are repeated, one for each end."""
    whole, _, _ = swept(tmp_path / "whole", resume=(tmp_path / "whole").exists(), depth=depth)
    directory = tmp_path / f"cut {len(list(tmp_path.iterdir()))}"
    ran: list[str] = []
    for number, patience in enumerate([*kills, 1 << 30]):
        made, world, done = swept(directory, patience, resume=number > 0, depth=depth)
        ran += world.ran
        if not done and torn:
            with (directory / "sweep" / NAME).open("ab") as file:
                file.write(b'{"type": "point", "id": "')
    assert made.totals() == whole.totals()
    assert (made.state.origins, list(made.state.ended)) == (whole.state.origins, list(whole.state.ended))
    assert len(ran) <= len(whole.state.ended) + len(kills) and set(ran) == set(whole.state.ended)


def test_journals_of_older_versions_are_of_the_first_round() -> None:
    event = PointReached("mix", 0, POINTS["a"])
    old = {key: value for key, value in point_line(event, RECORDED).items() if key not in ("round", "under")}
    assert state_of([old]).origins == {POINTS["a"].id: RECORDED}


@pytest.mark.parametrize("origin", [{"round": "x"}, {"round": None}])
def test_a_damaged_origin_is_a_sentence(origin: dict[str, object]) -> None:
    line = {**point_line(PointReached("mix", 0, POINTS["a"]), RECORDED), **origin}
    with pytest.raises(InjectError, match="line 1 of the journal is damaged"):
        state_of([line])


# ---------------------------------------------------------------- limits


def test_the_limit_counts_the_trials_of_all_rounds(tmp_path: Path) -> None:
    made, world, _ = swept(tmp_path, limit=6)
    assert world.ran == trials("a", "b", "c", "d", "e", "f")
    assert made.plan.skipped == {POINTS["g"].id: BEYOND, POINTS["h"].id: BEYOND}


def test_what_shows_up_under_a_point_that_was_asked_for_is_asked_for(tmp_path: Path) -> None:
    made, world, _ = swept(tmp_path, only=(POINTS["a"].id,))
    assert world.ran == trials("a", "e", "f", "h")
    assert made.plan.skipped == {POINTS[name].id: UNASKED for name in "bcd"}


def test_the_time_budget_ends_it_in_mid_round(tmp_path: Path) -> None:
    """The later rounds do not begin before the earlier one is complete."""
    (scenario,) = parse(TEXT, "mix.yaml", "mix")
    with SweepJournal(tmp_path / "sweep", resume=False) as journal:
        world = World(journal)
        made = Sweeper(scenario, TEXT, SweepOptions(seconds=5), journal, "stock", 7, now=lambda: float(len(world.ran)))
        made.record(world.batch)
        made.fail(world.batch)
        assert world.ran == trials("a", "b", "c", "d", "e")
        assert [shot.point for shot in made.left] == [POINTS["f"], POINTS["g"]]
    made, world, _ = swept(tmp_path, resume=True)
    assert world.ran == trials("f", "g", "h") and made.left == []


# ---------------------------------------------------------------- two failures


def test_what_shows_up_only_under_a_failure_is_failed_with_it(tmp_path: Path) -> None:
    """`h` shows up under two failures: it is tried alone, as no trial fails three points."""
    made, world, _ = swept(tmp_path, depth=2)
    assert world.ran == trials("a", "b", "c", "d", "a+e", "a+f", "b+g", "h")
    assert made.totals().line == (
        "points 8: 7 injected, 1 not reached again, 0 skipped; trials 8: 7 passed, 1 findings (1 signatures), 0 errors"
    )
    assert made.state.origins[POINTS["h"].id] == Origin(2, *trials("a+e"))


def test_two_failures_are_two_faults_of_one_scenario(tmp_path: Path) -> None:
    made, _, _ = swept(tmp_path, depth=2)
    first = Shot(POINTS["a"], Mode.ONWARD)
    scenario = made.trial(Shot(POINTS["e"], Mode.ONCE, first))
    assert scenario.name == f"mix/{POINTS['a'].id}-onward+{POINTS['e'].id}-once"
    assert [(fault.function, fault.when.stack) for fault in scenario.faults] == [
        ("a", POINTS["a"].stack),
        ("e", POINTS["e"].stack),
    ]
    assert [fault.when.trigger.limit for fault in scenario.faults] == [None, 1]


def test_a_point_is_failed_alone_if_the_trial_that_reached_it_failed_nothing() -> None:
    """It showed up by chance."""
    origins = {POINTS["e"].id: Origin(1, *trials("a"))}
    points = [POINTS["a"], POINTS["e"]]
    options = SweepOptions(modes=BOTH, depth=2)
    chance = agenda(points, options, origins, fired=())
    fired = agenda(points, options, origins, fired=trials("a"))
    assert [shot.id for shot in chance.shots[2:]] == [f"{POINTS['e'].id}-{mode.value}" for mode in BOTH]
    assert [shot.id for shot in fired.shots[2:]] == trials("a+e")


@pytest.mark.parametrize(
    ("status", "injected", "hit"),
    [
        (Status.PASS, (1, 1), True),
        (Status.PASS, (1, 0), False),
        (Status.FAIL, (1, 0), False),
        (Status.FAIL, (1, 1), True),
        (Status.FAIL, (), False),
    ],
)
def test_of_two_failures_the_second_is_that_of_the_point(status: Status, injected: tuple[int, ...], hit: bool) -> None:
    """The first may be to blame for a finding, and for a guest that was lost."""
    reason = Reason.CRASH if status is Status.FAIL else None
    shot = Shot(POINTS["e"], Mode.ONCE, Shot(POINTS["a"], Mode.ONCE))
    line = trial_line(shot, Verdict("mix", status, reason, "", counts=tuple(Counts(1, 1, n) for n in injected)))
    assert (line["fired"], line["injected"]) == (list(injected), injected[-1] if injected else 0)
    found = count([POINTS["e"]], {}, list(state_of([line]).ended.values()))
    assert (found.injected, dict(found.unreached)) == ((1, {}) if hit else (0, {UNREACHED: 1}))


# ---------------------------------------------------------------- parts


def merged(states: list[dict[str, Ended]]) -> dict[str, Ended]:
    return {name: ended for state in states for name, ended in state.items()}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_parts_add_up_to_the_whole(tmp_path: Path, parts: int, depth: int) -> None:
    """Each trial of a recorded point is made in one part; what shows up in two of them is tried in both."""
    whole, undisturbed, _ = swept(tmp_path / "whole", depth=depth)
    made = [swept(tmp_path / str(n), shard=Shard(n, parts), depth=depth) for n in range(1, parts + 1)]
    ran = [world.ran for _, world, _ in made]
    first = [trial for names in ran for trial in names if trial in trials(*"abcd")]
    assert sorted(first) == sorted(trials(*"abcd"))
    if parts == 1:
        assert ran == [undisturbed.ran]
    points = {point.id: point for one, _, _ in made for point in one.state.points}
    assert points == {point.id: point for point in whole.state.points}
    ended = merged([one.state.ended for one, _, _ in made])
    assert set(ended) >= set(whole.state.ended)
    found, expected = count(list(points.values()), {}, list(ended.values())), whole.totals()
    assert (found.points, found.signatures) == (expected.points, expected.signatures)
    assert found.injected >= expected.injected
    if depth == 1:
        assert found == expected
    for one, _, _ in made:
        total = one.totals()
        assert total.points == total.injected + sum(total.unreached.values()) + sum(total.skipped.values())
        assert set(total.skipped) <= {ELSEWHERE}


def test_the_limit_holds_for_all_parts_together(tmp_path: Path) -> None:
    points = [Point(f"f{number}", "", ("c+0x1",), error_type="ERRNO") for number in range(40)]
    parts = [agenda(points, SweepOptions(modes=BOTH, limit=51, shard=Shard(n, 3))) for n in (1, 2, 3)]
    ids = [shot.id for part in parts for shot in part.shots]
    whole = agenda(points, SweepOptions(modes=BOTH, limit=51))
    assert sorted(ids) == sorted(shot.id for shot in whole.shots) and len(ids) == 50
    beyond = [{point for point, why in part.skipped.items() if why == BEYOND} for part in (*parts, whole)]
    assert beyond[0] == beyond[1] == beyond[2] == beyond[3] and len(beyond[0]) == 15


def test_the_journal_of_another_part_is_refused(tmp_path: Path) -> None:
    swept(tmp_path, shard=Shard(1, 2))
    with pytest.raises(InjectError, match="the journal is of another sweep: shard was '1/2' and is '1/1'"):
        swept(tmp_path, resume=True)
    assert swept(tmp_path, resume=True, shard=Shard(1, 2))[1].ran == []


def test_points_that_no_fault_can_tell_apart_are_failed_once_over_all_rounds() -> None:
    deep = Point("f", "", tuple(f"c{number}+0x1" for number in range(CALLERS)), error_type="ERRNO")
    deeper = Point("f", "", (*deep.stack, "d+0x1"), error_type="ERRNO")
    plan = agenda([deeper, deep], SweepOptions(), {deeper.id: Origin(1, f"{deep.id}-once")})
    assert ([shot.point for shot in plan.shots], plan.skipped) == ([deep], {deeper.id: ALIKE})
