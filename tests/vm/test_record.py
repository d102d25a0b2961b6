"""Two guests, side by side, each with its own boot, find the same points."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from inject.vm import kernels
from inject.vm.build.artifacts import Artifacts
from tests.guest.test_record import FAMILIES, MIX
from tests.support.command import inject

LIMIT = 900.0
"""Seconds after which the command counts as hung."""


def recorded(tmp_path: Path, *words: str) -> tuple[dict[str, dict[str, Any]], str]:
    """The points of each of two scenarios that do the same, by their ids, and what the command prints."""
    texts = [MIX.replace("name: mix", f"name: mix{number}") for number in (1, 2)]
    (tmp_path / "two.yaml").write_text("---".join(texts))
    functions = [word for family in FAMILIES for word in ("--functions", family)]
    json_path = tmp_path / "out.jsonl"
    options = ["--jobs", "2", "--fresh", "--json", str(json_path), *words]
    done = inject("vm", "record", tmp_path / "two.yaml", *functions, *options, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for event in map(json.loads, json_path.read_text().splitlines()):
        if event["type"] == "point":
            found[event["scenario"]][event["id"]] = event
    return found, done.stdout + done.stderr


def check(tmp_path: Path, *words: str) -> None:
    found, said = recorded(tmp_path, *words)
    one, other = found["mix1"], found["mix2"]
    assert {key: point["stack"] for key, point in one.items()} == {key: point["stack"] for key, point in other.items()}
    assert len(one) > 100
    assert f"mix1: {len(one)} points of " in said and f"mix2: {len(other)} points of " in said


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_two_boots_of_the_stock_kernel_find_the_same_points(tmp_path: Path) -> None:
    check(tmp_path)


@pytest.mark.slow
@pytest.mark.test_kernel
def test_two_boots_of_the_test_kernel_find_the_same_points(built: Artifacts, tmp_path: Path) -> None:
    assert built.release
    check(tmp_path, "--kernel", kernels.BUILT)
