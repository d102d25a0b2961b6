"""Reports of a sweep: journals are merged without loss, and all formats have the same totals, whatever a guest said."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from inject.errors import InjectError
from inject.model.reached import Point
from inject.sweep.agenda import ALONE, ELSEWHERE
from inject.sweep.report.account import SweepAccount, TrialOutcome, account_of
from inject.sweep.report.lcov import LISTINGS
from inject.sweep.report.merge import INTERRUPTED, Part, merged, read
from inject.sweep.report.write import COBERTURA, JSONL, JUNIT, KTAP, LCOV, write_reports
from inject.sweep.state import UNENDED
from tests.support import sweep_journal
from tests.support.command import inject
from tests.support.ktap_reader import read as read_ktap
from tests.support.sweep_journal import HOSTILE, Lines, hostile, of_type

SEED = 324
"""Gives findings of each reason, errors, points without a trial and points that are not reached again."""

SMALL = list(sweep_journal.journal(120, seed=SEED))


def part(lines: Sequence[dict[str, Any]], name: str = "a/journal.jsonl") -> Part:
    return Part(Path(name), lines)


def account(*journals: Lines) -> SweepAccount:
    """The account of journals a, b, ..."""
    return account_of(merged([part(some, f"{name}/journal.jsonl") for name, some in zip("abcd", journals)], Path()))


def shards(lines: Lines, count: int) -> list[Lines]:
    """The sweep as ``count`` machines make it: each has the whole recording and some of the trials."""
    of = {line["id"]: number % count for number, line in enumerate(of_type(lines, "point"))}
    own = [
        [line for line in lines[1:] if line["type"] not in ("begun", "trial") or of[line["point"]] == number]
        for number in range(count)
    ]
    for number, some in enumerate(own):
        others = [point for point, shard in of.items() if shard != number]
        some.append({"type": "left", "why": ELSEWHERE, "points": others})
    return [[{**lines[0], "shard": f"{number}/{count}"}, *some] for number, some in enumerate(own, 1)]


def plain(found: SweepAccount) -> SweepAccount:
    """The account without the names of shards."""
    return replace(found, head={}, lines=found.lines[1:])


# ---------------------------------------------------------------- merging


def test_shards_are_merged_to_what_one_sweep_says() -> None:
    whole, first, second, third = account(SMALL), *shards(SMALL, 3)
    assert (plain(account(first, second, third)), plain(account(third, first, second))) == (plain(whole), plain(whole))
    assert account(first, second, third).notes == whole.notes == ()
    assert account(first, third).notes == ("the journals of these shards are not in this report: 2/3",)
    assert whole.totals.trials > 200 and whole.totals.findings > 0 and whole.totals.skipped
    assert account(first).totals.trials < whole.totals.trials


def test_what_was_merged_can_be_merged_again() -> None:
    first, second, third = shards(SMALL, 3)
    once = merged([part(first), part(second)], Path())
    again = merged([part(once), part(third)], Path())
    assert plain(account_of(again)) == plain(account(SMALL))
    assert account_of(account(SMALL).lines) == account(SMALL)


def test_a_journal_merged_with_itself_says_nothing_new() -> None:
    assert account(SMALL, SMALL).totals == account(SMALL).totals


def test_a_cut_last_line_does_not_count(tmp_path: Path) -> None:
    path = sweep_journal.write(tmp_path, SMALL)
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    found = read(tmp_path)
    assert (found.cut, list(found.lines)) == (len(data.splitlines(keepends=True)[-1]) - 20, SMALL[:-1])
    assert account_of(merged([found], tmp_path)).totals.trials == account(SMALL).totals.trials - 1


def test_points_without_the_end_of_their_recording_do_not_count() -> None:
    recorded = [line["type"] for line in SMALL].index("recorded")
    assert account(SMALL[: recorded - 1]).totals.points == 0
    assert account([*SMALL[: recorded - 1], *SMALL[1:]]).totals == account(SMALL).totals


def test_the_last_end_of_a_trial_counts() -> None:
    """The same trial is made twice in one journal if inject was killed before its first end was on the disk."""
    trial = next(line for line in SMALL if line["type"] == "trial" and line["status"] == "pass")
    later = {**trial, "status": "error", "injected": 0, "detail": "mkfs failed"}
    assert account([*SMALL, later]).totals.errors == account(SMALL).totals.errors + 1


@pytest.mark.parametrize("key", ["scenario", "text", "functions", "checked", "errno", "checks", "kernel"])
def test_journals_of_two_sweeps_are_refused_with_their_places(key: str) -> None:
    other = [{**SMALL[0], key: "other"}, *SMALL[1:]]
    with pytest.raises(InjectError) as error:
        account(SMALL, other)
    assert str(error.value).startswith(f"b/journal.jsonl:1: another sweep: {key} is `other` here, and `")
    assert str(error.value).endswith("` in a/journal.jsonl:1; merge the shards of one sweep")


def test_a_journal_of_an_older_version_does_not_say_which_checks_it_had() -> None:
    first, second, third = shards(SMALL, 3)
    del first[0]["checks"]
    assert plain(account(first, second, third)) == plain(account(SMALL))
    third[0]["checks"] = ["dmesg"]
    with pytest.raises(InjectError, match="c/journal.jsonl:1: another sweep: checks is .* and `all` in b/journal"):
        account(first, second, third)


def test_two_ends_of_one_trial_are_refused_with_their_places() -> None:
    trial = next(line for line in of_type(SMALL, "trial") if line["status"] == "pass")
    number = SMALL.index(trial) + 1
    other = [*SMALL[: number - 1], {**trial, "status": "fail", "reason": "hang"}, *SMALL[number:]]
    with pytest.raises(InjectError) as error:
        account(SMALL, other)
    assert str(error.value) == (
        f"b/journal.jsonl:{number}: trial `{trial['trial']}` ended as fail (hang) here, and as pass in "
        f"a/journal.jsonl:{number}; merge the shards of one sweep; repeated sweeps get a report each"
    )


@pytest.mark.parametrize(
    ("first", "second", "worse"),
    [
        (("error", ""), ("pass", ""), ("pass", "")),
        (("pass", ""), ("fail", "check"), ("fail", "check")),
        (("fail", "check"), ("fail", "hang"), ("fail", "hang")),
        (("fail", "exit"), ("skip", ""), ("fail", "exit")),
    ],
)
def test_of_two_shards_the_worse_end_of_a_trial_counts(
    first: tuple[str, str], second: tuple[str, str], worse: tuple[str, str]
) -> None:
    """A point that shows up in trials of two shards is tried in both, under one name."""
    trial = next(line for line in of_type(SMALL, "trial") if line["status"] == "pass")
    one, two = (
        [{**SMALL[0], "shard": f"{number}/2"}, *SMALL[1:], {**trial, "status": status, "reason": reason}]
        for number, (status, reason) in enumerate((first, second), 1)
    )
    found = account(one, two)
    (ended,) = (one.ended for one in found.trials if one.ended.shot == trial["trial"])
    assert (ended.status.value, ended.reason) == worse
    note = f"two shards made the trial {trial['trial']}, which ended differently: the worse end counts"
    assert found.notes == (note,)
    assert plain(account(two, one)) == plain(found)
    assert plain(account_of(merged([part(found.lines), part(two)], Path()))) == plain(found)
    with pytest.raises(InjectError, match="ended as"):
        account(one, [one[0], *two[1:]])


def test_a_trial_of_an_unknown_point_is_refused_with_its_place() -> None:
    trial = next(line for line in SMALL if line["type"] == "trial")
    with pytest.raises(InjectError, match="^a/journal.jsonl:3: trial `x-once` is of a point that no recording has$"):
        account([SMALL[0], SMALL[1], {**trial, "trial": "x-once", "point": "x"}])


@pytest.mark.parametrize(
    "line",
    [
        {"type": "trial", "trial": "x"},
        {"type": "point"},
        {"type": "finding"},
        {"type": "left", "why": "x", "points": 3},
        {"type": "end", "seconds": "x"},
    ],
)
def test_a_damaged_line_is_one_sentence(line: dict[str, Any]) -> None:
    with pytest.raises(InjectError, match="^a/journal.jsonl:") as error:
        account([*SMALL, line])
    assert "\n" not in str(error.value)


def test_a_sweep_says_how_it_ended() -> None:
    end = {"type": "end", "seconds": 60.5, "reason": ""}
    assert (account(SMALL).reason, account(SMALL).seconds) == (INTERRUPTED, 0)
    assert (account([*SMALL, end]).reason, account([*SMALL, end]).seconds) == ("", 60.5)
    begun = {"type": "begun", "trial": "x", "point": "x", "mode": "once"}
    assert account([*SMALL, end, begun]).reason == INTERRUPTED, "the run after it was killed"
    first, second = shards(SMALL, 2)
    found = account([*first, end], [*second, end, {**end, "seconds": 9.5, "reason": "time"}])
    assert (found.reason, found.seconds) == ("time", 130.5)
    totals = found.totals
    assert found.lines[-1] == {
        **{"type": "end", "seconds": 130.5, "reason": "time", "points": 120, "injected": totals.injected},
        **{"unreached": sum(totals.unreached.values()), "skipped": sum(totals.skipped.values())},
        **{"trials": totals.trials, "passed": totals.passed, "findings": totals.findings},
        **{"signatures": totals.signatures, "errors": totals.errors},
    }


def test_journals_of_two_kernels_are_refused_with_their_places() -> None:
    first, second = shards(SMALL, 2)
    kernel = {"type": "kernel", "release": "6.12.57", "config": "aaa"}
    found = account([*first, {**kernel, "release": "6.1"}, kernel], [*second, kernel])
    assert found.kernel == "6.12.57 (aaa)", "the last one of a journal counts: its recording was made anew"
    with pytest.raises(InjectError) as error:
        account([*first, kernel], [*second, {**kernel, "config": "bbb"}])
    assert str(error.value) == (
        f"b/journal.jsonl:{len(second) + 1}: another kernel: config is `bbb` here, and `aaa` in "
        f"a/journal.jsonl:{len(first) + 1}; merge shards of one kernel"
    )


@pytest.mark.parametrize(("ours", "theirs", "refused"), [("a", "b", True), ("a", "a", False), ("a", None, False)])
def test_journals_of_two_builds_are_refused(ours: str, theirs: Optional[str], refused: bool) -> None:
    """Those of older versions do not say their build."""
    first, second = shards(SMALL, 2)
    kernel = {"type": "kernel", "release": "6.12.57", "config": "aaa"}
    other = {**kernel, "build_id": theirs} if theirs else kernel
    journals = [*first, {**kernel, "build_id": ours}], [*second, other]
    if refused:
        with pytest.raises(InjectError, match="another kernel: build_id is `b` here, and `a` in a/journal"):
            account(*journals)
    else:
        assert account(*journals).kernel == "6.12.57 (aaa)"


def test_lines_of_other_types_are_kept_once() -> None:
    first, second = shards(SMALL, 2)
    told = {"type": "reduced", "finding": "x", "what": "y"}
    lines = account([*first, told, {"type": "reducing"}], [*second, told, {"type": "round", "round": 1}]).lines
    assert [line for line in lines if line["type"] not in {line["type"] for line in SMALL}] == [told, lines[-1]]


def test_findings_of_several_shards_are_one_for_each_signature(tmp_path: Path) -> None:
    failed = [line for line in SMALL if line["type"] == "trial" and line["status"] == "fail"]
    signature = failed[0]["signature"]
    first, second = shards(SMALL, 2)
    told = {"type": "finding", "signature": signature, "digest": "0" * 8, "directory": "findings/01-00000000"}
    one = {**told, "trials": ["x"], "runs": 3, "failed": 2, "known": "known since long"}
    found = account([*first, {**one, "runs": 9}, one], [*second, {**told, "trials": ["y"]}])
    group = next(group for group in found.groups if group.signature == signature)
    assert (group.runs, group.failed, group.known, group.directory) == (
        3,
        2,
        "known since long",
        "a/findings/01-00000000",
    )
    assert [one.ended.shot for one in group.trials] == [
        line["trial"] for line in sorted(failed, key=lambda line: SMALL.index(line)) if line["signature"] == signature
    ]
    assert {one.outcome for one in group.trials} == {TrialOutcome.KNOWN}
    assert sorted(group.signature for group in found.groups) == sorted({line["signature"] for line in failed})
    line = next(line for line in found.lines if line["type"] == "finding")
    assert line["trials"] == ["x", "y"]


def test_a_trial_under_way_is_kept_until_it_has_ended() -> None:
    begun = {"type": "begun", "trial": "x-once", "point": "x", "mode": "once"}
    assert of_type(list(account([*SMALL, begun]).lines), "begun") == [begun]
    assert of_type(list(account(SMALL).lines), "begun") == []


def test_another_reason_counts_more_than_that_a_point_belongs_to_another_shard() -> None:
    some = list(dict.fromkeys(line["point"] for line in of_type(SMALL, "trial")))[:1]
    lines = [line for line in SMALL if line.get("point") not in some]
    told = [{"type": "left", "why": why, "points": some} for why in ("is too far", ELSEWHERE)]
    for first, second in (told, told[::-1]):
        assert account([*lines, first], [*lines, second]).totals.skipped["is too far"] == 1


def test_why_a_point_has_no_trial_is_what_the_last_line_of_its_journal_says() -> None:
    some = list(dict.fromkeys(line["point"] for line in of_type(SMALL, "trial")))[:1]
    lines = [line for line in SMALL if line.get("point") not in some]
    told = [{"type": "left", "why": why, "points": some} for why in ("is too far", "is too near", "")]
    assert account([*lines, *told[:2]]).totals.skipped["is too near"] == 1
    assert "is too near" not in account([*lines, *told]).totals.skipped
    assert account([*lines, told[0]], [*lines, *told]).totals.skipped["is too far"] == 1


def test_a_point_that_only_the_recording_of_another_shard_reached_is_named() -> None:
    """Its trials belong to a part that does not know it. So no part makes them."""
    first, second, third = shards(SMALL, 3)
    other = next(line["point"] for line in of_type(second, "trial"))
    second = [line for line in second if other not in (line.get("id"), line.get("point"))]
    assert account(first, second, third).totals.skipped[ALONE] == 1
    assert account(first, third).totals.skipped[ELSEWHERE] >= 1 and ALONE not in account(first, third).totals.skipped
    both = merged([part(first), part(third)], Path())
    assert account_of(merged([part(both), part(second)], Path())).totals.skipped[ALONE] == 1
    only = [line for line in SMALL if line["type"] not in ("begun", "trial") or line["point"] == other]
    assert ALONE not in account(first, second, third, only).totals.skipped, "a sweep of that point makes up for it"
    assert account(first, second, third, only).notes == ()
    whole = [line for line in shards(SMALL, 3)[1] if line.get("point") != other]
    assert account(first, whole, third).totals.skipped[UNENDED] == 1, "its part knows it"


BASELINE = of_type(SMALL, "baseline")[0]


@pytest.mark.parametrize(
    ("baselines", "exit", "injected", "outcome"),
    [
        ([BASELINE], 1, 1, TrialOutcome.PROPAGATED),
        ([BASELINE, {**BASELINE, "seconds": 2.0}], 1, 1, TrialOutcome.PROPAGATED),
        ([BASELINE, {**BASELINE, "status": "fail", "exit": 1}], 1, 1, TrialOutcome.PROPAGATED),
        ([{**BASELINE, "exit": 1}], 0, 1, TrialOutcome.PROPAGATED),
        ([BASELINE], 0, 1, TrialOutcome.PASSED),
        ([BASELINE], None, 1, TrialOutcome.PASSED),
        ([BASELINE], "1", 1, TrialOutcome.PASSED),
        ([BASELINE], 1, 0, TrialOutcome.UNREACHED),
        ([], 1, 1, TrialOutcome.PASSED),
        ([BASELINE, {**BASELINE, "exit": 2}], 1, 1, TrialOutcome.PASSED),
        ([{**BASELINE, "exit": [0]}], 1, 1, TrialOutcome.PASSED),
        ([{**BASELINE, "exit": None}], 1, 1, TrialOutcome.PASSED),
    ],
)
def test_a_failure_that_reaches_the_workload_is_propagated(
    baselines: Lines, exit: object, injected: int, outcome: TrialOutcome
) -> None:
    """The only thing that shows it is another exit code than with nothing failing, which must be one for all shards."""
    trial = next(line for line in of_type(SMALL, "trial") if line["status"] == "pass" and line["injected"])
    some = [line for line in SMALL if line["type"] != "baseline" and line.get("trial") != trial["trial"]]
    found = account([*some, *baselines, {**trial, "exit": exit, "injected": injected}])
    (one,) = (one for one in found.trials if one.ended.shot == trial["trial"])
    assert one.outcome is outcome
    assert bool(one.fate) is (outcome is TrialOutcome.PROPAGATED)
    assert not one.fate or one.fate.startswith(f"the workload exited with {exit}, and with ")


@pytest.mark.parametrize(
    ("fates", "exit", "outcome", "said"),
    [
        ({"propagated": 1}, 0, TrialOutcome.PROPAGATED, "errors that were followed: 1 propagated"),
        ({"translated": 2}, None, TrialOutcome.PROPAGATED, "errors that were followed: 2 translated"),
        (
            {"swallowed": 1, "propagated": 3},
            1,
            TrialOutcome.SWALLOWED,
            "errors that were followed: 3 propagated, 1 swallowed; "
            "the workload exited with 1, and with 0 if nothing fails",
        ),
        ({"blocked": 1, "unseen": 2}, 0, TrialOutcome.PASSED, "errors that were followed: 1 blocked, 2 unseen"),
        ({"unseen": 2}, 1, TrialOutcome.PROPAGATED, None),
        ({"swallowed": "x", "else": 3}, 0, TrialOutcome.PASSED, ""),
        (["swallowed"], 0, TrialOutcome.PASSED, ""),
    ],
)
def test_errors_that_were_followed_say_what_became_of_them(
    fates: object, exit: object, outcome: TrialOutcome, said: Optional[str]
) -> None:
    trial = next(line for line in of_type(SMALL, "trial") if line["status"] == "pass" and line["injected"])
    found = account([*SMALL, {**trial, "exit": exit, "fates": fates}])
    (one,) = (one for one in found.trials if one.ended.shot == trial["trial"])
    assert one.outcome is outcome and said in (None, one.fate)
    failed = account([*SMALL, {**trial, "exit": exit, "fates": fates, "status": "fail", "reason": "check"}])
    (one,) = (one for one in failed.trials if one.ended.shot == trial["trial"])
    assert one.outcome is TrialOutcome.FINDING and said in (None, one.fate)


def test_a_point_that_propagates_in_one_trial_counts_as_such() -> None:
    point = next(row.point.id for row in account(SMALL).rows if row.worst is TrialOutcome.PASSED)
    once, onward = (line for line in of_type(SMALL, "trial") if line["point"] == point)
    assert once["exit"] == onward["exit"] == BASELINE["exit"]
    found = account([*SMALL, {**onward, "exit": 1}])
    assert next(row for row in found.rows if row.point.id == point).worst is TrialOutcome.PROPAGATED


def test_why_points_have_no_trial() -> None:
    some = list(dict.fromkeys(line["point"] for line in of_type(SMALL, "trial")))[:6]
    lines = [line for line in SMALL if line["type"] not in ("begun", "trial") or line["point"] not in some[:5]]
    found = account([*lines, {"type": "left", "why": "is too far", "points": some}])
    assert found.totals.skipped["is too far"] == 5


# ---------------------------------------------------------------- the formats


def written(directory: Path, lines: Lines) -> SweepAccount:
    """The reports of a journal, beside it."""
    sweep_journal.write(directory, lines)
    return write_reports([directory], directory)


def counted(directory: Path) -> dict[str, dict[str, int]]:
    """What each format says of points and trials."""
    end = json.loads((directory / JSONL).read_text().splitlines()[-1])
    suite = ElementTree.parse(directory / JUNIT).getroot()[0]
    cases = Counter(child.tag for case in suite.iter("testcase") for child in case)
    results = read_ktap((directory / KTAP).read_text())
    words = Counter(result.directive or ("ok" if result.ok else "not ok") for result in results)
    junit = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    assert (junit["failures"], junit["errors"], junit["skipped"]) == (
        *(cases["failure"], cases["error"]),
        cases["skipped"],
    )
    return {
        "jsonl": {"trials": end["trials"], "findings": end["findings"], "errors": end["errors"]},
        "junit": {
            "trials": junit["tests"] - junit["skipped"],
            "findings": junit["failures"],
            "errors": junit["errors"],
        },
        "ktap": {
            "trials": len(results) - words["SKIP"],
            "findings": words["not ok"] + words["TIMEOUT"],
            "errors": words["ERROR"],
        },
    }


def tracefile(path: Path) -> Counter[str]:
    """The sums of a tracefile, and those of its lines and branches one by one."""
    found: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key in ("LF", "LH", "BRF", "BRH", "FNF", "FNH"):
            found[key] += int(value)
        elif key == "BRDA":
            found["branches"] += 1
            found["taken"] += value.rpartition(",")[2] not in ("-", "0")
        elif key == "DA":
            found["lines"] += 1
            found["hit"] += value.rpartition(",")[2] != "0"
        elif key == "FN":
            assert re.fullmatch("[0-9]+,[^,]+", value), line
        else:
            assert key in ("TN", "SF", "FNDA", "end_of_record"), line
    return found


@pytest.mark.parametrize("lines", [SMALL, hostile(), SMALL[:2]], ids=["small", "hostile", "nothing"])
def test_all_formats_have_the_same_totals(tmp_path: Path, lines: Lines) -> None:
    found = written(tmp_path, lines)
    totals = found.totals
    expected = {"trials": totals.trials, "findings": totals.findings, "errors": totals.errors}
    assert counted(tmp_path) == {"jsonl": expected, "junit": expected, "ktap": expected}
    info = tracefile(tmp_path / LCOV)
    assert info["BRF"] == info["LF"] == info["branches"] == info["lines"] == totals.points
    assert info["BRH"] == info["LH"] == info["taken"] == info["hit"] == totals.injected
    document = ElementTree.parse(tmp_path / COBERTURA).getroot()
    lines_of = [line.attrib for line in document.iter("line")]
    covered = [line["condition-coverage"] for line in lines_of if line["hits"] != "0"]
    assert (len(lines_of), covered) == (totals.points, ["100% (1/1)"] * totals.injected)
    for what in ("lines", "branches"):
        assert [document.get(f"{what}-{which}") for which in ("valid", "covered")] == [
            *(str(totals.points), str(totals.injected)),
        ]
    without = sum(not row.trials for row in found.rows)
    suite = ElementTree.parse(tmp_path / JUNIT).getroot()[0]
    assert suite.get("skipped") == str(without)
    assert sum(one.directive == "SKIP" for one in read_ktap((tmp_path / KTAP).read_text())) == without
    assert [(one.get("name"), one.get("value")) for one in suite.iter("property")] == [("totals", totals.line)]
    assert (tmp_path / KTAP).read_text().splitlines()[-1] == f"# {totals.line}"
    assert account_of(merged([read(tmp_path / JSONL)], tmp_path)) == found


def test_each_point_is_a_line_of_the_listing_of_its_module(tmp_path: Path) -> None:
    found = written(tmp_path, SMALL)
    listing = (tmp_path / LISTINGS / "bcachefs.txt").read_text().splitlines()
    for row in found.rows:
        (line,) = (line for line in listing if row.point.id in line)
        assert line.endswith(": " + " < ".join(row.point.stack))
        assert (row.trials[0].said if row.trials else row.why) in line


def test_no_module_is_written_outside_or_over_another(tmp_path: Path) -> None:
    points = [Point("f", module, ("a+0x1",), error_type="ERRNO") for module in ("a b", "a_b", "a.b", "")]
    lines = [*SMALL[:2], *sweep_journal.point_lines(points), {"type": "recorded", "notes": []}]
    written(tmp_path / "alike", lines)
    texts = [path.read_text() for path in (tmp_path / "alike" / LISTINGS).iterdir()]
    assert sorted(text.splitlines()[0] for text in texts) == ["f [a b]:", "f [a.b]:", "f [a_b]:", "f:"]
    written(tmp_path / "in" / "out", hostile())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alike", "in"]
    assert len(list((tmp_path / "in" / "out" / LISTINGS).iterdir())) == len(HOSTILE)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]


@pytest.mark.parametrize("lines", [SMALL, hostile()], ids=["small", "hostile"])
def test_lcov_and_genhtml_read_it_with_the_same_totals(tmp_path: Path, lines: Lines) -> None:
    if shutil.which("genhtml") is None:
        pytest.skip("lcov is not installed")
    totals = written(tmp_path, lines).totals
    of = rf"(lines|branches)\.*: .* \({totals.injected} of {totals.points} (lines|branches)\)"
    for command in (
        ["lcov", "--rc", "lcov_branch_coverage=1", "--summary", LCOV],
        ["genhtml", "--branch-coverage", "-o", "html", LCOV],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.findall(of, done.stdout) == [("lines", "lines"), ("branches", "branches")], done.stdout
    assert list((tmp_path / "html").rglob("*.txt.gcov.html"))


@pytest.mark.parametrize("lines", [SMALL, hostile()], ids=["small", "hostile"])
def test_cobertura_has_the_lines_of_the_tracefile(tmp_path: Path, lines: Lines) -> None:
    written(tmp_path, lines)
    info = re.findall(r"^(SF|DA):(.*)$", (tmp_path / LCOV).read_text(), re.MULTILINE)
    document = ElementTree.parse(tmp_path / COBERTURA).getroot()
    assert document.findtext("sources/source") == str(tmp_path.resolve())
    told = []
    for file in document.iter("class"):
        told.append(("SF", file.get("filename")))
        told += [("DA", f"{line.get('number')},{line.get('hits')}") for line in file.iter("line")]
    assert told == info and len(info) > 10


@pytest.mark.parametrize("lines", [SMALL, hostile(), SMALL[:2]], ids=["small", "hostile", "nothing"])
def test_gcovr_reads_it_with_the_same_totals(tmp_path: Path, lines: Lines) -> None:
    pytest.importorskip("gcovr")
    totals = written(tmp_path, lines).totals
    words = ["--cobertura-add-tracefile", COBERTURA]
    words += ["--json-summary", "summary.json", "--html-details", "details.html"]
    done = subprocess.run(
        [sys.executable, "-m", "gcovr", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    for what in ("line", "branch"):
        assert (summary[f"{what}_total"], summary[f"{what}_covered"]) == (totals.points, totals.injected)
    listed = [one["filename"] for one in summary["files"]]
    assert sorted(listed) == sorted(f"{LISTINGS}/{path.name}" for path in (tmp_path / LISTINGS).glob("*"))
    assert len(list(tmp_path.glob("details.*.html"))) >= len(listed)


# ---------------------------------------------------------------- the command


def test_the_command_merges_and_says_the_totals(tmp_path: Path) -> None:
    first, second = shards(SMALL, 2)
    sweep_journal.write(tmp_path / "a", first)
    path = sweep_journal.write(tmp_path / "b", second)
    done = inject("report", tmp_path / "a", path, "-o", tmp_path / "out")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == account(SMALL).totals.line
    again = account_of(merged([read(tmp_path / "out" / JSONL)], tmp_path / "out"))
    assert plain(again) == plain(account(SMALL))


@pytest.mark.parametrize(("statuses", "code"), [((), 0), (("error",), 4), (("error", "fail"), 1)])
def test_the_exit_code_is_that_of_the_sweep(tmp_path: Path, statuses: Sequence[str], code: int) -> None:
    kept = [line for line in SMALL if line["type"] != "trial" or line["status"] in ("pass", *statuses)]
    sweep_journal.write(tmp_path, kept)
    assert inject("report", tmp_path, "-o", tmp_path / "out").returncode == code


def test_a_command_that_cannot_be_done_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"type":"run"}\n')
    (tmp_path / "empty").mkdir()
    for words, code, said in (
        (["-o", "out"], 2, "Missing argument"),
        ([tmp_path], 2, "Missing option"),
        ([tmp_path / "none", "-o", "out"], 4, f"cannot read {tmp_path}/none: No such file"),
        ([tmp_path / "empty", "-o", "out"], 4, f"cannot read {tmp_path}/empty/journal.jsonl: No such file"),
        ([tmp_path / "file", "-o", "out"], 4, f"{tmp_path}/file:1: not the first line of a sweep's journal"),
        (["/dev/zero", "-o", "out"], 4, "cannot read /dev/zero: not a regular file"),
    ):
        done = inject("report", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert done.stderr.startswith(f"inject: {said}") and done.stderr.count("\n") == 1, done.stderr
    sweep_journal.write(tmp_path / "sweep", SMALL)
    done = inject("report", tmp_path / "sweep", "-o", tmp_path / "file" / "below")
    assert (done.returncode, done.stdout) == (4, "") and "cannot write" in done.stderr
