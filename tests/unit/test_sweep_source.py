"""The source on the page of a sweep: which lines are shown, what stands at them, and what is left out."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from inject.kernel.config import options_of, short_name
from inject.model.reached import Point
from inject.sweep.report.account import SweepAccount, TrialOutcome, account_of
from inject.sweep.report.debug_lines import SourcePlace
from inject.sweep.report.lcov import source_tracefile
from inject.sweep.report.merge import Part, merged
from inject.sweep.report.source import AROUND, LONGEST, ROOM, SourceView, located, view
from inject.sweep.report.write import SOURCE
from tests.support import sweep_journal, toy_kernel
from tests.support.command import inject
from tests.support.sweep_journal import HOSTILE, of_type

pytest.importorskip("jinja2")

from inject.sweep.report.html import page  # noqa: E402

SMALL = list(sweep_journal.journal(120, seed=324))
TEXT = [f"line {number}" for number in range(1, 101)]


def account(points: Sequence[Point], **ends: str) -> SweepAccount:
    """A sweep in which each of ``points`` was failed once; ``ends``: what else became of some, as their status."""
    lines = [*SMALL[:2], *sweep_journal.point_lines(points), {"type": "recorded", "notes": []}]
    lines += of_type(SMALL, "baseline")
    for point in points:
        status = ends.get(point.function, "pass")
        if status == "none":
            continue
        failed = {"reason": "dmesg", "signature": f"dmesg: {point.function}"} if status == "fail" else {}
        trial = sweep_journal.trial_line(point, "once", sweep_journal.certain())
        injected, status = int(status != "unreached"), "pass" if status == "unreached" else status
        lines.append({**trial, "status": status, "injected": injected, "exit": 0, "fates": {}, **failed})
    return account_of(merged([Part(Path("a/journal.jsonl"), lines)], Path("a")))


def points(**callers: str) -> list[Point]:
    """A point for each function."""
    return [Point(function, "", (caller, "main+0x1"), 1, 1, "ERRNO") for function, caller in callers.items()]


def shown(found: SourceView) -> dict[str, list[list[int]]]:
    """The numbers of the lines of each part of each file; those of calls are negative."""
    return {
        file.path: [[-line.number if line.call else line.number for line in part] for part in file.parts]
        for file in found.files
    }


def seen(where: Mapping[str, int], texts: Mapping[str, Sequence[str]] = {"a.c": TEXT}, room: int = ROOM) -> SourceView:
    some = points(**{f"f{number}": caller for number, caller in enumerate(where)})
    places = {caller: SourcePlace("a.c", number) for caller, number in where.items()}
    return view(located(account(some).rows, places, lambda file: texts.get(file, ())), room)


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([10], [[8, 9, -10, 11, 12]]),
        ([1], [[-1, 2, 3]]),
        ([100], [[98, 99, -100]]),
        ([10, 12], [[8, 9, -10, 11, -12, 13, 14]]),
        ([10, 15], [[8, 9, -10, 11, 12, 13, 14, -15, 16, 17]]),
        ([10, 16], [[8, 9, -10, 11, 12], [14, 15, -16, 17, 18]]),
        ([12, 11, 10], [[8, 9, -10, -11, -12, 13, 14]]),
        ([101, 10], [[8, 9, -10, 11, 12]]),
        ([101], []),
    ],
)
def test_a_call_is_shown_with_the_lines_around(lines: Sequence[int], parts: Sequence[Sequence[int]]) -> None:
    found = seen({f"x+0x{number}": number for number in lines})
    assert shown(found) == ({"a.c": parts} if parts else {})
    assert all(line.text == f"line {line.number}" for file in found.files for part in file.parts for line in part)
    missing = sum(number > len(TEXT) for number in lines)
    said = [f"{missing} of {len(lines)} points: the debug information names no line of this source"] if missing else []
    assert list(found.notes) == said
    assert AROUND == 2


def test_a_line_has_all_points_that_were_called_from_it() -> None:
    some = points(good="x+0x1", bad="x+0x2", broken="x+0x1", elsewhere="y+0x1", nowhere="z+0x1")
    places = {"x+0x1": SourcePlace("b.c", 3), "x+0x2": SourcePlace("b.c", 3), "y+0x1": SourcePlace("a.c", 5)}
    found = view(located(account(some, bad="fail", broken="error").rows, places, lambda _: TEXT))
    assert [file.path for file in found.files] == ["a.c", "b.c"]
    calls = [line.call for file in found.files for part in file.parts for line in part if line.call]
    assert [(call.said, call.worst, call.shown_point) for call in calls] == [
        ("passed 1", TrialOutcome.PASSED, some[3].id),
        ("finding 1, error 1, passed 1", TrialOutcome.FINDING, some[1].id),
    ]
    assert found.notes == ["1 of 5 points: the debug information names no line of this source"]


def test_without_room_the_worst_are_shown() -> None:
    some = points(**{f"f{number}": f"x+0x{number + 1}" for number in range(9)})
    places = {f"x+0x{number + 1}": SourcePlace("a.c", 10 * number + 5) for number in range(9)}
    source = located(account(some, f7="fail", f4="error").rows, places, lambda _: TEXT)
    assert [len(file.parts) for file in view(source).files] == [9]
    found = view(source, room=520)
    assert shown(found) == {"a.c": [[43, 44, -45, 46, 47], [73, 74, -75, 76, 77]]}
    assert found.notes == ["7 of 9 lines are left out, to keep the page small"]
    assert view(source, room=100).files == []


def test_a_long_line_is_cut_and_no_character_acts_on_a_terminal() -> None:
    found = seen({"x+0x1": 2}, {"a.c": ["\x1b[31m\u202e\tx\r", "y" * 1000, "\tz  "]})
    (part,) = found.files[0].parts
    assert [line.text for line in part] == ["\\x1b[31m\\u202e\tx", "y" * LONGEST + " [...]", "\tz"]


# ---------------------------------------------------------------- the page


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_the_command_shows_the_source_of_the_kernel_that_was_swept(tmp_path: Path) -> None:
    tree = tmp_path / "linux"
    toy_kernel.build(tree, tree)
    first, second, inlined, _ = toy_kernel.frames(tree / "vmlinux", "toy_open")
    some = [Point("toy_alloc", "", (frame, "main+0x1"), 1, 1, "ERRNO") for frame in (first, second, inlined)]
    kernel = {"type": "kernel", "release": toy_kernel.RELEASE, "config": short_name(options_of(toy_kernel.CONFIG))}
    lines = list(account(some).lines)
    sweep_journal.write(tmp_path / "sweep", [*lines[:2], kernel, *lines[2:]])
    done = inject("report", tmp_path / "sweep", "-o", tmp_path / "out", "--kernel-tree", tree)
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "out" / "report.html").read_text()
    assert re.findall("<mark[^>]*> *[0-9]+ ([^<]*)</mark>", text) == [
        "\tint ret = toy_alloc(x); /* first */",
        "\tret += toy_alloc(ret +",
        "\treturn toy_alloc(x) + 2; /* inlined */",
    ]
    first, second, inlined = (
        toy_kernel.line(toy_kernel.OPEN, "first"),
        toy_kernel.line(toy_kernel.OPEN, "second") - 1,
        toy_kernel.line(toy_kernel.HEADER, "inlined"),
    )
    assert (tmp_path / "out" / SOURCE).read_text().splitlines() == [
        *("TN:mix", f"SF:{tree}/fs/open.c", f"BRDA:{first},0,0,1", f"BRDA:{second},0,0,1", "BRF:2", "BRH:2"),
        *(f"DA:{first},1", f"DA:{second},1", "LF:2", "LH:2", "end_of_record"),
        *(f"SF:{tree}/include/toy.h", f"BRDA:{inlined},0,0,1", "BRF:1", "BRH:1", f"DA:{inlined},1", "LF:1", "LH:1"),
        "end_of_record",
    ]
    for place, changed, said in (
        (tree, {"build_id": "0123"}, f"{tree}/vmlinux is of {toy_kernel.BUILD_ID}, and the sweep was made on 0123; "),
        (tree, {"release": "6.1"}, f"{tree}/include/config/kernel.release is of {toy_kernel.RELEASE}, and the sweep "),
        (tmp_path / "sweep", {}, f"{tmp_path}/sweep has no vmlinux; give the directory"),
    ):
        sweep_journal.write(tmp_path / "sweep", [*lines[:2], {**kernel, **changed}, *lines[2:]])
        done = inject("report", tmp_path / "sweep", "-o", tmp_path / "out", "--kernel-tree", place)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"inject: {said}") and done.stderr.count("\n") == 1, done.stderr


def test_the_page_shows_the_source_only_if_there_is_one() -> None:
    found = account(points(f="x+0x1"))
    plain = page(found, Path("a"))
    assert 'id="source"' not in plain and "#source" not in plain and "<mark" not in plain
    assert page(found, Path("a"), SourceView()) == plain
    text = page(found, Path("a"), view(located(found.rows, {"x+0x1": SourcePlace("fs/a.c", 3)}, lambda _: TEXT)))
    assert 'href="#source"' in text and '<section id="source"' in text


def test_each_call_on_the_page_leads_to_a_point() -> None:
    some = points(good="x+0x1", bad="x+0x2", elsewhere="y+0x1")
    places = {"x+0x1": SourcePlace("fs/b.c", 3), "x+0x2": SourcePlace("fs/b.c", 9), "y+0x1": SourcePlace("fs/a.c", 5)}
    found = account(some, bad="fail")
    text = page(found, Path("a"), view(located(found.rows, places, lambda _: TEXT)))
    marks = re.findall(r'<mark class="s(\d)"> *(\d+) ([^<]*)</mark>  <a href="#p-(\w+)">([^<]*)</a>\n', text)
    order = list(TrialOutcome)
    assert marks == [
        (str(order.index(TrialOutcome.PASSED)), "5", "line 5", some[2].id, "passed 1"),
        (str(order.index(TrialOutcome.PASSED)), "3", "line 3", some[0].id, "passed 1"),
        (str(order.index(TrialOutcome.FINDING)), "9", "line 9", some[1].id, "finding 1"),
    ]
    (first, second) = re.findall(r'<h3 class="mono">([^<]*)</h3>\n<pre class="source">\n([^<]*)<mark', text)
    assert first == ("fs/a.c", "      3 line 3\n      4 line 4\n")
    assert second == ("fs/b.c", "      1 line 1\n      2 line 2\n")


@pytest.mark.skipif(shutil.which("genhtml") is None, reason="lcov is not installed")
def test_lcov_shows_the_calls_with_the_same_totals(tmp_path: Path) -> None:
    """Points of one line are branches of it: one was failed, one was not reached again, one has no trial."""
    (tmp_path / "linux" / "fs").mkdir(parents=True)
    (tmp_path / "linux" / "fs" / "a.c").write_text("\n".join(TEXT))
    some = points(hit="x+0x1", missed="x+0x2", untried="x+0x3", elsewhere="y+0x1")
    places = {**{f"x+0x{n}": SourcePlace("fs/a.c", 3) for n in (1, 2, 3)}, "y+0x1": SourcePlace("fs/a.c", 9)}
    found = account(some, missed="unreached", untried="none")
    calls = located(found.rows, places, lambda _: TEXT).calls
    text = "".join(source_tracefile(found, calls, tmp_path / "linux"))
    assert re.findall("BRDA:.*", text) == ["BRDA:3,0,0,1", "BRDA:3,0,1,0", "BRDA:3,0,2,-", "BRDA:9,0,0,1"]
    (tmp_path / SOURCE).write_text(text)
    totals = found.totals
    assert (totals.injected, totals.points) == (2, 4)
    for command in (
        ["lcov", "--rc", "lcov_branch_coverage=1", "--summary", SOURCE],
        ["genhtml", "--branch-coverage", "-o", "html", SOURCE],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "(2 of 4 branches)" in done.stdout and "(2 of 2 lines)" in done.stdout, done.stdout
    (shown,) = (tmp_path / "html").rglob("a.c.gcov.html")
    assert "line 50" in shown.read_text()


def test_what_stands_in_the_source_is_text() -> None:
    hostile = [text.replace("\n", " ") for text in HOSTILE]
    some = points(f=f"x+0x{len(hostile)}")
    found = account(some)
    named = f"fs/{HOSTILE[0]}.c"
    text = page(
        found, Path("a"), view(located(found.rows, {some[0].stack[0]: SourcePlace(named, 3)}, lambda _: hostile))
    )
    assert text.count("<script") == 2 and "<img" not in text and "\x1b" not in text
    assert "alert(1)&lt;/script&gt;.c" in text


def test_the_page_stays_small_with_its_source() -> None:
    """Each character of the source is five on the page."""
    found = account_of(merged([Part(Path("a/journal.jsonl"), list(sweep_journal.journal(5_000)))], Path("a")))
    callers = sorted({row.point.stack[0] for row in found.rows})
    places = {
        caller: SourcePlace(f"fs/bcachefs/file{number % 50}.c", number + 1) for number, caller in enumerate(callers)
    }
    source = view(located(found.rows, places, lambda _: ["&" * 60] * len(callers)))
    text = page(found, Path("a"), source)
    assert len(text.encode()) <= 1_000_000
    section = text[text.index('<section id="source"') : text.index('<section id="evidence"')]
    assert 0.8 * ROOM < len(section) < 1.05 * ROOM
    assert "lines are left out, to keep the page small" in section


def test_the_source_costs_nothing_else() -> None:
    found = account(points(f="x+0x1"))
    source = view(located(found.rows, {"x+0x1": SourcePlace("fs/a.c", 3)}, lambda _: TEXT))
    text = page(found, Path("a"), source)
    start, end = text.index('<section id="source"'), text.index("</section>\n", text.index('<section id="source"'))
    without = text[:start] + text[end + len("</section>\n") :]
    assert without.replace('<a href="#source">Source</a>\n', "") == page(found, Path("a"))
