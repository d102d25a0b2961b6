"""The questions after a workload: one that hangs is the last, any other failure costs its own evidence only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Optional, cast

import pytest

from inject.errors import InjectError
from inject.model.scenario import Fault, Scenario
from inject.model.verdict import Complaint, Reason
from inject.oracles import Context, Oracle
from inject.process.blocked import BlockedTask
from inject.process.cgroup import Cgroup
from inject.process.tool import Hung
from inject.trial.services import RunOptions, Services
from inject.trial.trial import PATIENCE, Trial

SCENARIO = Scenario("s", "s.yaml", (Fault("f", "-EIO"),), "true")
LOCKED = BlockedTask(7, 7, "python3", "D", "folio_wait_bit", "", ("folio_wait_bit+0x1",))
BUSY = BlockedTask(7, 7, "e2fsck", "R", "", "", ())


class Check(Oracle):
    """A check that does ``settled`` and then finds damage; ``asked`` has what it was asked."""

    def __init__(self, name: str, asked: list[str], settled: Optional[Exception] = None) -> None:
        super().__init__()
        self.name = name  # type: ignore[misc]
        self._asked = asked
        self._settled = settled

    def settled(self, context: Context) -> None:
        self._asked.append(f"{self.name} settled")
        if self._settled is not None:
            raise self._settled

    def after(self, context: Context) -> Optional[Complaint]:
        self._asked.append(f"{self.name} after")
        return self.complaint("damage")


class Filesystem:
    """A fixture of which only the unmount matters."""

    def __init__(self, asked: list[str]) -> None:
        self._asked = asked

    def umount(self, timeout: float) -> None:
        self._asked.append(f"umount within {timeout:g} s")


def asked_of(settled: Optional[Exception], patience: Optional[float] = None) -> tuple[list[str], Any]:
    """What is asked if the first check's ``settled`` ends so, and what was seen."""
    asked: list[str] = []
    services = cast(Services, SimpleNamespace(kernel=SimpleNamespace(oopsed=lambda: False)))
    trial = Trial(SCENARIO, services, RunOptions(1))
    oracles = [Check("one", asked, settled), Check("two", asked), Check("dmesg", asked)]
    context = Context(SCENARIO, cast(Any, Filesystem(asked)), cast(Any, None), cast(Any, None), patience=patience)
    trial._ask(oracles, context, cast(Cgroup, SimpleNamespace(populated=lambda: False)))
    return asked, trial._seen


def test_every_check_is_asked_before_and_after_the_unmount() -> None:
    asked, seen = asked_of(None)
    assert asked == [
        *(f"{name} settled" for name in ("one", "two", "dmesg")),
        "umount within 60 s",
        *(f"{name} after" for name in ("one", "two", "dmesg")),
    ]
    assert (len(seen.complaints), seen.troubles, seen.unusable) == (3, [], "")


def test_after_a_reader_that_hangs_in_the_kernel_only_the_log_is_read() -> None:
    asked, seen = asked_of(Hung("reading /mnt: the reader did not end in time", (LOCKED,)))
    assert asked == ["one settled", "dmesg settled", "dmesg after"]
    assert seen.troubles == ["one: reading /mnt: the reader did not end in time"]
    assert seen.readers == ["python3/7 state D in folio_wait_bit", "    folio_wait_bit+0x1"]
    assert seen.unusable == "one: python3/7 hung in the kernel"


@pytest.mark.parametrize("error", [InjectError("no"), OSError(5, "Input/output error"), Hung("slow", (BUSY,))])
def test_any_other_failure_of_a_check_leaves_the_others(error: Exception) -> None:
    asked, seen = asked_of(error)
    assert "one after" not in asked and asked[-2:] == ["two after", "dmesg after"]
    assert [complaint.reason for complaint in seen.complaints] == [Reason.CHECK, Reason.CHECK]
    assert len(seen.troubles) == 1 and seen.unusable == ""


def test_after_a_hang_nothing_takes_longer_than_ten_seconds() -> None:
    asked, _ = asked_of(None, PATIENCE)
    assert "umount within 10 s" in asked
    context = Context(SCENARIO, None, cast(Any, None), cast(Any, None), patience=PATIENCE)
    assert (context.limit(120), context.limit(5)) == (PATIENCE, 5)
