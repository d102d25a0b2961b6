"""Call paths as address ranges, and ranges as the sorted places that the program searches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject.engine.callpath import merge, places
from inject.engine.planner import Planner
from inject.engine.rule import Rule
from inject.model.scenario import When
from tests.support.planning import fault, planner_at, refused


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    return planner_at(tmp_path_factory.mktemp("kernel"))


def spans(rule: Rule) -> dict[int, list[tuple[int, int]]]:
    """Ranges by the number of their class bit."""
    found: dict[int, list[tuple[int, int]]] = {}
    for first, past, bit in rule.path.ranges:
        found.setdefault(bit.bit_length() - 1, []).append((first & 0xFFFFFFFF, past & 0xFFFFFFFF))
    return found


def test_names_become_ranges_up_to_the_next_symbol(planner: Planner) -> None:
    stack = ("open_ctree", "!xfs_mount", "bch2_*", "module:xfs", "module:bcachefs")
    rule = planner.rule(fault(when=When(stack=stack)), 0)
    assert rule.path.names == ("open_ctree", "bch2_*", "module:xfs", "module:bcachefs")
    assert rule.path.forbidden == 1 << 33
    assert spans(rule) == {
        0: [(0x81001000, 0x81001100)],
        33: [(0xC0001000, 0xC0001100)],
        1: [(0x81005000, 0x81005200)],
        2: [(0xC0001000, 0xC0001100 + 4096)],
        3: [(0x81005000, 0x81006000)],
    }


def test_twins_are_both_meant(planner: Planner) -> None:
    assert spans(planner.rule(fault(when=When(stack=("twin",))), 0)) == {0: [(0x81003000, 0x81004000)]}


def test_an_exact_frame_is_the_one_call_before_it(planner: Planner) -> None:
    """Symbols of one name are counted by address; a call may be the last instruction of its function."""
    stack = ("open_ctree+0x45", "twin+0x100", "twin#2+0x1", "!xfs_mount+0xff [xfs]")
    rule = planner.rule(fault(when=When(stack=stack)), 0)
    assert rule.path.names == stack[:3]
    assert spans(rule) == {
        0: [(0x81001044, 0x81001045)],
        1: [(0x810030FF, 0x81003100)],
        2: [(0x81003100, 0x81003101)],
        35: [(0xC00010FE, 0xC00010FF)],
    }
    assert rule.path.entries == ((0xFFFFFFFF81003100,), (0xFFFFFFFF81003000,), (0xFFFFFFFF81001000,))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("open_ctree+0x101", "open_ctree+0x101 is not inside open_ctree; an exact frame is one of the kernel in which"),
        ("open_ctree+0x0", "open_ctree+0x0 is not inside open_ctree"),
        ("open_ctree#2+0x1", "no symbol 2 called open_ctree is in vmlinux; an exact frame is one of the kernel in"),
        ("xfs_mount+0x1", "no symbol xfs_mount is in vmlinux"),
        ("open_ctree+0x1 [xfs]", "no symbol open_ctree is in the module xfs; an exact frame"),
        ("open_ctree+0x1 [btrfs]", "no symbol open_ctree is in the module btrfs; no module of that name"),
    ],
)
def test_a_frame_of_another_kernel(planner: Planner, entry: str, said: str) -> None:
    assert refused(planner, fault(when=When(stack=(entry,)))).startswith(said)


def test_a_path_through_nowhere(planner: Planner) -> None:
    for entry in ("nothing", "nothing_*", "!nothing"):
        said = refused(planner, fault(when=When(stack=(entry,))))
        assert said.startswith(f"nothing in this kernel is called {entry.lstrip('!')}; it may be inlined")
    said = refused(planner, fault(when=When(stack=("module:nothing",))))
    assert said.startswith("no function of a module nothing is in this kernel; no module of that name is loaded")


def test_the_longest_path(planner: Planner) -> None:
    assert len(planner.rule(fault(when=When(stack=("open_ctree",) * 32)), 0).path.names) == 32
    assert (
        refused(planner, fault(when=When(stack=("open_ctree",) * 33)))
        == "`stack` has 33 entries; at most 32, NOFAIL rules included"
    )


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=8))
def test_merge_keeps_every_address_once(pairs: list[tuple[int, int]]) -> None:
    ranges = [(first, first + length) for first, length in pairs]
    merged = merge(ranges)
    assert {a for first, past in ranges for a in range(first, past)} == {
        a for first, past in merged for a in range(first, past)
    }
    assert all(left[1] < right[0] for left, right in zip(merged, merged[1:]))


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 30), st.integers(0, 3)), max_size=6), st.integers(0, 100))
def test_the_last_place_before_an_address_has_all_its_classes(spans: list[tuple[int, int, int]], address: int) -> None:
    ranges = [(first, first + length, 1 << bit) for first, length, bit in spans]
    wanted = 0
    for first, past, bit in ranges:
        wanted |= bit if first <= address < past else 0
    found = [(0, 0), *places(ranges)]
    assert [classes for at, classes in found if at <= address][-1] == wanted
    assert found == sorted(found) and len({at for at, _ in found}) == len(found)
    assert all(before != after for (_, before), (_, after) in zip(found, found[1:]))
    assert found[-1][1] == 0
