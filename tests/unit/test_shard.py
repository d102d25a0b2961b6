"""A division of scenarios that every machine finds by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject import scenario as scenarios
from inject.campaign.shard import MOST, Shard
from inject.model.scenario import Fault, Scenario
from tests.support.command import inject


def named(*names: str) -> list[Scenario]:
    """Scenarios of these names."""
    return [Scenario(name, f"{name}.yaml", (Fault("f", "-EIO"),), "true") for name in names]


@given(st.lists(st.text(), unique=True), st.integers(1, 9))
def test_each_is_in_exactly_one_part_and_order_is_kept(names: list[str], count: int) -> None:
    whole = named(*names)
    parts = [Shard(index, count).part(whole) for index in range(1, count + 1)]
    assert sorted(s.name for part in parts for s in part) == sorted(names)
    for part in parts:
        assert part == [scenario for scenario in whole if scenario in part]


def test_a_new_scenario_moves_no_other() -> None:
    before = Shard(1, 3).part(named(*map(str, range(50))))
    after = Shard(1, 3).part(named("new", *map(str, range(50))))
    assert [s for s in after if s.name != "new"] == before


def test_the_same_everywhere() -> None:
    """Not Python's own hash, which changes from process to process."""
    assert [Shard(1, 2).holds(name) for name in NAMES] == HOLDS


NAMES = ("a", "d", "g", "smoke/mkdir", "smoke/rename")
HOLDS = [True, False, False, True, True]


def test_parts_of_the_library_are_of_like_size() -> None:
    found = scenarios.load(["scenarios"])
    sizes = [len(Shard(index, 2).part(found)) for index in (1, 2)]
    assert sum(sizes) == len(found)
    assert min(sizes) > len(found) / 4


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1 / 2", "1/1001", "١/٢"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="part"):
        Shard.parse(text)


@given(st.integers(1, MOST), st.data())
def test_round_trip(count: int, data: st.DataObject) -> None:
    shard = Shard(data.draw(st.integers(1, count)), count)
    assert Shard.parse(str(shard)) == shard


def test_the_command_says_what_is_wrong() -> None:
    done = inject("run", "scenarios/smoke", "--shard", "3/2")
    assert done.returncode == 2
    assert "part 3 of 2 does not exist" in done.stderr
