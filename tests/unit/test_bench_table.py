"""The benchmark's tables: goals that were met, missed, and not measured."""

from __future__ import annotations

from typing import Any

from tests.bench import table


def cost(
    case: str, way: str, added: float, program: str = "inject", call: str = "umask", kernel: str = "test"
) -> dict[str, Any]:
    facts = {"kernel": kernel, "call": call, "program": program, "case": case, "way": way}
    return {"type": "cost", **facts, "added": added}


LINES = [
    {"type": "bare", "kernel": "test", "call": "umask", "instructions": 164.0},
    cost("out of scope", "kprobe", 377.0),
    cost("out of scope", "fmod_ret", 200.0),
    cost("argument misses", "kprobe", 700.5),
    cost("call path misses", "fmod_ret", 258.0),
    cost("call path misses", "kprobe", 495.5),
    cost("fires", "fmod_ret", 1199.0),
    cost("out of scope", "kfunc", 445.0),
    cost("nothing at all", "kprobe", 321.0, "empty bcc program"),
    {"type": "bare", "kernel": "stock", "call": "umask", "instructions": 180.0},
    cost("out of scope", "kfunc", 445.5, kernel="stock"),
    cost("out of scope", "module", 500.0, kernel="stock"),
    {"type": "start", "what": "warm, kprobe", "ns": 100_000_000},
    {"type": "start", "what": "warm, fmod_ret", "ns": 50_000_000},
    {"type": "start", "what": "bcc inject compiles and attaches", "ns": 999_999_999},
    {
        "type": "load",
        "kernel": "debug",
        "rule": "any rule",
        "programs": {"on_kprobe": 2_000_000_000, "on_trampoline": 1_000_000_000},
    },
    {"type": "rate", "rate": 100_000, "injected": 100_000, "told": 99_990, "lost": 10},
]


def test_goals() -> None:
    found = {goal.words: (goal.measured, goal.met) for goal in table.goals(LINES)}
    assert list(found.values()) == [
        (200, True),
        (377, True),
        (None, False),
        (700.5, False),
        (258, True),
        (495.5, False),
        (1199, True),
        (None, False),
        (445, True),
        (None, False),
        (445.5, False),
        (None, False),
        (0.1, True),
        (9.99999999, False),
        (0, True),
        (3, True),
    ]


def test_what_vanished_misses_the_goal() -> None:
    lines = [{"type": "rate", "rate": 100_000, "injected": 100_000, "told": 99_990, "lost": 9}]
    (goal,) = [goal for goal in table.time_goals(lines) if goal.words.startswith("events")]
    assert (goal.measured, goal.met) == (1, False)


def test_each_way_in_has_its_column() -> None:
    text = table.markdown(LINES)
    assert "| inject" in text and "164 instructions bare" in text
    (row,) = [line for line in text.splitlines() if "nothing at all" in line]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["empty bcc program", "nothing at all", "321", "", ""]
    assert text.count("MISSED") == 8 and "not measured" in text


def test_each_kernel_has_its_table() -> None:
    tables = table.markdown(LINES).split("\n\n")
    (stock,) = [text for text in tables if text.startswith("| stock kernel: ")]
    head, _, *rows = stock.splitlines()
    assert [cell.strip() for cell in head.split("|")[3:-1]] == ["kfunc", "module"] and "180 instructions bare" in head
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows] == [
        ["inject", "out of scope", "445.5", "500"]
    ]
