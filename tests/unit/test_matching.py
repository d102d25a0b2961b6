"""Matches of a scenario's expressions: what they mean, and that none takes longer than its limit."""

from __future__ import annotations

import threading

import pytest

from inject.errors import Place
from inject.model.expression import Expression, described
from inject.process import matching
from inject.process.matching import Runaway, matches, may_take_long

SLOW = "a" * 40 + "!"


def test_anchors_mean_lines() -> None:
    assert matches("^dd: .*$", ["before\ndd: failed\nafter", "before dd: failed"]) == [True, False]
    assert matches(r"\Abefore", ["before\nafter"]) == [True]


def test_no_text_is_matched_by_nothing() -> None:
    assert matches("(a+)+$", []) == []


@pytest.mark.parametrize("pattern", ["(a+)+$", r"((\w|\W)+)+ZZZ$", "(a|aa)*$", r"(?x) (a+) +$", r"(a*)*b\1"])
def test_a_match_without_end_is_ended(pattern: str) -> None:
    with pytest.raises(Runaway) as caught:
        matches(Expression(pattern, "output", Place("s.yaml", 16, 11)), [SLOW * 2], limit=0.3)
    assert str(caught.value).startswith(f"the regular expression `{pattern}` of `output` (s.yaml:16:11) did not end")


def test_in_a_thread_as_well() -> None:
    caught: list[Exception] = []

    def work() -> None:
        try:
            matches("(a+)+$", [SLOW], limit=0.3)
        except Runaway as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert len(caught) == 1


def test_long_texts_without_nested_repeats_are_bounded_too() -> None:
    """A repeat that reads the rest of the text at each of its characters."""
    with pytest.raises(Runaway):
        matches("a*a*a*b", ["a" * 20_000], limit=0.3)


def test_what_a_fork_finds_is_the_same() -> None:
    texts = ["aab", "c", "a\nb\n"]
    assert may_take_long("^(a+)+b?$", texts)
    assert matches("^(a+)+b?$", texts) == [True, False, True]


def test_what_cannot_take_long_needs_no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork(*_: object, **__: object) -> None:
        raise AssertionError("forked")

    monkeypatch.setattr(matching, "run_forked", no_fork)
    assert matches("No space left", ["x" * 100_000]) == [False]
    assert matches("^dd: error writing '.*/new': No space", ["dd: error writing '/mnt/new': No space left"]) == [True]
    assert matches("bcachefs .* emergency read.only", ["bcachefs (vdb): emergency read only"] * 50) == [True] * 50


def test_an_expression_without_a_place_is_described_by_its_text() -> None:
    assert described("a+") == described(Expression("a+")) == "the regular expression `a+`"
    assert Expression("a+", "output", Place("f")) == "a+"
