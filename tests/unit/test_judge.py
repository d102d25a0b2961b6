"""Every reason, which of several is told, and what the whole run's exit code is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Optional

import pytest

from inject.errors import Place
from inject.model.errorpath import ErrorPath, Fate, Frame
from inject.model.expression import Expression
from inject.model.scenario import Bound, Expectation, Fault, Finding, Scenario
from inject.model.verdict import Complaint, Counts, Reason, Status, Verdict
from inject.process import matching
from inject.process.matching import Runaway
from inject.trial.judge import OUTPUT_LINES, Facts, Judgement, exit_status, tail, with_finding, with_hangs
from inject.trial.judge import judge as judgement_of
from inject.trial.observe import Observation

FAULTS = (Fault("first", "-EIO"), Fault("second", "-ENOMEM"))
SCENARIO = Scenario("s", "s.yaml", FAULTS, "true", timeout=7.5)
FIRED = Counts(seen=40, matched=8, injected=1)
GOOD = Facts(counts=(FIRED, FIRED), how="exited with 0", code=0)

WRONG: dict[Reason, dict[str, Any]] = {
    Reason.HANG: {"timed_out": True, "code": 137, "how": "was still running at the timeout"},
    Reason.NOT_INJECTED: {"counts": (FIRED, Counts(seen=3))},
    Reason.EXIT: {"code": 3, "how": "exited with 3"},
    Reason.ERRNO: {},
}
"""What makes GOOD fail for each reason that the facts themselves give; ERRNO comes from what is expected."""


def wants(**expected: Any) -> Scenario:
    """SCENARIO with another ``expect``."""
    return replace(SCENARIO, expect=Expectation(**expected))


def judge(scenario: Scenario, facts: Facts) -> tuple[Status, Optional[Reason], str, tuple[str, ...]]:
    """What the verdict says."""
    verdict = judgement_of(scenario, facts).verdict(scenario)
    return verdict.status, verdict.reason, verdict.detail, verdict.log


def test_nothing_wrong_is_a_pass() -> None:
    assert judge(SCENARIO, GOOD) == (Status.PASS, None, "", ())


# ---------------------------------------------------------------- each reason


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (Counts(), "second: 0 injections, expected >=1 (the workload never called it)"),
        (Counts(seen=3), "second: 0 injections, expected >=1 (3 calls seen, 0 matched)"),
        (
            Counts(seen=3, spared=2),
            "second: 0 injections, expected >=1 (3 calls seen, 0 matched, 2 skipped as NOFAIL)",
        ),
        (Counts(seen=9, matched=4), "second: 0 injections, expected >=1 (9 calls seen, 4 matched)"),
        (
            Counts(seen=9, matched=4, unread=2),
            "second: 0 injections, expected >=1 (9 calls seen, 4 matched, 2 not compared: string not in memory)",
        ),
        (Counts(missed=1), "second: 0 injections, expected >=1 (0 calls seen, 0 matched, up to 1 missed)"),
    ],
)
def test_a_fault_that_never_fired(counts: Counts, said: str) -> None:
    facts = replace(GOOD, counts=(FIRED, counts), output="the end\n")
    assert judge(SCENARIO, facts) == (Status.FAIL, Reason.NOT_INJECTED, said, ("the end",))


@pytest.mark.parametrize(
    ("bound", "injected", "said"),
    [
        (Bound(2), 1, "first: 1 injection, expected >=2 (40 calls seen, 8 matched)"),
        (Bound(2, 3), 4, "first: 4 injections, expected 2..3 (40 calls seen, 8 matched)"),
        (Bound(0, 0), 2, "first: 2 injections, expected 0 (40 calls seen, 8 matched)"),
        (Bound(0, 1), 2, "first: 2 injections, expected <=1 (40 calls seen, 8 matched)"),
        (Bound(2, 2), 1, "first: 1 injection, expected 2 (40 calls seen, 8 matched)"),
    ],
)
def test_a_fault_that_fired_too_often_or_too_seldom(bound: Bound, injected: int, said: str) -> None:
    facts = replace(GOOD, counts=(Counts(40, 8, injected), FIRED))
    own = replace(SCENARIO, faults=(replace(FAULTS[0], injected=bound), FAULTS[1]))
    for scenario in (own, replace(own, expect=Expectation(injected=Bound(1)))):
        assert judge(scenario, facts)[1:3] == (Reason.NOT_INJECTED, said)


def test_the_bound_of_all_faults_is_for_those_without_their_own() -> None:
    allowed = replace(wants(injected=Bound(0)), faults=(replace(FAULTS[0], injected=Bound(1)), FAULTS[1]))
    assert judge(allowed, replace(GOOD, counts=(FIRED, Counts())))[0] is Status.PASS
    assert judge(allowed, replace(GOOD, counts=(Counts(), FIRED)))[1] is Reason.NOT_INJECTED


@pytest.mark.parametrize(
    ("wanted", "code", "fine"),
    [
        ((0,), 0, True),
        ((0,), 1, False),
        ((0, 5), 5, True),
        ((0, 5), 4, False),
        ((137,), 137, True),
        (None, 1, True),
        (None, 139, True),
        (None, 0, False),
        (None, None, False),
        ((0,), None, False),
    ],
)
def test_exit_codes(wanted: Any, code: Any, fine: bool) -> None:
    facts = replace(GOOD, code=code, how=f"exited with {code}")
    status, reason, detail, _ = judge(wants(exit=wanted), facts)
    assert (status, reason) == ((Status.PASS, None) if fine else (Status.FAIL, Reason.EXIT))
    words = "a nonzero exit code" if wanted is None else "exit code " + " or ".join(map(str, wanted))
    assert detail == ("" if fine else f"the workload exited with {code}, expected {words}")


def test_the_output_has_to_match() -> None:
    scenario = wants(output="No space (left|on)")
    assert judge(scenario, replace(GOOD, output="dd: No space left\n"))[0] is Status.PASS
    status, reason, detail, log = judge(scenario, replace(GOOD, output="a\nb\n"))
    assert (status, reason) == (Status.FAIL, Reason.EXIT)
    assert detail == "nothing in the workload's output matches 'No space (left|on)'"
    assert log == ("a", "b")


def test_calls_that_did_fail_with_the_errno_are_named() -> None:
    """The C library opens with openat, and the kernel's own alias of an errno counts."""
    seen = {("openat", "EAGAIN"): 2, ("read", "EAGAIN"): 1, ("open", "EIO"): 1, ("stat", "EIO"): 1}
    facts = replace(GOOD, errnos=seen)
    said = judge(wants(errno={"open": "EWOULDBLOCK"}), facts)[2]
    assert said.startswith("open(2) did not return EWOULDBLOCK: it failed with EIO 1 time; ")
    assert said.endswith("; openat(2), read(2) failed with EWOULDBLOCK")
    assert judge(wants(errno={"open": "ENOSPC"}), facts)[2].endswith("it failed with EIO 1 time")


def test_the_output_is_matched_line_by_line() -> None:
    facts = replace(GOOD, output="before\ndd: failed\nafter\n")
    assert judge(wants(output="^dd: failed$"), facts)[0] is Status.PASS
    assert judge(wants(output="^failed$"), facts)[1] is Reason.EXIT


@pytest.fixture()
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching.matches, "__defaults__", (0.3,))


@pytest.mark.usefixtures("impatient")
def test_an_expression_that_does_not_end_is_an_error_that_names_it() -> None:
    facts = replace(GOOD, output="a" * 40 + "!")
    pattern = Expression("(a+)+$", "output", Place("s.yaml", 16, 11))
    status, reason, detail, _ = judge(wants(output=pattern), facts)
    assert (status, reason) == (Status.ERROR, None)
    assert detail.startswith("the regular expression `(a+)+$` of `output` (s.yaml:16:11) did not end within 0.3 s; ")


@pytest.mark.usefixtures("impatient")
def test_what_else_is_wrong_is_said_beside_an_expression_that_does_not_end() -> None:
    splat = Complaint(Reason.DMESG, "a splat", ("BUG: x",))
    status, reason, detail, log = judge(
        wants(output="(a+)+$"), replace(GOOD, output="a" * 40 + "!", complaints=(splat,))
    )
    assert (status, reason, log) == (Status.ERROR, None, ("BUG: x",))
    assert detail.endswith("; also: a splat")


def test_an_expression_that_a_check_could_not_match_in_time_is_an_error() -> None:
    seen = Observation()

    def ask() -> Complaint:
        raise Runaway("a pattern of `allow`", "simplify it")

    assert not seen.hear("dmesg", ask)
    facts = replace(GOOD, runaway=seen.runaway, complaints=(Complaint(Reason.CHECK, "fsck: damage"),))
    status, _, detail, _ = judge(SCENARIO, facts)
    assert (status, detail) == (Status.ERROR, "dmesg: a pattern of `allow`; simplify it; also: fsck: damage")


@pytest.mark.usefixtures("impatient")
def test_evidence_that_does_not_end_is_an_error() -> None:
    known = replace(SCENARIO, finding=Finding(Reason.DMESG, "a bug", Expression("(a+)+$", "evidence", Place("s.yaml"))))
    failed = Judgement(Status.FAIL, (Complaint(Reason.DMESG, "a" * 40 + "!"),))
    verdict = with_finding(known, failed).verdict(known)
    assert (verdict.status, verdict.finding) == (Status.ERROR, "")
    assert "of `evidence` (s.yaml:1:1) did not end" in verdict.detail


def test_the_wrong_exit_code_is_told_before_the_output() -> None:
    assert judge(wants(output="x"), replace(GOOD, code=3, how="exited with 3"))[2].endswith("expected exit code 0")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({}, "write(2) did not return ENOSPC: it never failed"),
        ({("read", "ENOSPC"): 1}, "write(2) did not return ENOSPC: it never failed; read(2) failed with ENOSPC"),
        ({("write", "EIO"): 1}, "write(2) did not return ENOSPC: it failed with EIO 1 time"),
        (
            {("write", "EROFS"): 1, ("write", "EIO"): 2, ("read", "EINTR"): 1},
            "write(2) did not return ENOSPC: it failed with EIO 2 times, EROFS 1 time",
        ),
    ],
)
def test_the_errno_of_a_system_call(seen: dict[tuple[str, str], int], said: str) -> None:
    scenario = wants(errno={"write": "ENOSPC"})
    assert judge(scenario, replace(GOOD, errnos=seen))[:3] == (Status.FAIL, Reason.ERRNO, said)
    assert judge(scenario, replace(GOOD, errnos={**seen, ("write", "ENOSPC"): 1}))[0] is Status.PASS


ALIASES = (("EOPNOTSUPP", "ENOTSUP"), ("EAGAIN", "EWOULDBLOCK"), ("EDEADLK", "EDEADLOCK"))


@pytest.mark.parametrize("names", [*ALIASES, *(pair[::-1] for pair in ALIASES)])
def test_an_errno_with_two_names_is_one_number(names: tuple[str, str]) -> None:
    wanted, seen = names
    facts = replace(GOOD, errnos={("fallocate", seen): 1})
    for written in names:
        assert judge(wants(errno={"fallocate": written}), facts)[0] is Status.PASS
    both = replace(wants(errno={"fallocate": "EIO"}), faults=(Fault("first", f"-{wanted}"), FAULTS[1]))
    assert judge(both, facts)[2] == f"fallocate(2) did not return EIO: it failed with {wanted} 1 time"


def test_a_hang_shows_the_blocked_stacks_and_says_nothing_of_the_exit_code() -> None:
    hung = replace(GOOD, **WRONG[Reason.HANG], output="last words\n")
    said = "the workload was still running after 7.5 s"
    assert judge(SCENARIO, replace(hung, blocked=("dd/1 state D",))) == (
        Status.FAIL,
        Reason.HANG,
        said,
        ("dd/1 state D",),
    )
    assert judge(SCENARIO, hung)[3] == ("last words",)
    assert judge(SCENARIO, replace(hung, allowed=22.5))[2] == "the workload was still running after 22.5 s"


STUCK = Complaint(Reason.HANG, "run: touch/7 cannot be killed", ("touch/7 state D",))


def test_a_task_that_cannot_be_killed_is_a_hang_whatever_else_holds() -> None:
    splat = Complaint(Reason.DMESG, "dmesg: BUG")
    assert judge(SCENARIO, replace(GOOD, complaints=(STUCK,)))[1:] == (Reason.HANG, STUCK.detail, STUCK.log)
    found = judge(SCENARIO, replace(GOOD, complaints=(splat, STUCK), troubles=("no fsck",), cut_short="the budget"))
    assert found[:3] == (Status.FAIL, Reason.HANG, f"{STUCK.detail}; also: dmesg: BUG")
    late = replace(GOOD, complaints=(STUCK,), timed_out=True, blocked=("dd/1 state D",))
    assert judge(SCENARIO, late)[2] == f"the workload was still running after 7.5 s; also: {STUCK.detail}"


@pytest.mark.parametrize(
    ("words", "detail"),
    [
        ("touch/7 cannot be killed", STUCK.detail),
        ("syncing /mnt: it hangs", f"{STUCK.detail}; syncing /mnt: it hangs"),
    ],
)
def test_a_trial_that_such_a_task_ended_early_is_a_hang_too(words: str, detail: str) -> None:
    for status in (Status.ERROR, Status.SKIP):
        hung = with_hangs(Judgement(status, words=words), [Complaint(Reason.CHECK, "fsck: damage"), STUCK])
        assert (hung.status, hung.complaints[0].reason, hung.complaints[0].detail) == (Status.FAIL, Reason.HANG, detail)
        assert hung.complaints[0].log == STUCK.log and hung.complaints[1].detail == "fsck: damage"


def test_an_error_without_such_a_task_stays_one() -> None:
    error = Judgement(Status.ERROR, words="no room")
    assert with_hangs(error, [Complaint(Reason.CHECK, "fsck: damage")]) == error


@pytest.mark.parametrize("reason", [Reason.DMESG, Reason.CHECK, Reason.RECOVER])
def test_what_an_oracle_or_recover_complains_of(reason: Reason) -> None:
    complaint = Complaint(reason, "fsck: 3 errors", ("line",))
    assert judge(SCENARIO, replace(GOOD, complaints=(complaint,))) == (
        Status.FAIL,
        reason,
        "fsck: 3 errors",
        ("line",),
    )


# ---------------------------------------------------------------- when the kernel cannot be judged


@pytest.mark.parametrize("reason", [None, Reason.NOT_INJECTED, Reason.EXIT])
def test_what_inject_cut_short_is_an_error_where_that_explains_it(reason: Optional[Reason]) -> None:
    facts = replace(GOOD, cut_short="the budget was used up", **(WRONG[reason] if reason else {}))
    assert judge(SCENARIO, facts)[:3] == (Status.ERROR, None, "the budget was used up")


@pytest.mark.parametrize("reason", [Reason.DMESG, Reason.CHECK, Reason.RECOVER])
def test_what_inject_cut_short_excuses_no_complaint(reason: Reason) -> None:
    facts = replace(GOOD, cut_short="the budget was used up", complaints=(Complaint(reason, "it is wrong"),))
    assert judge(SCENARIO, facts)[:3] == (Status.FAIL, reason, "it is wrong")


def test_a_check_that_was_not_made_forbids_a_pass_and_hides_no_failure() -> None:
    facts = replace(GOOD, troubles=("fsck: not installed", "dmesg: lines were lost"))
    assert judge(SCENARIO, facts)[:3] == (Status.ERROR, None, "fsck: not installed; dmesg: lines were lost")
    assert judge(SCENARIO, replace(facts, **WRONG[Reason.EXIT]))[1] is Reason.EXIT


def test_a_script_that_never_began_has_tested_nothing() -> None:
    facts = replace(GOOD, began=False, code=2, how="exited with 2", output="run: line 1: syntax error\n")
    said = "`run` never began: bash exited with 2: run: line 1: syntax error"
    for scenario in (wants(exit=None), SCENARIO):
        assert judge(scenario, facts)[:3] == (Status.ERROR, None, said)
    splat = Complaint(Reason.DMESG, "dmesg: BUG")
    assert judge(SCENARIO, replace(facts, complaints=(splat,)))[1] is Reason.DMESG


# ---------------------------------------------------------------- several at once

PRECEDENCE = ("crash", "hang", "dmesg", "not-injected", "exit", "errno", "check", "recover")


def test_the_order_is_the_contracts() -> None:
    assert tuple(reason.value for reason in Reason) == PRECEDENCE


@pytest.mark.parametrize(
    ("one", "other"),
    [pair for pair in itertools.combinations(Reason, 2) if pair != (Reason.HANG, Reason.EXIT)],
    ids=lambda reason: reason.value,
)
def test_the_earlier_reason_is_told_first_and_the_other_after_it(one: Reason, other: Reason) -> None:
    facts = GOOD
    scenario = wants(errno={"write": "ENOSPC"}) if Reason.ERRNO in (one, other) else SCENARIO
    complaints = []
    for reason in (other, one):
        if reason in WRONG:
            facts = replace(facts, **WRONG[reason])
        else:
            complaints.append(Complaint(reason, f"it is {reason.value}", (reason.value,)))
    status, reason, detail, log = judge(scenario, replace(facts, complaints=tuple(complaints)))
    assert (status, reason) == (Status.FAIL, one)
    assert detail.count("; also: ") == 1
    if one not in WRONG:
        assert detail.startswith(f"it is {one.value}; also: ")
        assert log == (one.value,)
    if other not in WRONG:
        assert detail.endswith(f"; also: it is {other.value}")


def test_all_complaints_of_one_reason_are_told_in_their_order() -> None:
    complaints = (Complaint(Reason.CHECK, "fsck: a", ("x",)), Complaint(Reason.CHECK, "remount: b", ("y",)))
    facts = replace(GOOD, complaints=complaints)
    assert judge(SCENARIO, facts) == (Status.FAIL, Reason.CHECK, "fsck: a; also: remount: b", ("x",))


def test_the_tail_of_long_output() -> None:
    text = "".join(f"{number}\n" for number in range(OUTPUT_LINES + 5))
    assert tail(text) == ("[... 5 lines before ...]", *map(str, range(5, OUTPUT_LINES + 5)))
    assert tail("a\n" * OUTPUT_LINES) == ("a",) * OUTPUT_LINES
    assert tail("") == ()


# ---------------------------------------------------------------- known failures

KNOWN = replace(SCENARIO, finding=Finding(Reason.CHECK, "fsck finds what was never there", r"^fsck: \d errors"))
FSCK = Complaint(Reason.CHECK, "fsck: 3 errors", ("line",))


def failed(*complaints: Complaint, troubles: tuple[str, ...] = ()) -> Judgement:
    return Judgement(Status.FAIL, complaints, troubles=troubles)


def test_a_finding_that_shows_is_a_pass_with_its_text() -> None:
    verdict = with_finding(KNOWN, failed(FSCK)).verdict(KNOWN)
    assert (verdict.status, verdict.reason, verdict.finding) == (Status.PASS, None, "fsck finds what was never there")
    assert (verdict.detail, verdict.log) == ("fsck: 3 errors", ("line",))
    assert with_finding(SCENARIO, failed(FSCK)) == failed(FSCK)


def test_the_evidence_may_stand_in_the_log() -> None:
    known = replace(KNOWN, finding=Finding(Reason.CHECK, "x", "^line$"))
    assert with_finding(known, failed(FSCK)).status is Status.PASS


def test_a_finding_that_no_longer_shows_fails_and_says_so() -> None:
    settled = with_finding(KNOWN, Judgement(Status.PASS)).verdict(KNOWN)
    assert (settled.status, settled.reason, settled.finding) == (Status.FAIL, Reason.CHECK, "")
    assert settled.detail == "the known failure (check) did not occur: remove `finding` if the bug is fixed"


@pytest.mark.parametrize(
    "judgement",
    [
        failed(Complaint(Reason.DMESG, "why")),
        failed(Complaint(Reason.HANG, "why")),
        Judgement(Status.SKIP, words="why"),
        Judgement(Status.ERROR, words="why"),
    ],
)
def test_any_other_end_stays_what_it_is(judgement: Judgement) -> None:
    assert with_finding(KNOWN, judgement) == judgement


def test_the_same_reason_with_other_evidence_is_no_known_failure() -> None:
    verdict = with_finding(KNOWN, failed(Complaint(Reason.CHECK, "leaks: 3 errors"))).verdict(KNOWN)
    assert (verdict.status, verdict.reason, verdict.finding) == (Status.FAIL, Reason.CHECK, "")
    assert verdict.detail == "leaks: 3 errors (not the known failure: `evidence` does not match all of this check)"


@pytest.mark.parametrize("evidence", [None, r"^fsck: \d errors"])
def test_a_finding_excuses_nothing_else(evidence: Optional[str]) -> None:
    known = replace(KNOWN, finding=Finding(Reason.CHECK, "x", evidence))
    recover = Complaint(Reason.RECOVER, "`recover` exited with 9", ("no",))
    verdict = with_finding(known, failed(FSCK, recover)).verdict(known)
    assert (verdict.status, verdict.reason, verdict.log) == (Status.FAIL, Reason.RECOVER, ("no",))
    assert verdict.detail == "`recover` exited with 9; also: the known failure, fsck: 3 errors"


def test_another_check_beside_the_known_one_fails() -> None:
    verdict = with_finding(KNOWN, failed(FSCK, Complaint(Reason.CHECK, "leaks: 3 errors"))).verdict(KNOWN)
    assert (verdict.status, verdict.reason) == (Status.FAIL, Reason.CHECK)
    assert verdict.detail.startswith("leaks: 3 errors")


def test_every_splat_must_be_the_known_one() -> None:
    known = replace(SCENARIO, finding=Finding(Reason.DMESG, "x", r"RIP: \S+ bch2_bad\+"))
    one, other = ("WARNING: one", "RIP: 0010: bch2_bad+0x1"), ("WARNING: other", "RIP: 0010: fine+0x1")
    splats = Complaint(Reason.DMESG, "dmesg: WARNING: one (and 1 more)", one + other)
    assert with_finding(known, failed(replace(splats, parts=(one, one)))).status is Status.PASS
    assert with_finding(known, failed(replace(splats, parts=(one, other)))).status is Status.FAIL


def test_one_bug_may_break_several_expectations() -> None:
    """Of ``expect`` only, and only where the evidence says so."""
    known = replace(SCENARIO, finding=Finding(Reason.EXIT, "x", "exited with 0|ENOSPC"))
    exited, errno = Complaint(Reason.EXIT, "it exited with 0"), Complaint(Reason.ERRNO, "no ENOSPC")
    assert with_finding(known, failed(exited, errno)).status is Status.PASS
    assert with_finding(known, failed(errno)).status is Status.FAIL
    assert with_finding(known, failed(exited, Complaint(Reason.ERRNO, "no EIO"))).status is Status.FAIL
    assert with_finding(known, failed(exited, Complaint(Reason.CHECK, "no ENOSPC"))).status is Status.FAIL


def test_a_check_that_was_not_made_could_have_found_more_than_the_known_failure() -> None:
    settled = with_finding(KNOWN, failed(FSCK, troubles=("leaks: EPERM",)))
    assert (settled.status, settled.words) == (Status.ERROR, "leaks: EPERM")
    assert judgement_of(SCENARIO, replace(GOOD, complaints=(FSCK,), troubles=("x",))).troubles == ("x",)


# ---------------------------------------------------------------- exit codes

P, F, S, E = (
    Verdict("s", Status.PASS),
    Verdict("s", Status.FAIL, Reason.EXIT),
    Verdict("s", Status.SKIP),
    Verdict("s", Status.ERROR),
)


@pytest.mark.parametrize(
    ("verdicts", "code", "strict"),
    [
        ([], 3, 3),
        ([P], 0, 0),
        ([P, P], 0, 0),
        ([P, S], 0, 3),
        ([S], 3, 3),
        ([S, S], 3, 3),
        ([P, F], 1, 1),
        ([P, E], 4, 4),
        ([E, F], 1, 1),
        ([S, E], 4, 4),
        ([S, F], 1, 1),
        ([P, F, S, E], 1, 1),
    ],
)
def test_the_exit_code_of_a_run(verdicts: list[Verdict], code: int, strict: int) -> None:
    for order in itertools.permutations(verdicts):
        assert exit_status(order) == code
        assert exit_status(order, no_skip=True) == strict


# ---------------------------------------------------------------- where the error went

LOST = ErrorPath(0, "first", "-EIO", Fate.SWALLOWED, where="g", call="write", result=7, frames=(Frame("g", "void"),))
SEEN = ErrorPath(0, "first", "-EIO", Fate.PROPAGATED, errno="EIO", call="write", result=-5)
ANYWHERE = (Fate.PROPAGATED, Fate.SWALLOWED)


def test_errors_that_go_where_they_may() -> None:
    second = replace(SEEN, fault=1)
    assert judge(wants(error=ANYWHERE), replace(GOOD, errors=(LOST, SEEN, second)))[0] is Status.PASS
    assert judge(SCENARIO, replace(GOOD, errors=(LOST,)))[0] is Status.PASS, "nobody asked"


def test_an_error_that_goes_elsewhere() -> None:
    facts = replace(GOOD, errors=(LOST, SEEN, LOST))
    status, reason, detail, log = judge(wants(error=(Fate.PROPAGATED,)), facts)
    assert (status, reason) == (Status.FAIL, Reason.ERRNO)
    assert detail == ("2 of 3 errors of first were not propagated: swallowed in g (void); write(2) returned 7")
    assert log[0] == "swallowed in g (void); write(2) returned 7 (2 times)"
    assert log[-1].split() == ["write(2)", "7"]


def test_a_fault_says_it_for_itself() -> None:
    faults = (replace(FAULTS[0], error=(Fate.SWALLOWED,)), FAULTS[1])
    scenario = replace(wants(error=(Fate.PROPAGATED,)), faults=faults)
    fine = replace(GOOD, errors=(LOST, replace(SEEN, fault=1)))
    assert judge(scenario, fine)[0] is Status.PASS
    swapped = replace(GOOD, errors=(SEEN, replace(LOST, fault=1)))
    assert judge(scenario, swapped)[2].startswith("1 of 1 errors of first were not swallowed")


def test_errors_that_nobody_could_follow_are_no_success() -> None:
    detail = judge(wants(error=ANYWHERE), GOOD)[2]
    assert detail == "no error of first was traced, expected propagated or swallowed"
    never = replace(GOOD, counts=(Counts(), Counts()))
    scenario = replace(SCENARIO, expect=Expectation(error=ANYWHERE, injected=Bound(0, 0)))
    assert judge(scenario, never)[0] is Status.PASS, "nothing fired, and nothing had to"


def test_an_errno_that_may_not_have_been_counted() -> None:
    """The table of errnos was full: the kernel is not judged by what is missing there."""
    wanted = replace(SCENARIO, expect=Expectation(errno={"write": "ENOSPC"}))
    facts = replace(GOOD, errnos={("write", "EIO"): 1})
    assert judge(wanted, facts)[:2] == (Status.FAIL, Reason.ERRNO)
    said = "write(2) did not return ENOSPC: it failed with EIO 1 time; but 3 failed system calls were not counted"
    full = judge(wanted, replace(facts, uncounted=3))
    assert full[:3] == (Status.ERROR, None, f"{said} (table full)")
    assert judge(wanted, replace(facts, uncounted=3, errnos={("write", "ENOSPC"): 1}))[0] is Status.PASS
