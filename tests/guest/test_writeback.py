"""`scope: writeback`: kernel threads at work on the scenario's own devices, and no others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.command import inject

pytestmark = [pytest.mark.slow, pytest.mark.test_kernel]

BOUND = 600.0
"""Seconds after which a run of the tool has failed."""

WRITE = """\
name: {name}
filesystem: {{type: {type}, size: 128M}}
faults:
  - function: should_fail_bio
    return: -EIO
    {scope}
    when: {{comm: "kworker*", times: 4}}
run: |
  dd if=/dev/zero of={where}/follow-test bs=64K count=16 status=none
  sync -f {where} || true
  rm -f {where}/follow-test || true
expect: {{injected: ">=0"}}
checks: []
"""

REFUSED = """\
name: {name}
filesystem: {{type: ext4, size: 64M}}
faults: [{{function: {name}, return: {value}, scope: writeback}}]
run: 'true'
expect: {{injected: ">=0"}}
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one run of the tool reports of all these scenarios, as its user reads it."""
    directory = tmp_path_factory.mktemp("follow")
    scopes = {"plain": "scope: workload", "followed": "scope: writeback"}
    texts = [
        WRITE.format(name=f"{kind}-{word}", type=kind, scope=scope, where="$MNT")
        for kind in ("ext4", "bcachefs")
        for word, scope in scopes.items()
    ]
    texts.append(WRITE.format(name="elsewhere", type="ext4", scope=scopes["followed"], where="/root"))
    values = {"bch2_dynamic_fault": "true", "should_failslab": "-ENOMEM", "open_ctree": "-ENOMEM"}
    texts += [REFUSED.format(name=name, value=value) for name, value in values.items()]
    (directory / "own.yaml").write_text("---\n".join(texts))
    done = inject("run", str(directory / "own.yaml"), "--json", str(directory / "report.jsonl"), timeout=BOUND)
    assert done.returncode == 4, done.stderr  # two are refused
    return [json.loads(line) for line in (directory / "report.jsonl").read_text().splitlines()]


def of(events: list[dict[str, Any]], scenario: str, kind: str) -> list[dict[str, Any]]:
    """The events of one kind about one scenario."""
    return [event for event in events if event.get("scenario") == scenario and event["type"] == kind]


@pytest.mark.parametrize("kind", ["ext4", "bcachefs"])
def test_writeback_is_taken_only_when_asked_for(events: list[dict[str, Any]], kind: str) -> None:
    """sync(2) leaves the work to the kernel's own threads: without `scope: writeback` they write undisturbed."""
    assert not of(events, f"{kind}-plain", "injection")
    taken = of(events, f"{kind}-followed", "injection")
    assert taken, of(events, f"{kind}-followed", "verdict")
    assert all(event["comm"].startswith("kworker") and event["return"] == "-EIO" for event in taken)
    (armed,) = of(events, f"{kind}-followed", "armed")
    assert armed["faults"] == [{"function": "should_fail_bio", "return": "-EIO", "scope": "writeback", "times": 4}]


def test_threads_on_another_device_are_left_alone(events: list[dict[str, Any]]) -> None:
    """The same fault around writes to the root filesystem: its writeback is none of the scenario's."""
    (verdict,) = of(events, "elsewhere", "verdict")
    assert (verdict["status"], verdict["counts"][0]["injected"]) == ("pass", 0), verdict


@pytest.mark.parametrize("function", ["bch2_dynamic_fault", "should_failslab"])
def test_a_function_without_a_device_is_refused(events: list[dict[str, Any]], function: str) -> None:
    """In words, at the fault's place, with what would work."""
    (verdict,) = of(events, function, "verdict")
    assert verdict["status"] == "error"
    assert f": no argument of {function} leads to a device" in verdict["detail"]
    assert "own.yaml:" in verdict["detail"] and "`scope: any`" in verdict["detail"]


def test_a_superblock_leads_to_a_device(events: list[dict[str, Any]]) -> None:
    """open_ctree's first parameter is one; it is not called here."""
    (verdict,) = of(events, "open_ctree", "verdict")
    assert (verdict["status"], verdict["counts"][0]["seen"]) == ("pass", 0), verdict
