"""A splat between two trials is charged to the one before."""

from __future__ import annotations

from typing import Any, Optional, cast

import pytest

from inject.kernel.log import LogReader, LogRecord
from inject.model.scenario import Fault, Scenario
from inject.model.verdict import Reason, Status, Verdict
from inject.oracles.dmesg import LAST_LINE
from inject.trial.aftermath import Aftermath

MARK = f"inject: a: {LAST_LINE}"


def scenario(name: str, *allow: str) -> Scenario:
    return Scenario(name, f"{name}.yaml", (Fault("f", "-EIO"),), "true", allow=allow)


class Log:
    """What the log has at each look."""

    def __init__(self, *looks: list[str]) -> None:
        self._looks = list(looks)

    def read(self) -> list[LogRecord]:
        texts = self._looks.pop(0) if self._looks else []
        return [LogRecord(6, 1 if text.startswith("inject: ") else 0, 0, 0, text) for text in texts]

    def close(self) -> None:
        self._looks.clear()


def late(
    during: list[str], after: list[str], verdict: Optional[Verdict] = None, own: Any = (), others: Any = ()
) -> Optional[Verdict]:
    """The corrected verdict if the log has these lines when the trial ends, and afterwards."""
    with Aftermath(cast(LogReader, Log(during, after))) as aftermath:
        aftermath.follow(scenario("a", *own), verdict or Verdict("a", Status.PASS))
        return aftermath.late(others)


def test_a_late_splat_fails_the_trial_before_and_says_so() -> None:
    for during, after in (([MARK], ["BUG: late"]), ([MARK, "BUG: late"], []), (["BUG: judged", MARK], ["BUG: late"])):
        found = late(during, after)
        assert found is not None
        assert (found.scenario, found.status, found.reason) == ("a", Status.FAIL, Reason.DMESG)
        assert (found.detail, found.log) == ("after the end of a: BUG: late", ("BUG: late",))


def test_what_the_trial_judged_itself_or_somebody_allows_is_not_late() -> None:
    assert late(["BUG: judged", MARK], ["fine"]) is None
    assert late([MARK], ["BUG: late"], own=["BUG: late"]) is None
    assert late([MARK], ["BUG: late"], others=["BUG: late"]) is None
    assert late([MARK], ["inject: BUG: late"]) is None


def test_a_trial_whose_log_was_not_checked_is_charged_nothing() -> None:
    assert late(["begin"], ["BUG: late"]) is None
    assert late([MARK], ["BUG: late"], Verdict("a", Status.FAIL, Reason.HANG, unusable="stuck")) is None


def test_each_line_is_charged_once() -> None:
    with Aftermath(cast(LogReader, Log([MARK], ["BUG: late"], ["BUG: later"]))) as aftermath:
        assert aftermath.late() is None
        aftermath.follow(scenario("a"), Verdict("a", Status.PASS))
        assert aftermath.late() is not None and aftermath.late() is None


@pytest.mark.parametrize(
    ("reason", "expected", "detail"),
    [
        (Reason.CRASH, Reason.CRASH, "why; also: after the end of a: BUG: late"),
        (Reason.DMESG, Reason.DMESG, "why; also: after the end of a: BUG: late"),
        (Reason.EXIT, Reason.DMESG, "after the end of a: BUG: late; also: why"),
    ],
)
def test_the_first_reason_counts(reason: Reason, expected: Reason, detail: str) -> None:
    found = late([MARK], ["BUG: late"], Verdict("a", Status.FAIL, reason, "why"))
    assert found is not None and (found.reason, found.detail) == (expected, detail)


def test_a_known_failure_excuses_nothing_that_comes_late() -> None:
    found = late([MARK], ["BUG: late"], Verdict("a", Status.PASS, detail="fsck: 1 error", finding="known"))
    assert found is not None and (found.status, found.finding) == (Status.FAIL, "")
