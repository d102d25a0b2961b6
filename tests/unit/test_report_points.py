"""The table of points for people."""

from __future__ import annotations

from inject.model.reached import Point, Skipped
from inject.report.points import render, summary

STACK = tuple(f"caller{number}+0x1" for number in range(9))
POINTS = [Point("bch2_write", "bcachefs", STACK, 120, 7), Point("f", "", ("g+0x2 [xfs]",), 1, 1)]
SKIPPED = [Skipped(f"void{number}", "", "returns nothing") for number in range(5)] + [Skipped("a_put", "", "is unsafe")]


def test_a_row_for_each_point_and_a_line_for_each_reason() -> None:
    path = " < ".join(f"caller{number}" for number in range(6))
    assert render(POINTS, SKIPPED, width=200).splitlines() == [
        "point             hits  first  depth  function    called by",
        f"{POINTS[0].id}   120      7      9  bch2_write  {path} < ...",
        f"{POINTS[1].id}     1      1      1  f           g",
        "skipped: 5 functions, each returns nothing: void0, void1, void2 and 2 more",
        "skipped: 1 function, each is unsafe: a_put",
    ]


def test_a_terminal_is_not_wrapped() -> None:
    assert {len(line) <= 40 for line in render(POINTS, [], width=40).splitlines()} == {True}


def test_every_function_that_is_skipped() -> None:
    lines = render([], SKIPPED, width=80, every=True).splitlines()
    assert lines == [*(f"skipped: void{number} returns nothing" for number in range(5)), "skipped: a_put is unsafe"]


def test_what_a_guest_says_cannot_act_on_a_terminal() -> None:
    text = render([Point("\x1b[2J", "", ("\x1bc+0x1",))], [Skipped("\x1b[2J", "", "is bad")], width=200)
    assert "\x1b" not in text


def test_the_summary_adds_up() -> None:
    assert summary(POINTS, SKIPPED) == "2 points of 2 functions, 121 calls; 6 functions skipped"
    assert summary(POINTS[1:], []) == "1 point of 1 function, 1 call"
