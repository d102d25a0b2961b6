"""The model of the rule language says what the scenario format says; it is the BPF program's yardstick."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tests.support import ROOT
from tests.support.rule_model import Selector, fired, possible, scatter

PROGRAM = (ROOT / "inject/engine/override.bpf.c").read_text()
MATCHES = st.integers(0, 200)
SMALL = st.integers(0, 40)
SEEDS = st.integers(0, (1 << 64) - 1)
HALF = 1 << 63
TRIGGERS = st.builds(
    Selector, after=SMALL, nth=SMALL, every=SMALL, times=SMALL, chance=st.sampled_from((0, 1, HALF, (1 << 64) - 1))
)


def test_scatter_is_splitmix64() -> None:
    """The generator's published outputs for seed 1234567, each the finaliser of the state before it."""
    known = (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821)
    step = 0x9E3779B97F4A7C15
    assert tuple(scatter((1234567 + i * step) & ((1 << 64) - 1)) for i in range(5)) == known


def test_scatter_is_the_programs() -> None:
    """Same constants and shifts in the same order as in override.bpf.c."""
    body = re.search(r"u64 scatter\(u64 x\)\n\{(.*?)\n\}", PROGRAM, re.DOTALL)
    assert body is not None
    assert re.findall(r"0x[0-9a-f]+|>> \d+", body[1]) == [
        "0x9e3779b97f4a7c15",
        ">> 30",
        "0xbf58476d1ce4e5b9",
        ">> 27",
        "0x94d049bb133111eb",
        ">> 31",
    ]
    assert "scatter(rule->seed ^ scatter(ordinal)) >= rule->chance" in PROGRAM


def test_the_programs_order() -> None:
    """after, nth, every, probability, times, budget: an earlier `no` must not use up a later ticket."""
    body = re.search(r"int fires\(.*?\)\n\{(.*?)\n\}", PROGRAM, re.DOTALL)
    assert body is not None
    marks = [
        "<= rule->after",
        "rule->nth",
        "rule->every",
        "rule->chance",
        "control->deadline",
        "rule->times",
        "SPENT(), 1",
    ]
    places = [body[1].index(mark) for mark in marks]
    assert places == sorted(places)


def test_examples() -> None:
    """Of the format's own words, one by one and together."""
    assert fired(Selector(), 4) == (1, 2, 3, 4)
    assert fired(Selector(after=5), 8) == (6, 7, 8)
    assert fired(Selector(nth=3), 8) == (3,)
    assert fired(Selector(after=5, nth=3), 20) == (8,)
    assert fired(Selector(every=3), 10) == (3, 6, 9)
    assert fired(Selector(after=1, every=3, times=2), 20) == (4, 7)
    assert fired(Selector(times=2), 20) == (1, 2)
    assert fired(Selector(times=9), 20, budget=4) == (1, 2, 3, 4)
    assert fired(Selector(nth=3), 2) == ()
    assert fired(Selector(times=2, every=2), 0) == ()


@given(after=SMALL, nth=st.integers(1, 40), matches=MATCHES)
def test_nth_is_the_nth(after: int, nth: int, matches: int) -> None:
    """Exactly the nth match after those let through, or none when there are too few."""
    expected = (after + nth,) if after + nth <= matches else ()
    assert fired(Selector(after=after, nth=nth), matches) == expected


@given(after=SMALL, every=st.integers(1, 40), matches=MATCHES)
def test_every_counts(after: int, every: int, matches: int) -> None:
    """As many as whole groups fit, one group's length apart."""
    found = fired(Selector(after=after, every=every), matches)
    assert len(found) == max(0, matches - after) // every
    assert found == tuple(range(after + every, matches + 1, every))


@given(selector=TRIGGERS, seed=SEEDS, matches=MATCHES, budget=SMALL)
def test_times_and_budget_are_never_exceeded(selector: Selector, seed: int, matches: int, budget: int) -> None:
    """Whatever else is asked; and what they cut off is the end, not the beginning."""
    selector = Selector(selector.after, selector.nth, selector.every, selector.times, selector.chance, seed)
    found = fired(selector, matches, budget)
    free = sorted(possible(selector, matches))
    bounds = [bound for bound in (selector.times, budget, len(free)) if bound or bound == len(free)]
    assert len(found) == min(bounds)
    assert list(found) == free[: len(found)]


@given(seed=SEEDS, chance=st.integers(1, (1 << 64) - 1), matches=MATCHES, more=MATCHES)
def test_a_seed_decides_by_ordinal(seed: int, chance: int, matches: int, more: int) -> None:
    """The same ordinals whatever happens later, and never fewer with a greater chance."""
    found = fired(Selector(chance=chance, seed=seed), matches)
    assert fired(Selector(chance=chance, seed=seed), matches + more)[: len(found)] == found
    likelier = fired(Selector(chance=min(chance * 2, (1 << 64) - 1), seed=seed), matches)
    assert set(found) <= set(likelier)


def test_chance_is_kept_on_average() -> None:
    """Of 20,000 calls a tenth, within five standard deviations; another seed chooses others."""
    tenth = (1 << 64) // 10
    first = fired(Selector(chance=tenth, seed=1), 20000)
    second = fired(Selector(chance=tenth, seed=2), 20000)
    assert abs(len(first) - 2000) < 5 * 43
    assert abs(len(set(first) & set(second)) - 200) < 5 * 15
    assert first != second
