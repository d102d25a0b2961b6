"""The table of `inject watch`, its keys, and what it saves: everything that needs no kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inject import scenario as scenarios
from inject.cli.watch import board
from inject.cli.watch.command import scenario_text
from inject.cli.watch.screen import split_keys
from inject.model.event import Injection
from inject.model.verdict import Counts
from inject.scenario.writer import fault_keys, to_yaml
from tests.support import ROOT

STACK = ("bch2_folio_reservation_get_partial+0x0", "bch2_buffered_write+0x45", "bch2_write_iter+0x1", "vfs_write+0x2")
FIRED = Injection(0, "bch2_folio_reservation_get_partial", "-EIO", -5, 3, 1, 123, "dd", 0, STACK)


def line(state: str, function: str, seen: int = 0, **rest: object) -> board.Line:
    keys = {"returns": "-BCH_ERR_ENOSPC_disk_reservation", "trigger": "every call", "rate": 0.0, **rest}
    return board.Line(state, function, counts=Counts(seen, seen // 2, seen // 3), **keys)  # type: ignore[arg-type]


MANY = tuple(line("armed", f"function_number_{n}", 10**n) for n in range(12))
TWO = (
    line("armed", "bch2_folio_reservation_get_partial", 12, last=FIRED, rate=3.4),
    line("off", "x" * 90, 10**18, trigger="after=1000000,every=1000000", rate=9e12),
)


@pytest.mark.parametrize("lines", [TWO, MANY, TWO + MANY])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 48), (40, 6), (72, 8), (1, 1), (300, 100)])
def test_no_line_is_wider_than_the_screen_and_no_column_moves(
    lines: tuple[board.Line, ...], width: int, height: int
) -> None:
    view = board.View("dd if=/dev/zero of=" + "y" * 200, 3725.0, lines, 1, "é\033[31m" * 60, output="a\tb" * 99)
    shown = board.render(view, width, height, colour=False)
    assert len(shown) == max(height, board.LEAST_HEIGHT)
    assert max(len(text) for text in shown) <= max(width, board.LEAST_WIDTH)
    assert all(" " <= c <= "~" for text in shown for c in text)
    rows = [text for text in shown if re.match(r"[> ] (armed|off  ) ", text)]
    assert len({len(row) for row in rows}) == 1
    assert len(shown[1].rstrip()) == len(rows[0])
    coloured = board.render(view, width, height, colour=True)
    assert [re.sub(r"\033\[\d+m", "", text) for text in coloured] == shown


def test_what_a_table_says() -> None:
    text = "\n".join(board.render(board.View("dd", 61.0, TWO, 0, "saved"), 160, 24, colour=False))
    assert "1 of 2 armed  0:01:01" in text
    row = next(text for text in text.split("\n") if text.startswith("> armed"))
    assert row.split()[2:] == [
        "bch2_folio_reservation_get_partial",
        "-BCH_ERR_ENOSPC_disk_reservation",
        *("every", "call", "12", "6", "4", "3"),
    ]
    path = "dd/123: bch2_folio_reservation_get_partial < bch2_buffered_write < bch2_write_iter < vfs_write"
    assert f"        {path}\n" in text
    assert "saved" in text


def test_the_chosen_row_is_always_there() -> None:
    for selected in range(len(MANY)):
        shown = board.render(board.View("x", 0.0, MANY, selected), 160, 8, colour=False)
        assert [text for text in shown if text.startswith("> ")] == [
            text for text in shown if f"function_number_{selected} " in text
        ]


@pytest.mark.parametrize("value", [0, 9_999_999, 10_000_000, 999_999_999, 10**12, 123 * 10**13, 2**64])
def test_a_number_keeps_to_its_column(value: int) -> None:
    assert len(board.number(value)) <= 7


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("aq", ["a", "q"]),
        ("\033[A\033OBj", ["up", "down", "j"]),
        ("\033", ["escape"]),
        ("\r\x7f\x15\x04", ["enter", "back", "clear", "escape"]),
        ("\033[200~x\033[3~", ["x"]),
        ("\033[", []),
        ("é\x00\x01", ["é"]),
    ],
)
def test_keys(typed: str, keys: list[str]) -> None:
    assert split_keys(typed) == keys


SHIPPED = sorted((ROOT / "scenarios").rglob("*.yaml")) + sorted((ROOT / "tests/data/valid").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_fault_survives_being_written(path: Path) -> None:
    for scenario in scenarios.load([path]):
        text = to_yaml({"faults": [fault_keys(fault) for fault in scenario.faults], "run": "true"})
        text += "filesystem: {type: bcachefs, devices: 4}\n" if scenario.filesystem else ""
        (again,) = scenarios.parse(text, "x.yaml", "x")
        assert again.faults == scenario.faults


def test_what_is_saved_is_a_scenario() -> None:
    faults = scenarios.load([ROOT / "tests/data/valid/full.yaml"])[0].faults
    text = scenario_text(faults, ["sh", "-c", "it's"])
    assert scenarios.parse(text + "filesystem: {type: bcachefs}\n", "x.yaml", "x")[0].run.endswith(
        "sh -c 'it'\"'\"'s'\n"
    )
    assert scenarios.parse(scenario_text(faults, []) + "filesystem: {type: ext4}\n", "x.yaml", "x")[0].run
