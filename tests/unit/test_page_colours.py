"""The colours of the page of a sweep: words can be read, and verdicts told apart, by a colour-blind reader as well."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import pytest

from inject.sweep.report.account import TrialOutcome
from inject.sweep.report.html import PAGE

Row = tuple[float, float, float]
Matrix = tuple[Row, Row, Row]

VIEWS: Mapping[str, Matrix] = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}
"""What becomes of linear RGB; Machado, Oliveira and Fernandes 2009, severity 1."""

XYZ: Matrix = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.072175), (0.0193339, 0.119192, 0.9503041))
WHITE: Row = (0.95047, 1.0, 1.08883)
FAR = 12.0
"""Distance in CIELAB of two colours side by side; 2.3 is just noticeable."""
READABLE = 4.5
"""The contrast of text that WCAG 2 asks for."""

OUTCOMES = range(len(TrialOutcome))


def schemes() -> dict[str, dict[str, str]]:
    """The variables of the page's style: light, and dark, which changes some."""
    light, dark = re.findall(r":root {(.*?)}", (PAGE / "report.css").read_text(), re.DOTALL)
    found = dict(re.findall(r"--(\w+): (#[0-9a-f]+);", light))
    return {"light": found, "dark": {**found, **dict(re.findall(r"--(\w+): (#[0-9a-f]+);", dark))}}


def times(matrix: Matrix, value: Sequence[float]) -> Row:
    first, second, third = (sum(a * b for a, b in zip(row, value)) for row in matrix)
    return first, second, third


def linear(colour: str) -> Row:
    """Linear RGB of ``#rgb`` or ``#rrggbb``."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    first, second, third = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return first, second, third


def lab(rgb: Row) -> Row:
    x, y, z = (
        part ** (1 / 3) if part > 216 / 24389 else (24389 / 27 * part + 16) / 116
        for part in (value / white for value, white in zip(times(XYZ, rgb), WHITE))
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def seen(colour: str, view: Matrix) -> Row:
    first, second, third = (min(1.0, max(0.0, part)) for part in times(view, linear(colour)))
    return lab((first, second, third))


def contrast(one: str, other: str) -> float:
    low, high = sorted(times(XYZ, linear(colour))[1] for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_verdicts_in_the_tree_can_be_told_apart(scheme: str, view: str) -> None:
    colours = schemes()[scheme]
    near = [
        (one, other)
        for one, other in itertools.combinations([f"f{number}" for number in OUTCOMES], 2)
        if sum((a - b) ** 2 for a, b in zip(*(seen(colours[name], VIEWS[view]) for name in (one, other)))) < FAR**2
    ]
    assert near == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(scheme: str) -> None:
    colours = schemes()[scheme]
    for back in ("back", "raised"):
        for name in ("fore", "soft", "link", *(f"o{number}" for number in OUTCOMES)):
            assert contrast(colours[name], colours[back]) >= READABLE, (name, back)
    assert all(contrast(colours[f"f{number}"], colours["fore"]) >= READABLE for number in OUTCOMES)


def test_each_verdict_has_its_colours() -> None:
    style = (PAGE / "report.css").read_text()
    for kind in "os":
        assert set(re.findall(rf"\.({kind}\d) {{", style)) == {f"{kind}{number}" for number in OUTCOMES}
