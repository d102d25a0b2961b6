"""KTAP that the kernel's tools accept, whatever a workload or a kernel log holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject.model.event import Armed, Injected, Injection
from inject.model.verdict import Reason, Status, Verdict
from inject.report.evidence import KEPT, Evidence, Fired
from inject.report.ktap import LOG_LINES, Ktap
from tests.support.command import inject
from tests.support.ktap_reader import read

INJECTION = Injection(0, "bch2_x", "-ENOMEM", -12, 3, 1, 2, "dd", 99, ("bch2_x+0x0", "bch2_write+0x1f"))
NOTHING = Fired()
VERDICTS = [
    Verdict("a/pass", Status.PASS),
    Verdict("a/fail", Status.FAIL, Reason.EXIT, "exited with 3\nsecond line", log=("one",), reproduce="inject run x"),
    Verdict("a/skip", Status.SKIP, detail="no xfs here # SKIP really"),
    Verdict("a/error", Status.ERROR, detail="setup exited with 1"),
    Verdict("a/hang", Status.FAIL, Reason.HANG, "still running after 60 s"),
    Verdict("a/known", Status.PASS, finding="it reports\n  success", notes=("mkfs crashed once",)),
]


def report(verdicts: list[Verdict], order: list[int], fired: Fired = NOTHING) -> str:
    """The whole text when the verdicts come in ``order``."""
    ktap = Ktap([verdict.scenario for verdict in verdicts])
    return ktap.head() + "".join(ktap.take(verdicts[i], fired) for i in order) + ktap.rest()


def test_every_status_has_its_word() -> None:
    results = read(report(VERDICTS, [0, 1, 2, 3, 4, 5]))
    assert [(r.name, r.ok, r.directive) for r in results] == [
        ("a/pass", True, ""),
        ("a/fail", False, ""),
        ("a/skip", True, "SKIP"),
        ("a/error", False, "ERROR"),
        ("a/hang", False, "TIMEOUT"),
        ("a/known", True, "XFAIL"),
    ]
    assert results[1].said == "exit: exited with 3"
    assert results[2].said == "SKIP no xfs here SKIP really"
    assert results[5].said == "XFAIL known failure: it reports success"
    assert results[5].diagnostics == ("note: mkfs crashed once",)


def test_a_failure_carries_its_evidence_before_its_result() -> None:
    failed = read(report(VERDICTS, [0, 1, 2, 3, 4, 5], Fired((INJECTION,), 1)))[1]
    assert failed.diagnostics == (
        "exited with 3",
        "second line",
        "| dd/2: bch2_x returns -ENOMEM (match 3)",
        "|   bch2_x+0x0",
        "|   bch2_write+0x1f",
        "| one",
        "reproduce: inject run x",
    )


@given(st.permutations(range(len(VERDICTS))))
def test_results_stand_in_the_order_of_the_scenarios(order: list[int]) -> None:
    """Guests side by side give verdicts in any order."""
    assert report(VERDICTS, order) == report(VERDICTS, list(range(len(VERDICTS))))


def test_a_result_is_out_as_soon_as_those_before_it_are() -> None:
    ktap = Ktap(["a/pass", "a/fail", "a/skip"])
    assert ktap.take(VERDICTS[1], Fired()) == ""
    assert ktap.take(VERDICTS[0], Fired()).count("ok ") == 2


def test_a_verdict_that_the_log_changed_later_is_shown_at_once() -> None:
    ktap = Ktap(["a/pass", "a/fail"])
    assert ktap.take(VERDICTS[0], Fired()).startswith("ok 1 a/pass")
    late = Verdict("a/pass", Status.FAIL, Reason.DMESG, "after the end of a/pass: BUG")
    assert "not ok 1 a/pass # dmesg: after the end of a/pass: BUG" in ktap.take(late, Fired())


def test_a_run_that_is_cut_short_shows_what_it_held() -> None:
    """Under its own number: the missing one is seen to be missing."""
    text = report(VERDICTS[:3], [0, 2])
    assert "ok 3 a/skip # SKIP" in text
    with pytest.raises(AssertionError):
        read(text)


def test_nothing_to_run_is_a_plan_of_nothing() -> None:
    assert read(Ktap([]).head()) == []


TRAPS = [
    "ok 1 fake",
    "not ok 7 fake # SKIP x",
    "1..9",
    "KTAP version 1",
    "  TAP version 13",
    "Subtest: fake",
    "# Subtest: fake",
    "[  3.1] Kernel panic - not syncing: VFS: Unable to mount root fs",
    "[  3.1] reboot: System halted",
    "List of all partitions:",
    "a\rok 2 fake",
    "a\x0bb\x1cc\u2028d",
    "\x1b[31mred",
    "",
    " # SKIP",
]


@pytest.mark.parametrize("trap", TRAPS)
def test_no_text_is_taken_for_structure(trap: str) -> None:
    fired = Fired((Injection(0, "f", "-EIO", -5, 1, 1, 1, trap, 0, (trap,)),), 1)
    verdicts = [
        Verdict("one", Status.FAIL, Reason.DMESG, trap, log=(trap,) * 2, reproduce=trap, notes=(trap,)),
        Verdict("two", Status.SKIP, detail=trap),
        Verdict("three", Status.PASS, finding=trap or "x"),
        Verdict("four#4", Status.PASS, trial=4),
    ]
    results = read(report(verdicts, [0, 1, 2, 3], fired))
    assert [result.ok for result in results] == [False, True, True, True]
    assert results[3].name == "four_4 trial 4"


@given(st.text(), st.text(), st.lists(st.text(), max_size=4))
def test_any_text_at_all(detail: str, finding: str, log: list[str]) -> None:
    verdicts = [
        Verdict("one", Status.FAIL, Reason.HANG, detail, log=tuple(log), reproduce=detail),
        Verdict("two", Status.PASS, finding=finding, notes=tuple(log)),
        Verdict("three", Status.SKIP, detail=detail),
    ]
    assert [result.ok for result in read(report(verdicts, [2, 1, 0]))] == [False, True, True]


def test_long_evidence_is_cut_and_says_so() -> None:
    verdict = Verdict("one", Status.FAIL, Reason.EXIT, "x", log=("line",) * (LOG_LINES + 5))
    (result,) = read(report([verdict], [0], Fired((INJECTION,), 3)))
    assert "| [... 5 more lines; see --json ...]" in result.diagnostics
    assert "| [... 2 more injections; see --json ...]" in result.diagnostics


def test_evidence_is_kept_by_trial_and_bounded() -> None:
    evidence = Evidence()
    for number in range(KEPT + 4):
        evidence.take(Injected("one", 0, INJECTION))
        evidence.take(Armed("one", number, ()))
    evidence.take(Injected("one", 1, INJECTION))
    assert (len(evidence.of("one").first), evidence.of("one").total) == (KEPT, KEPT + 4)
    assert (evidence.of("one", 1).total, evidence.of("two").total) == (1, 0)
    evidence.forget(["one"])
    assert evidence.of("one", 1) == Fired()


# ---------------------------------------------------------------- the command


def test_two_reports_cannot_share_standard_output() -> None:
    done = inject("vm", "run", "scenarios/smoke", "--ktap", "--json", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "both write to standard output" in done.stderr


def test_an_empty_part_is_a_complete_report(tmp_path: Path) -> None:
    """One scenario in 900 parts: nearly all of them are empty, and no guest is booted for that."""
    file = tmp_path / "one.yaml"
    file.write_text("name: one\nfaults: [{function: f, return: -5}]\nrun: 'true'\n")
    junit = tmp_path / "out.xml"
    done = inject("vm", "run", str(file), "--shard", "1/900", "--ktap", "--junit", str(junit))
    assert (done.returncode, done.stderr) == (0, "inject: part 1/900 has no scenario\n")
    assert read(done.stdout) == []
    assert 'tests="0"' in junit.read_text()
