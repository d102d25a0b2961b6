"""First scenarios for a real kernel's functions: each is valid, and those of known families reach theirs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from inject import scenario as scenarios
from inject.draft.drafter import Drafter
from inject.draft.guesses import guess
from inject.engine.planner import Planner
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel
from inject.kernel.syscalls import WRAPPER
from inject.kernel.types import Types
from tests.support.command import inject
from tests.support.workbench import guest_only

pytestmark = [guest_only, pytest.mark.test_kernel]

SAMPLE = 1
"""Functions that are run when not all are."""

LIMIT = 1800
"""Seconds after which a whole call counts as hung."""


@pytest.fixture(scope="module")
def drafts(kernel: Kernel, types: Types) -> dict[str, str]:
    """By function: all that are tagged and can be failed, and a few system calls."""
    drafter = Drafter(kernel, types)
    found = {}
    calls = [f"{WRAPPER}{call}" for call in ("mkdir", "openat", "write", "getpid")]
    for name in [*(p.function for p in kernel.points.all if "_sys_" not in p.function), *calls]:
        try:
            found[name] = drafter.draft(name)
        except CannotRun as error:
            assert "functions are called" in str(error)
    assert len(found) > 20
    return found


@pytest.mark.slow
def test_each_is_valid_on_this_kernel(kernel: Kernel, types: Types, drafts: dict[str, str]) -> None:
    planner = Planner(kernel, types, 0, {"$DEV": (1,), "$MNT": (2,)})
    for name, text in drafts.items():
        (scenario,) = scenarios.parse(text, "draft.yaml", name)
        assert [planner.rule(fault, 0).point.function for fault in scenario.faults] == [name]


def chosen(kernel: Kernel, drafts: dict[str, str]) -> list[str]:
    """Of those whose workload is known and kills nothing, the first; all with INJECT_SAMPLE=all."""
    points = [kernel.points.find(name) for name in drafts]
    calls = {point.function: point.function[len(WRAPPER) :] * point.function.startswith(WRAPPER) for point in points}
    guesses = {p.function: guess(p.function, p.error_type, calls[p.function]) for p in points}
    known = [name for name, found in guesses.items() if found.reaches and not found.beware]
    if os.environ.get("INJECT_SAMPLE") == "all":
        return known
    return known[:SAMPLE]


@pytest.mark.slow
@pytest.mark.limit(LIMIT)
def test_each_of_a_known_family_reaches_its_function(kernel: Kernel, drafts: dict[str, str], tmp_path: Path) -> None:
    names = chosen(kernel, drafts)
    assert names
    for name in names:
        (tmp_path / f"{name}.yaml").write_text(drafts[name])
    report = tmp_path / "out.jsonl"
    done = inject("run", str(tmp_path), "--json", str(report), timeout=LIMIT)
    events = [json.loads(line) for line in report.read_text().splitlines()]
    verdicts = {event["scenario"]: event for event in events if event["type"] == "verdict"}
    assert set(verdicts) == set(names), done.stdout + done.stderr
    others = {
        name: (verdict["status"], verdict["reason"], verdict["detail"])
        for name, verdict in verdicts.items()
        if verdict["status"] not in ("pass", "fail") or verdict["reason"] == "not-injected"
    }
    assert not others, done.stdout
