"""One record of where scenarios stand."""

from __future__ import annotations

import pytest

from inject.fleet.ledger import Ledger, Stage, Start
from inject.model.scenario import Fault, Scenario
from inject.model.verdict import Status, Verdict


def ledger(*names: str) -> Ledger:
    return Ledger([Scenario(name, f"{name}.yaml", (Fault("f", "-ENOMEM"),), "true") for name in names])


def test_from_waiting_to_settled() -> None:
    made = ledger("a", "b")
    assert made.names(Stage.WAITING) == ["a", "b"]
    assert made.give("b") and not made.give("b")
    made.arm("b")
    assert (made.stage("b"), made.number("b"), made.number("a")) == (Stage.ARMED, 1, 0)
    verdict = Verdict("b", Status.PASS)
    made.settle(verdict)
    assert (made.names(Stage.SETTLED), made.names(Stage.ARMED), made.verdicts()) == (["b"], [], [verdict])


def test_verdicts_come_in_the_order_of_the_batch() -> None:
    made = ledger("a", "b", "c")
    for name in "cab":
        made.settle(Verdict(name, Status.PASS))
    assert [verdict.scenario for verdict in made.verdicts()] == ["a", "b", "c"]


def test_what_was_given_back_waits() -> None:
    made = ledger("a")
    made.give("a")
    made.place("a", Start.FORK)
    made.give_back("a")
    assert (made.names(Stage.WAITING), made.start("a")) == (["a"], None)


def test_a_foreign_verdict_is_refused() -> None:
    with pytest.raises(KeyError):
        ledger("a").settle(Verdict("b", Status.PASS))
