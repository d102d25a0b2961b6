"""What a user and a CI system see of a verdict."""

import io
import json
import os
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from inject.errors import InjectError
from inject.model.errorpath import ErrorPath, Fate, Frame
from inject.model.event import Injected, Injection
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.report import jsonl, junit, paint, table
from inject.report import progress as console
from inject.report.evidence import Evidence

LONG = "disk-reservation/" + "very-" * 20 + "long-name"
PASS = Verdict("smoke/mkdir", Status.PASS, counts=(Counts(40, 8, 1),), seconds=0.42)
FAIL = Verdict(
    LONG,
    Status.FAIL,
    Reason.NOT_INJECTED,
    detail="bch2_x was called 12 times in scope, " * 8,
    counts=(Counts(12_000_000, 1_234_567, 0), Counts(1, 1, 1)),
    seconds=123.4,
    log=tuple(f"line {number} \x1b[31m" for number in range(50)),
    reproduce="inject run scenarios/x.yaml --seed 7",
)
SKIP = Verdict("a/b", Status.SKIP, detail="this kernel has no xfs")
FINDING = Verdict("a/c", Status.PASS, finding="it reports success")
ERROR = Verdict("z", Status.ERROR, detail="setup exited with 1", trial=3)
ALL = [PASS, FAIL, SKIP, FINDING, ERROR]


class Terminal(io.StringIO):
    def isatty(self):
        return True


# ---------------------------------------------------------------- table


@pytest.mark.parametrize("width", [72, 80, 200])
def test_the_table_keeps_to_its_width(width):
    text = table.render(ALL, width=width, colour=False)
    ours = [line for line in text.splitlines() if "  | " not in line and not line.startswith("fail (not-injected)")]
    assert max(len(line) for line in ours) <= width


def test_what_a_fail_needs_is_under_the_table():
    text = table.render(ALL, width=80, colour=False)
    assert "fail (not-injected) " + LONG in text
    assert "  | line 39" in text and "line 40" not in text
    assert "10 more lines" in text
    assert "reproduce: inject run scenarios/x.yaml --seed 7" in text
    assert text.rstrip().endswith("5 scenarios: 1 passed, 1 known failure, 1 failed, 1 skipped, 1 error")


def test_a_fail_shows_where_it_was_injected_first():
    """Which call it was is half of the answer to why it failed; a pass needs none."""
    evidence = Evidence()
    for number, verdict in enumerate((FAIL, PASS, FINDING, ERROR)):
        stack = ("should_failslab+0x5", "__alloc_object+0x34", *(f"caller{step}+0x1" for step in range(20)))
        injection = Injection(0, "should_failslab", "-ENOMEM", -12, 7, 100 + number, 100 + number, "mount", 1, stack)
        evidence.take(Injected(verdict.scenario, verdict.trial, injection))
    shown = " ".join(table.render(ALL, width=80, colour=False, evidence=evidence).split())
    path = " < ".join(["should_failslab", "__alloc_object", *(f"caller{step}" for step in range(11)), "..."])
    for number in (0, 3):
        assert f"first injection in mount/{100 + number}, match 7: {path}" in shown
    assert shown.count("first injection") == 2


def test_a_note_is_shown_with_a_pass_too(tmp_path):
    noted = replace(PASS, notes=("remount: the tree was listed to 10 files \x1b[31m", "another"))
    text = table.render([noted], width=80, colour=False)
    assert "pass smoke/mkdir\n  note: remount: the tree was listed to 10 files \\x1b[31m\n  note: another\n" in text
    assert "note: another" in table.render([replace(FAIL, notes=("another",))], width=80, colour=False)
    assert jsonl.from_json(json.loads(json.dumps(jsonl.to_json(noted)))).notes[1] == "another"
    junit.write(tmp_path / "x.xml", [noted])
    assert "note: another" in ET.parse(tmp_path / "x.xml").getroot().find(".//system-out").text


def test_a_pass_is_one_row_and_no_more():
    text = table.render([PASS], width=80, colour=False)
    assert text.count("smoke/mkdir") == 1
    assert "1/8/40" in text


def test_colour_only_when_asked_and_never_from_the_workload():
    assert "\033" not in table.render(ALL, width=80, colour=False)
    coloured = table.render(ALL, width=80, colour=True)
    assert "\033[31mfail" in coloured
    assert re.sub(r"\033\[\d+m", "", coloured) == table.render(ALL, width=80, colour=False)


def test_no_verdicts_at_all():
    assert "0 scenarios: 0 passed" in table.render([], width=80, colour=False)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (725.2, "12 min 5 s")],
)
def test_what_all_of_it_took_is_the_last_word(seconds, words):
    assert table.render(ALL, width=80, colour=False, seconds=seconds).endswith(f"1 error in {words}\n")


def test_who_gets_colour():
    assert paint.wanted(Terminal(), {"TERM": "xterm"})
    assert not paint.wanted(Terminal(), {"TERM": "xterm", "NO_COLOR": "1"})
    assert not paint.wanted(Terminal(), {"TERM": "dumb"})
    assert not paint.wanted(io.StringIO(), {"TERM": "xterm"})


WAY = ErrorPath(0, "bch2_x", "-ENOMEM", Fate.TRANSLATED, "EIO", "", "write", -5, (Frame("g\x1b", "-EIO"),), 3)


def test_where_errors_went_is_shown_to_those_who_ask():
    followed = replace(PASS, errors=(WAY,) * 12)
    assert table.render([followed], width=80, colour=False) == table.render([PASS], width=80, colour=False)
    text = table.render([followed], width=80, colour=False, errors=True)
    assert "where the errors went: smoke/mkdir\n  translated: write(2) failed with EIO (3 times)\n" in text
    assert "    bch2_x    -ENOMEM (injected)\n" in text
    assert "    write(2)  -EIO\n" in text
    assert "2 more paths" in text and "\x1b" not in text
    assert "where the errors went" not in table.render(ALL, width=80, colour=False, errors=True)


def test_where_an_error_went_as_a_line_and_as_json():
    assert console.error_line(WAY, 4) == "  match 4 of bch2_x: translated: write(2) failed with EIO"


# ---------------------------------------------------------------- console


def test_progress_lines():
    assert console.begin_line("a/b", 2, 7) == "[2/7] a/b"
    assert console.verdict_line(PASS) == "pass smoke/mkdir 0.4 s"
    assert console.verdict_line(SKIP) == "skip a/b 0.0 s: this kernel has no xfs"
    assert console.verdict_line(FINDING) == "finding a/c 0.0 s"
    injection = Injection(0, "bch2_x", "-ENOMEM", -12, 3, 1, 2, "dd", 0)
    assert console.injection_line(injection) == "  dd/2: bch2_x returns -ENOMEM (match 3)"


# ---------------------------------------------------------------- JUnit


def test_junit_counts_and_texts(tmp_path):
    pytest.importorskip("junitparser")
    file = tmp_path / "junit.xml"
    junit.write(file, ALL)
    suite = ET.parse(file).getroot().find("testsuite")
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    cases = {case.get("name"): case for case in suite}
    assert cases["mkdir"].get("classname") == "smoke"
    failure = cases[LONG.partition("/")[2]].find("failure")
    assert failure.get("type") == "not-injected"
    assert "reproduce: inject run" in failure.text
    assert "\\x1b[31m" in failure.text
    assert cases["b"].find("skipped").get("message") == "this kernel has no xfs"
    assert cases["c"].find("system-out").text == "known failure: it reports success"


def test_junit_carries_call_path_and_log(tmp_path):
    pytest.importorskip("junitparser")
    evidence = Evidence()
    injection = Injection(0, "bch2_x", "-ENOMEM", -12, 3, 1, 2, "dd", 0, ("bch2_x+0x0", "bch2_write+0x1f"))
    evidence.take(Injected(FAIL.scenario, 0, injection))
    file = tmp_path / "junit.xml"
    junit.write(file, ALL, evidence=evidence)
    text = ET.parse(file).getroot().find(".//failure").text
    assert (
        "injected:\n  dd/2: bch2_x returns -ENOMEM (match 3)\n    bch2_x+0x0\n    bch2_write+0x1f\nlog:\n  line 0"
        in text
    )
    assert "  line 49" in text and text.rstrip().endswith("--seed 7")


def test_no_character_can_break_the_file(tmp_path):
    pytest.importorskip("junitparser")
    every = "".join(map(chr, [*range(0x20), 0x7F, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x1F600])) + '<&>]]>"'
    file = tmp_path / "junit.xml"
    junit.write(file, [Verdict(every, Status.FAIL, Reason.EXIT, detail=every, log=(every,), reproduce=every)])
    assert "\\x00" in ET.parse(file).getroot().find(".//failure").get("message")


def test_junit_on_a_full_disk(tmp_path):
    pytest.importorskip("junitparser")
    with pytest.raises(InjectError, match="cannot write"):
        junit.write("/dev/full", [PASS])
    with pytest.raises(InjectError, match="cannot write"):
        junit.write(os.fspath(tmp_path), [PASS])
