"""A guest that dies or hangs names the injections that it could not report, from its memory."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inject.fleet.dispatch import run_batch
from inject.fleet.host import Host
from inject.fleet.journal import Journal
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.model.event import Event, Injected
from inject.model.verdict import Counts, Reason, Status
from inject.scenario.load import load
from inject.vm.build.artifacts import Artifacts
from inject.vm.guest import GuestOptions
from inject.vm.hosts import Guests
from tests.support import ROOT
from tests.support.command import COMMAND

pytestmark = pytest.mark.test_kernel  # its symbols are in one System.map, those of a module are not

CASES = ROOT / "tests/data/cases"
LIMIT = 900
"""Seconds after which a whole call counts as hung."""

STUCK = """
name: stuck
faults:
  - function: __x64_sys_mkdir
    return: -EIO
run: |
  mkdir x || true
  pkill -STOP -f '[i]nject.fleet.remote'
  for i in 1 2 3; do mkdir x || true; done
  echo nothing moves now >/dev/kmsg
  sleep 600
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Mapping[str, Any]]:
    """The report of a guest that dies and of one that stops answering, from one call."""
    report = tmp_path_factory.mktemp("remains") / "out.jsonl"
    files = [str(CASES / name) for name in ("crash-after-many.yaml", "hang-after-some.yaml")]
    command = [*COMMAND, "vm", "run", "--kernel", "test", *files, "--json", str(report), "--seed", "1"]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    return [json.loads(line) for line in report.read_text().splitlines()]


def of(events: list[Mapping[str, Any]], scenario: str) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """Injections and verdict of a scenario."""
    own = [event for event in events if event.get("scenario") == scenario]
    return [event for event in own if event["type"] == "injection"], own[-1]


def test_the_injection_that_a_kernel_died_of(events: list[Mapping[str, Any]]) -> None:
    injections, verdict = of(events, "crash-after-many")
    assert (verdict["status"], verdict["reason"]) == ("fail", "crash"), verdict["detail"]
    assert "the last of 31 injections: truncate/" in verdict["detail"]
    assert "bch2_get_folio_disk_reservation returns -BCH_ERR_ENOSPC_disk_reservation (match 1)" in verdict["detail"]
    assert [(count["seen"], count["matched"], count["injected"]) for count in verdict["counts"]] == [
        (30,) * 3,
        (1,) * 3,
    ]
    assert verdict["notes"] == []
    assert [(event["fault"], event["ordinal"]) for event in injections] == [(0, n) for n in range(1, 31)] + [(1, 1)]
    last = injections[-1]
    assert (last["function"], last["comm"]) == ("bch2_get_folio_disk_reservation", "truncate")
    functions = [frame.partition("+")[0] for frame in last["stack"]]
    assert functions[0] == "bch2_get_folio_disk_reservation" and "bchfs_truncate" in functions
    assert functions[-1] == "entry_SYSCALL_64_after_hwframe"
    shown = [line.strip() for line in verdict["log"]]
    assert [frame for frame in last["stack"] if frame not in shown] == []


def test_the_stack_from_memory_is_the_one_that_a_guest_reports(events: list[Mapping[str, Any]]) -> None:
    """The host names addresses by System.map and finds the trampoline's own frames as the guest does."""
    injections, _ = of(events, "hang-after-some")
    assert len({tuple(event["stack"]) for event in injections}) == 1 and injections[0]["stack"]


def test_the_injections_of_a_guest_that_stopped_answering(events: list[Mapping[str, Any]]) -> None:
    injections, verdict = of(events, "hang-after-some")
    assert (verdict["status"], verdict["reason"]) == ("fail", "hang"), verdict["detail"]
    assert "the last of 6 injections: mkdir/" in verdict["detail"]
    assert verdict["counts"][0]["injected"] == 6 and verdict["notes"] == []
    assert [(event["ordinal"], event["return"]) for event in injections] == [
        (number, "-EIO" if number % 2 else "-ENOSPC") for number in range(1, 7)
    ]


def test_the_report_of_a_run_has_no_addresses(events: list[Mapping[str, Any]]) -> None:
    armed = [event for event in events if event["type"] == "armed"]
    assert len(armed) == 2 and not any("memory" in event for event in armed)


class Watched(Guests):
    """Guests whose hosts a test can look at."""

    opened: list[Host]

    @contextmanager
    def open(self, *words: Any, **options: Any) -> Iterator[Any]:
        """A guest, remembered."""
        with super().open(*words, **options) as host:
            self.opened.append(host)
            yield host


def test_a_guest_that_answers_while_nothing_moves(
    built: Artifacts, cache_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory is read while it runs."""
    file = tmp_path / "stuck.yaml"
    file.write_text(STUCK)
    scenarios, seen = load([file]), list[Event]()
    guests = Watched({"test": built}, GuestOptions(), cache_root, lambda _: "test")
    guests.opened = []

    def overdue(journal: Journal) -> str:
        return "nothing happened" if any("nothing moves now" in host.console_tail() for host in guests.opened) else ""

    monkeypatch.setattr(Journal, "overdue", overdue)
    (verdict,) = run_batch(Ledger(scenarios), Request(1, cwd=tmp_path), guests, cache=cache_root, on_event=seen.append)
    assert (verdict.status, verdict.reason) == (Status.FAIL, Reason.HANG), verdict.detail
    assert "the last of 4 injections: mkdir/" in verdict.detail
    assert (verdict.counts, verdict.notes) == ((Counts(4, 4, 4),), ())
    assert [event.injection.ordinal for event in seen if isinstance(event, Injected)] == [1, 2, 3, 4]
