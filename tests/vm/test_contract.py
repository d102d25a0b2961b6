"""Known contracts: what the same fault does to an xfs mount when they are kept, and when they are not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.command import COMMAND

LIMIT = 900
"""Seconds after which the call counts as hung."""


@pytest.mark.slow
@pytest.mark.test_kernel
def test_xfs_survives_what_its_contract_spares(tmp_path: Path) -> None:
    """Kept: ENOMEM, and the next mount works. Ignored: the first allocation must not fail, and the kernel oopses."""
    report = tmp_path / "out.jsonl"
    kept, ignored = "memory/mount-xfs", "xfs"
    files = ["scenarios/memory/mount.yaml", "tests/data/contract"]
    command = [*COMMAND, "vm", "run", *files, "--only", kept, "--only", ignored]
    done = subprocess.run([*command, "--json", str(report)], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    events = [json.loads(line) for line in report.read_text().splitlines()]
    verdicts = {event["scenario"]: event for event in events if event["type"] == "verdict"}
    assert done.returncode == 1, done.stderr
    assert verdicts[kept]["status"] == "pass", verdicts[kept]["detail"]
    (counts,) = verdicts[kept]["counts"]
    assert counts["injected"] == 1 and counts["spared"] >= 1
    assert (verdicts[ignored]["status"], verdicts[ignored]["reason"]) == ("fail", "crash")
    assert "should_failslab = -ENOMEM" in verdicts[ignored]["detail"]
    assert any("xfs_alloc_buftarg" in line for line in verdicts[ignored]["log"])
