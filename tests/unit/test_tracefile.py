"""lcov tracefiles: written, read, merged and counted; Debian's lcov and genhtml read them with the same totals."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from inject.coverage.tracefile import (
    BadTracefile,
    ErrorTally,
    FileCounts,
    Trace,
    merge,
    parse,
    reached,
    read,
    tally,
    text_of,
)
from inject.report.coverage import render, summary, unreached

LIBRARY: Trace = {
    "fs/toyfs/io.c": FileCounts(
        {3: 5, 4: 5, 6: 0, 9: 2, 10: 1}, {"toy_read": (2, 5), "toy_write": (8, 2)}, {6: True, 10: False}
    ),
    "fs/toyfs/names.h": FileCounts({2: 7}, {"toy_name": (1, 7)}, {}),
}
SWEEP: Trace = {
    "fs/toyfs/io.c": FileCounts(
        {3: 1, 4: 1, 6: 1, 9: 0, 10: 0}, {"toy_read": (2, 1), "toy_write": (8, 0)}, {6: True, 10: False}
    ),
    "fs/toyfs/super.c": FileCounts({5: 0}, {"toy_mount": (4, 0)}, {5: True}),
}


def test_reading_gives_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.info"
    path.write_text(text_of(LIBRARY))
    assert read(path) == LIBRARY


def test_merging_sums_and_changes_nothing_else() -> None:
    before = text_of(LIBRARY), text_of(SWEEP)
    total = merge([LIBRARY, SWEEP])
    assert total["fs/toyfs/io.c"].lines == {3: 6, 4: 6, 6: 1, 9: 2, 10: 1}
    assert total["fs/toyfs/io.c"].functions == {"toy_read": (2, 6), "toy_write": (8, 2)}
    assert set(total) == {"fs/toyfs/io.c", "fs/toyfs/names.h", "fs/toyfs/super.c"}
    assert (text_of(LIBRARY), text_of(SWEEP)) == before


def test_error_lines_are_counted() -> None:
    assert tally(LIBRARY.values()) == ErrorTally(reached=1, lines=2, own_reached=0, own=1)
    assert tally(merge([LIBRARY, SWEEP]).values()) == ErrorTally(reached=2, lines=3, own_reached=1, own=2)
    assert reached(SWEEP) == {
        ("fs/toyfs/io.c", 6): True,
        ("fs/toyfs/io.c", 10): False,
        ("fs/toyfs/super.c", 5): False,
    }


def test_lcov_2_writes_functions_with_their_last_line() -> None:
    text = "SF:a.c\nFN:3,9,one\nFNDA:4,one\nDA:3,4,checksum\nBRDA:3,1,0,-\nend_of_record\n"
    assert parse(text, "x") == {"a.c": FileCounts({3: 4}, {"one": (3, 4)}, {3: False})}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x.info:1: is no tracefile of lcov"),
        ("hello\nworld\n", "x.info:2: is no tracefile of lcov"),
        ("SF:a.c\nDA:3,1\n", "x.info:2: ends in the middle"),
        ("DA:3,1\n", "x.info:1: `DA:3,1` does not belong there"),
        ("SF:a.c\nDA:three,1\nend_of_record\n", "x.info:2: `DA:three,1` does not belong there"),
        ("SF:a.c\nFN:\x1b[31m\nend_of_record\n", "x.info:2: `FN:"),
        ("SF:a.c\nBRDA:7\nend_of_record\n", "x.info:2: `BRDA:7` does not belong there"),
    ],
)
def test_a_damaged_tracefile_is_a_sentence_with_its_place(text: str, said: str) -> None:
    with pytest.raises(BadTracefile) as caught:
        parse(text, "x.info")
    assert str(caught.value).startswith(said)
    assert "\x1b" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadTracefile, match="gone.info: cannot be read: No such file"):
        read(tmp_path / "gone.info")


# ---------------------------------------------------------------- for people


def test_the_table_of_one_run() -> None:
    assert render({"library": LIBRARY}).splitlines() == [
        "file           error lines  reached",
        "fs/toyfs/io.c            2        1",
        "",
        "error lines reached: 1 of 2 (with a code of the filesystem's own: 0 of 1)",
    ]


def test_the_table_of_two_runs() -> None:
    assert render({"library": LIBRARY, "sweep": SWEEP}).splitlines() == [
        "file              error lines  library  sweep  both  any",
        "fs/toyfs/io.c               2        1      1     0    2",
        "fs/toyfs/super.c            1        0      0     0    0",
        "",
        "error lines reached: library 1, sweep 1, both 0, any 2 of 3 (with a code of the filesystem's own: 1 of 2)",
    ]


def test_what_three_runs_have_in_common() -> None:
    assert "both" not in summary({"a": SWEEP, "b": SWEEP, "c": merge([LIBRARY, SWEEP])})
    assert "a 1, b 1, c 2, all 1, any 2 of 3" in summary({"a": SWEEP, "b": SWEEP, "c": merge([LIBRARY, SWEEP])})


def test_unreached_lines_name_their_function() -> None:
    assert unreached(LIBRARY) == ["fs/toyfs/io.c:6: toy_read"]
    assert unreached(merge([LIBRARY, SWEEP])) == ["fs/toyfs/super.c:5: toy_mount"]


# ---------------------------------------------------------------- lcov


def test_lcov_and_genhtml_read_it_with_the_same_totals(tmp_path: Path) -> None:
    if shutil.which("genhtml") is None:
        pytest.skip("lcov is not installed")
    for name, trace in (("library", LIBRARY), ("sweep", SWEEP)):
        (tmp_path / f"{name}.info").write_text(text_of(trace))
    for path in merge([LIBRARY, SWEEP]):
        source = tmp_path / path
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("\n" * 12)
    branches = ["--rc", "lcov_branch_coverage=1", "--rc", "branch_coverage=1"]

    def run(*words: str) -> str:
        done = subprocess.run(
            [*words, *branches, "--ignore-errors", "source"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("lcov", "-a", "library.info", "-a", "sweep.info", "-o", "all.info")
    total = merge([LIBRARY, SWEEP])
    assert {path: (counts.lines, counts.errors) for path, counts in read(tmp_path / "all.info").items()} == {
        path: (counts.lines, counts.errors) for path, counts in total.items()
    }
    said = run("genhtml", "--branch-coverage", "all.info", "-o", "html")
    for what, (hit, found) in (("lines", (6, 7)), ("functions", (3, 4)), ("branches", (2, 3))):
        assert f"{hit} of {found} {what}" in said, said
