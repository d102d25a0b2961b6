"""Every shipped scenario fails with `not-injected` when its fault is one that its workload never reaches.

What a scenario expects could hold without any fault; that it was injected must not be
left to luck. Each scenario is rewritten to fail page_pool_alloc_pages(), which no
filesystem calls, and nothing else is changed, except that oracles and `recover` are left
out: `not-injected` comes before what they would say, and they take most of the time.

CI runs a few of them, always the same: one of each directory. `make unreached` runs them all.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT
from tests.support.command import inject
from tests.support.workbench import guest_only

pytestmark = [guest_only, pytest.mark.test_kernel]

UNREACHED = "page_pool_alloc_pages"
SAMPLE = ("block-io", "disk-reservation", "dynamic-fault", "page-cache")
"""Directories whose first scenario is run when not all are."""

LIMIT = 3600
"""Seconds after which a whole call counts as hung."""


def documents() -> list[dict[str, Any]]:
    """Every shipped scenario with its name, in the order of the files."""
    found = []
    shipped = ROOT / "scenarios"
    for file in sorted(shipped.glob("*/*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            default = file.relative_to(shipped).with_suffix("").as_posix()
            found.append({"name": default, **document})
    return found


def swapped(scenario: dict[str, Any]) -> dict[str, Any]:
    """The scenario with faults that nothing reaches, as often as before."""
    keep = {key: value for key, value in scenario.items() if key not in ("recover", "finding", "allow", "sweep")}
    faults = [{"function": UNREACHED, "return": "NULL", "scope": f.get("scope", "workload")} for f in keep["faults"]]
    return {**keep, "faults": faults, "checks": []}


def chosen() -> list[dict[str, Any]]:
    """The first scenario of each of SAMPLE, or all with INJECT_SAMPLE=all."""
    every = documents()
    if os.environ.get("INJECT_SAMPLE") == "all":
        return every
    return [next(one for one in every if one["name"].startswith(f"{directory}/")) for directory in SAMPLE]


@pytest.mark.slow
@pytest.mark.limit(LIMIT)
def test_nothing_passes_without_its_fault(tmp_path: Path) -> None:
    if not Path("/sys/kernel/debug/error_injection/list").exists():
        pytest.skip("no error injection in this kernel")
    scenarios = chosen()
    home = tmp_path / "scenarios"
    shutil.copytree(ROOT / "scenarios/lib", home / "lib")
    # On one line each: inject refuses commands that YAML would join.
    text = "---\n".join(yaml.safe_dump(swapped(scenario), sort_keys=False, width=math.inf) for scenario in scenarios)
    (home / "swapped.yaml").write_text(text)
    report = tmp_path / "out.jsonl"
    done = inject("run", str(home), "--allow-any", "--json", str(report), timeout=LIMIT)
    assert report.exists(), done.stderr
    events = [json.loads(line) for line in report.read_text().splitlines()]
    verdicts = {event["scenario"]: event for event in events if event["type"] == "verdict"}
    assert set(verdicts) == {scenario["name"] for scenario in scenarios}, done.stdout + done.stderr
    others = {
        name: (verdict["status"], verdict["reason"], verdict["detail"])
        for name, verdict in verdicts.items()
        if (verdict["status"], verdict["reason"]) != ("fail", "not-injected")
    }
    assert not others
    assert done.returncode == 1
