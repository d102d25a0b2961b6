"""Call paths as address ranges, and ranges as the trie that the program asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject.engine.callpath import merge, prefixes, trie
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


ADDRESSES = st.integers(0, 300) | st.integers(0xFFFFFFFF81000000, 0xFFFFFFFF81000100)


@given(first=ADDRESSES, length=st.integers(0, 300), probes=st.lists(st.integers(-4, 304), max_size=20))
def test_prefixes_cover_the_range_and_nothing_else(first: int, length: int, probes: list[int]) -> None:
    blocks = prefixes(first, first + length)
    assert all(address % (1 << 64 - fixed) == 0 for address, fixed in blocks)
    assert sum(1 << 64 - fixed for _, fixed in blocks) == length
    for probe in probes:
        inside = any(start <= first + probe < start + (1 << 64 - fixed) for start, fixed in blocks)
        assert inside is (0 <= probe < length)


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 30), st.integers(0, 3)), max_size=6), st.integers(0, 100))
def test_the_trie_answers_with_every_class_of_an_address(spans: list[tuple[int, int, int]], address: int) -> None:
    """Longest prefix first, as BPF_MAP_TYPE_LPM_TRIE looks up (kernel/bpf/lpm_trie.c)."""
    ranges = [(first, first + length, 1 << bit) for first, length, bit in spans]
    wanted = 0
    for first, past, bit in ranges:
        wanted |= bit if first <= address < past else 0
    best, found = -1, 0
    for key, mask in trie(5, ranges):
        length, slot = (int.from_bytes(key[at : at + 4], "little") for at in (0, 4))
        assert slot == 5 and 32 <= length <= 96
        fixed = length - 32
        if int.from_bytes(key[8:], "big") >> 64 - fixed == address >> 64 - fixed and fixed > best:
            best, found = fixed, mask
    assert found == wanted
