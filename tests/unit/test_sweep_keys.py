"""Journals that a disk, a hand or a newer version has changed: one sentence for each, with the place."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from inject.errors import InjectError
from inject.model.point import ErrorType
from inject.sweep.findings import causes
from inject.sweep.journal import NAME, SweepJournal
from inject.sweep.keys import HEAD
from inject.sweep.report.account import account_of
from inject.sweep.report.html import page
from inject.sweep.report.lcov import listings, tracefile
from inject.sweep.report.merge import merged, read
from inject.sweep.report.verdicts import ktap_of, verdicts
from inject.sweep.state import state_of
from tests.support import sweep_journal
from tests.support.sweep_journal import Lines, of_type

SMALL = list(sweep_journal.journal(2, modes=("once",)))
TRIAL = {**of_type(SMALL, "trial")[0], "fired": [1], "kernel_log": ["x"]}
FAILED = {**TRIAL, "status": "fail", "reason": "crash", "signature": "crash: x"}
STEP = {"finding": "0" * 8, "what": "run-1", "text": "1" * 16}
LINES: Lines = [
    *SMALL[:2],
    {"type": "kernel", "release": "6.12.57", "config": "aaa"},
    *SMALL[2:],
    FAILED,
    {"type": "round", "round": 1, "points": 3, "trials": 2},
    {"type": "reducing", **STEP},
    {"type": "reduced", **STEP, "status": "fail", "reason": "crash", "detail": "", "injected": 1, "same": True}
    | {"seconds": 1.5, "log": ["x"], "kernel_log": ["y"]},
    {"type": "traced", **STEP, "lines": ["x"]},
    {"type": "finding", "signature": "crash: x", "digest": "0" * 8, "trial": FAILED["trial"], "known": ""}
    | {"trials": [FAILED["trial"]], "directory": "findings/01-00000000", "runs": 3, "failed": 3, "faults": 1}
    | {"lines": [1, 9]},
    {"type": "left", "why": "is too far", "points": [SMALL[3]["id"]]},
    {"type": "end", "seconds": 60.5, "reason": "limit"},
]
"""A line of each type, with all keys that a reader looks at."""

GONE = object()
OTHERS = (GONE, 7, [[]], None, -1, 1e300, "x", {})
"""What a value may have become."""

ON_THE_PAGE = 2
"""How many of these are tried on the page, too, which takes longer."""

FIRST = {(line["type"], line.get("status")): number for number, line in enumerate(LINES)}
PLACES = [(number, key) for number in FIRST.values() for key in LINES[number] if key != "type"]


def changed(number: int, key: str, value: object) -> Lines:
    """The journal with another value in one line."""
    line = {name: was for name, was in LINES[number].items() if name != key}
    return [*LINES[:number], line if value is GONE else {**line, key: value}, *LINES[number + 1 :]]


def report(directory: Path, *, whole: bool = True) -> None:
    """Make the reports of the journal there; unless ``whole``, without the page."""
    account = account_of(merged([read(directory)], directory))
    if whole:
        page(account, directory)
    list(tracefile(account, listings(account)))
    verdicts(account)
    list(ktap_of(account))


def resume(directory: Path) -> None:
    """Read the journal as a sweep does that goes on."""
    with SweepJournal(directory, resume=True) as journal:
        state = state_of(journal.lines)
        causes(state.ended.values(), (), journal.lines)


@pytest.mark.parametrize("reader", [report, resume])
def test_the_journal_as_it_was_can_be_read(tmp_path: Path, reader: Any) -> None:
    sweep_journal.write(tmp_path, LINES)
    reader(tmp_path)


@pytest.mark.parametrize(("number", "key"), PLACES, ids=[f"{LINES[n]['type']}-{n}-{key}" for n, key in PLACES])
def test_no_value_of_any_key_is_more_than_one_sentence(tmp_path: Path, number: int, key: str) -> None:
    """Each reader reads on, or says which line is damaged."""
    for place, value in enumerate(OTHERS):
        sweep_journal.write(tmp_path, changed(number, key, value))
        for read_it in (partial(report, whole=place < ON_THE_PAGE), resume):
            try:
                read_it(tmp_path)
            except InjectError as error:
                assert "journal" in str(error) and "\n" not in str(error), error


@pytest.mark.parametrize(
    ("kind", "key", "value", "said"),
    [
        ("trial", "reason", "melted", "its reason is `melted`"),
        ("trial", "mode", "twice", "its mode is `twice`"),
        ("trial", "seconds", GONE, "it has no seconds"),
        ("trial", "notes", 7, "its notes is `7`"),
        ("trial", "status", "fail", "a reason belongs to each failure"),
        ("finding", "signature", GONE, "it has no signature"),
        ("reduced", "finding", GONE, "it has no finding"),
        ("baseline", "exit", [1], "its exit is `[1]`"),
        ("skipped", "why", 7, "not an event"),
    ],
)
@pytest.mark.parametrize("reader", [report, resume])
def test_a_damaged_line_is_named(tmp_path: Path, kind: str, key: str, value: object, said: str, reader: Any) -> None:
    number = next(number for number, line in enumerate(LINES) if line["type"] == kind)
    sweep_journal.write(tmp_path, changed(number, key, value))
    with pytest.raises(InjectError) as error:
        reader(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / NAME}:{number + 1}: a damaged {kind} line: {said}")
    assert str(error.value).endswith("; delete this line, and what it said is done again by --resume")


@pytest.mark.parametrize("key", list(HEAD))
def test_a_report_needs_the_whole_first_line(tmp_path: Path, key: str) -> None:
    sweep_journal.write(tmp_path, changed(0, key, GONE))
    with pytest.raises(InjectError, match=f"{NAME}:1: a damaged sweep line: it has no {key}$"):
        report(tmp_path)


def test_a_later_version_may_say_more(tmp_path: Path) -> None:
    """Other keys and other types of lines are no damage."""
    later = [{**line, "added": {"later": [1]}} for line in LINES]
    sweep_journal.write(tmp_path, [*later, {"type": "news", "status": 7}])
    report(tmp_path)
    resume(tmp_path)


@pytest.mark.parametrize("directory", ["findings/..", "findings/x", "../01-00000000", "", None])
def test_a_finding_gets_no_directory_that_no_sweep_names(directory: object) -> None:
    (cause,) = causes(state_of(LINES).ended.values(), (), [{**of_type(LINES, "finding")[0], "directory": directory}])
    assert cause.directory == f"01-{cause.digest}"


def test_the_lines_here_are_those_of_a_sweep() -> None:
    """The points can be failed, and the lines are JSON."""
    assert {ErrorType(line["error_type"]) for line in of_type(LINES, "point")}
    assert json.loads(json.dumps(LINES)) == LINES
