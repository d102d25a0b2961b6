"""The page of a sweep: small, asking nobody for anything, and nothing that a guest said is more than text."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject.model.reached import Point, named
from inject.sweep.agenda import agenda
from inject.sweep.journal import HERE
from inject.sweep.options import SweepOptions
from inject.sweep.report.account import SweepAccount, TrialOutcome, account_of
from inject.sweep.report.evidence import (
    FILES,
    LEAST,
    MOST,
    PAGES,
    ROOM,
    cut,
    recorded_for,
    shown_groups,
    sweep_command,
)
from inject.sweep.report.html import PAGE, SHORT, _facts, page
from inject.sweep.report.merge import Part, merged
from inject.sweep.report.pack import LONGEST_DETAIL, as_json, packed
from inject.sweep.shot import Origin
from tests.support import sweep_journal
from tests.support.sweep_journal import HOSTILE, Lines, hostile, of_type

pytest.importorskip("jinja2")

SMALL = list(sweep_journal.journal(120, seed=324))
LARGE = 5_000
"""Points of a page that must be small and quick."""


def account(lines: Lines, home: Path = Path("sweep")) -> SweepAccount:
    return account_of(merged([Part(home / "journal.jsonl", lines)], home))


class Reader(html.parser.HTMLParser):
    """The elements of a page, their attributes, and the text in them; what is in a script is its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, Optional[str]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._script = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._script = tag in ("script", "style")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if not self._script:
            self.text += data
        elif self.scripts:
            self.scripts[-1] += data


# ---------------------------------------------------------------- the data


def unpacked(data: dict[str, Any]) -> list[list[str]]:
    """The stack trace of each point with its function first, as report.js reads it."""
    parents: list[int] = []
    frames: list[int] = []
    way: list[int] = []
    for step in data["tree"]:
        if step < 0:
            del way[step:]
        else:
            parents.append(way[-1] if way else -1)
            way.append(len(frames))
            frames.append(step)
    found = []
    for node in data["points"]["node"]:
        stack = []
        while node >= 0:
            symbol, offset = (data["frames"][2 * frames[node] + place] for place in (0, 1))
            name, bracket, module = data["symbols"][symbol].partition(" [")
            stack.append(data["symbols"][symbol] if offset < 0 else f"{name}+0x{offset:x}{bracket}{module}")
            node = parents[node]
        found.append(stack)
    return found


FRAMES = st.sampled_from(
    ["a+0x1", "b+0x1f [m]", "c", "a+0x01", "0xffffffff81000000", "twin#2+0x3", "m.o", "!n", "module:m", "a+0x123456789"]
)


@given(st.lists(st.tuples(st.sampled_from("fg"), st.sampled_from(["", "m"]), st.lists(FRAMES, max_size=6)), max_size=8))
def test_each_stack_trace_is_in_the_data(some: list[tuple[str, str, list[str]]]) -> None:
    points = {p.id: p for p in (Point(function, module, tuple(stack)) for function, module, stack in some)}
    lines = [SMALL[0], SMALL[1], *sweep_journal.point_lines(points.values()), {"type": "recorded", "notes": []}]
    expected = [[named(p.function, p.module), *p.stack] for p in points.values()]
    assert unpacked(packed(account(lines))) == expected


def test_the_data_has_every_trial() -> None:
    found = account(SMALL)
    data = json.loads(as_json(packed(found)))
    trials, points = data["trials"], data["points"]
    assert [points["id"][16 * n : 16 * n + 16] for n in range(len(found.rows))] == [row.point.id for row in found.rows]
    assert sum(points["trials"]) == len(trials["outcome"]) == found.totals.trials
    for number, one in enumerate(found.trials):
        assert data["outcomes"][int(trials["outcome"][number])] == one.outcome.value
        assert trials["modes"][int(trials["mode"][number])] == one.mode
        assert trials["injected"][number] == one.ended.injected
        assert trials["said"][trials["fate"][number]] == one.fate
        said = trials["detail"].get(str(number))
        assert (trials["said"][said] if said is not None else "") == one.ended.detail
        group = trials["group"].get(str(number))
        assert (found.groups[group].signature if group is not None else "") == one.ended.signature


def test_what_a_trial_says_is_cut() -> None:
    trial = of_type(SMALL, "trial")[0]
    said = packed(account([*SMALL, {**trial, "detail": "x" * 10_000, "notes": ["y" * 10_000]}]))["trials"]["said"]
    assert max(map(len, said)) < LONGEST_DETAIL + 10


# ---------------------------------------------------------------- the page


def test_the_totals_stand_on_the_page() -> None:
    found = account(SMALL)
    text = Reader(page(found, Path("sweep"))).text
    assert found.totals.line in text
    for name, number in (("points", found.totals.points), ("trials", found.totals.trials)):
        assert re.search(rf"\n{name}{number}\n", text), name
    for group in found.groups:
        assert group.signature in text


def test_the_page_says_how_the_guests_of_trials_came_to_be() -> None:
    trials = of_type(SMALL, "trial")
    here = [{key: value for key, value in line.items() if key != "how"} for line in SMALL]
    assert "trials ran" not in dict(_facts(account(here))), "this machine has no guests"
    told = [{**trial, "how": how} for trial, how in zip(trials, ("fork", "boot", "fork"))]
    said = "1 in guests that were booted (boot), 2 in guests that continued from a saved one (fork)"
    assert dict(_facts(account([*here, *told])))["trials ran"] == said
    assert dict(_facts(account([*here, {**told[0], "how": "else"}])))["trials ran"] == "1 by else"


@pytest.mark.parametrize("modes", [("once", "onward"), ("once",)])
def test_each_point_and_its_verdict_is_there_without_javascript(modes: tuple[str, ...]) -> None:
    found = account(list(sweep_journal.journal(300, seed=7, modes=modes)))
    (plain,) = re.findall("(?s)<noscript>(.*)</noscript>", page(found, Path("sweep")))
    rows = []
    for function in plain.split("<tr><th rowspan=")[1:]:
        number, name = re.findall('^"([0-9]+)">([^\n]*)\n', function)[0]
        of_function = re.findall('(?:<td(?: rowspan="([0-9]+)")?>([^<]*))?<td>([0-9a-f]+)<td>([^<\n]*)\n', function)
        assert len(of_function) == int(number)
        left, caller = 0, ""
        for span, first, id, verdict in of_function:
            if not left:
                left, caller = int(span or 1), first.strip()
            left -= 1
            rows.append((name, caller, id, verdict))
        assert left == 0
    expected = []
    for row in found.rows:
        said = [one.said for one in row.trials] or [TrialOutcome.SKIPPED.value]
        each = [f"{one.mode} {one.said}" for one in row.trials]
        verdict = said[0] if len(set(said)) == 1 else ", ".join(each)
        expected.append((row.point.function, row.point.stack[0], row.point.id[:SHORT], verdict))
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("lines", [SMALL, hostile()], ids=["small", "hostile"])
def test_it_asks_nobody_for_anything(lines: Lines) -> None:
    read = Reader(page(account(lines), Path("sweep")))
    links = {(tag, name): value or "" for tag, name, value in read.attributes if name in ("src", "href", "action")}
    assert links and all(value.startswith("#") for value in links.values()), links
    assert set(read.elements) <= {
        *("html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "h4", "p", "nav", "a", "main"),
        *("section", "div", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "article", "code", "pre"),
        *("span", "noscript", "input", "select", "option", "button", "script"),
    }
    style = (PAGE / "report.css").read_text()
    assert "url(" not in style and "@import" not in style


@pytest.mark.parametrize("lines", [SMALL, hostile()], ids=["small", "hostile"])
def test_only_its_own_script_may_run(lines: Lines) -> None:
    text = page(account(lines), Path("sweep"))
    read = Reader(text)
    data, script = read.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (
        value or "" for tag, name, value in read.attributes if name == "content" and "default-src" in (value or "")
    )
    assert policy.split("; ") == [
        *("default-src 'none'", "style-src 'unsafe-inline'", f"script-src 'sha256-{digest}'"),
        *("base-uri 'none'", "form-action 'none'"),
    ]
    assert script == (PAGE / "report.js").read_text() and json.loads(data)["symbols"]
    assert not [name for _tag, name, _value in read.attributes if name.startswith("on")]
    assert read.elements["script"] == text.count("<script") == text.count("</script") == 2


def test_what_a_guest_said_is_text(tmp_path: Path) -> None:
    lines = hostile()
    signature = of_type(lines, "trial")[0]["signature"]
    place = tmp_path / "findings" / "01-x"
    place.mkdir(parents=True)
    for name in FILES:
        (place / name).write_text(f"{name} {HOSTILE[0]} \x1b[31m \u202e")
    told = {"type": "finding", "signature": signature, "trials": [], "directory": "findings/01-x", "known": HOSTILE[5]}
    text = page(account([*lines, told], tmp_path), tmp_path)
    read = Reader(text)
    for name in FILES:
        assert f"{name} {HOSTILE[0]} \\x1b[31m \\u202e" in read.text
    assert "{{ 7 * 7 }}" in read.text and HOSTILE[5] in read.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u2028\u202e]", text)


def test_the_evidence_of_many_findings_is_bounded(tmp_path: Path) -> None:
    assert (cut("a\nb\nc", 5), cut("a\nbbb\nc", 5)) == (
        "a\nbbb\nc"[:5].replace("bbb", "b\nc"),
        "a\n[... 6 more characters ...]",
    )
    lines: Lines = [SMALL[0], SMALL[1]]
    points = sweep_journal.points(PAGES + 20)
    lines += [*sweep_journal.point_lines(points), {"type": "recorded", "notes": []}]
    log = ["x" * 200] * 1000
    for point in points:
        trial = sweep_journal.trial_line(point, "once", sweep_journal.certain())
        lines.append({**trial, "status": "fail", "reason": "dmesg", "signature": f"dmesg: {point.id}", "log": log})
    text = page(account(lines), Path("sweep"))
    assert text.count("<article") == PAGES
    assert f"Only the first {PAGES} findings have a section below" in text
    assert text.count("x" * 200) * 200 <= max(ROOM, PAGES * LEAST) < len(points) * MOST
    assert all(f"dmesg: {point.id}" in text for point in points)


@pytest.mark.parametrize(
    ("kernel", "run", "sweep"),
    [
        ("stock:6.1", "inject vm run --kernel stock:6.1 ", "inject vm sweep mix.yaml --kernel stock:6.1 "),
        ("a b/bz", "inject vm run --kernel-image 'a b/bz' ", "inject vm sweep mix.yaml --kernel-image 'a b/bz' "),
        (f"{HERE} 6.12.1", "sudo inject run ", "sudo inject sweep mix.yaml "),
    ],
)
def test_the_commands_are_those_of_the_sweep(tmp_path: Path, kernel: str, run: str, sweep: str) -> None:
    (tmp_path / "findings" / "01-x").mkdir(parents=True)
    (tmp_path / "findings" / "01-x" / "scenario.yaml").write_text("run: true\n")
    failed = [line for line in of_type(SMALL, "trial") if line["status"] == "fail"]
    told = {"type": "finding", "signature": failed[0]["signature"], "directory": "findings/01-x"}
    found = account([{**SMALL[0], "kernel": kernel}, *SMALL[1:], told], tmp_path)
    groups = {one.group.signature: one for one in shown_groups(found, tmp_path)}
    assert groups[failed[0]["signature"]].command == f"{run}findings/01-x/scenario.yaml"
    other = next(one for one in groups.values() if not one.group.directory)
    point = other.first.ended.point
    rest = "--functions 'bch2_*' --return -ENOMEM --modes once,onward"
    assert other.command == f"{sweep}{rest} --only {point} -o again-{point}"


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("checks", ["all", ["dmesg"], None])
def test_a_point_that_showed_up_later_is_failed_again_through_one_that_is_recorded(depth: int, checks: object) -> None:
    """A new recording lacks it: the sweep asks for what it showed up under, and goes on for as many rounds."""
    first, second, third = (
        replace(point, error_type="ERRNO") for point in sorted(sweep_journal.points(3), key=lambda point: point.id)
    )
    below = f"{first.id}-once"
    under = {second: below, third: f"{below}+{second.id}-once" if depth > 1 else f"{second.id}-once"}
    lines = [{**SMALL[0], **({} if checks is None else {"checks": checks})}, SMALL[1]]
    lines += [*sweep_journal.point_lines([first]), {"type": "recorded", "notes": []}]
    for number, (point, name) in enumerate(under.items(), 1):
        lines += [{**line, "round": number, "under": name} for line in sweep_journal.point_lines([point])]
    trial = {**of_type(SMALL, "trial")[0], "status": "pass", "reason": ""}
    names = {below: first, **{under[third]: second}, f"{third.id}-once": third}
    lines += [{**trial, "trial": name, "point": point.id, "mode": "once"} for name, point in names.items()]
    found = account(lines)
    rows = {row.point.id: row for row in found.rows}
    said = [sweep_command(found, row, recorded_for(rows, row)).partition(" --modes once")[2] for row in found.rows]
    cheap = " --checks cheap" if checks == ["dmesg"] else ""
    deep = " --depth 2" if depth > 1 else ""
    assert said == [
        f"{cheap} --only {first.id} -o again-{first.id}",
        f"{cheap} --rounds 2{deep} --only {first.id} -o again-{second.id}",
        f"{cheap} --rounds 3{deep} --only {first.id} -o again-{third.id}",
    ]
    assert {key: some[2] for key, some in packed(found)["points"]["round"].items()} == {1: 0, 2: 0}
    options = SweepOptions(only=(first.id,), rounds=3, depth=depth)
    origins = {point.id: Origin(number, name) for number, (point, name) in enumerate(under.items(), 1)}
    plan = agenda([first, second, third], options, origins, {below})
    assert third.id in {shot.point.id for shot in plan.shots}, "it is asked for"


def test_a_page_of_many_points_is_small() -> None:
    assert len(page(account(list(sweep_journal.journal(LARGE))), Path("sweep")).encode()) <= 1_000_000
    assert (PAGE / "report.js").stat().st_size <= 30_000


def test_a_sweep_of_nothing_has_a_page() -> None:
    text = Reader(page(account([SMALL[0]]), Path("sweep"))).text
    assert "No trial failed." in text and "points 0: 0 injected" in text
