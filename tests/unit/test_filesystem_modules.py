"""Which modules of filesystems are loaded before a scenario is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inject.errors import CannotRun
from inject.fixture import modules
from inject.fleet import request
from inject.model.scenario import Fault, Filesystem, Scenario, When
from inject.scenario.load import load
from tests.support import ROOT

ANY = When()


def scenario(function: str = "f", run: str = "true", when: When = ANY, **rest: Any) -> Scenario:
    return Scenario("s", "s.yaml", (Fault(function, "-EIO", when=when),), run, **rest)


@pytest.mark.parametrize(
    ("one", "kinds"),
    [
        (scenario(), []),
        (scenario(filesystem=Filesystem("xfs")), ["xfs"]),
        (scenario("bch2_folio_set"), ["bcachefs"]),
        (scenario(when=When(stack=("vfs_write", "!__btrfs_run_delayed"))), ["btrfs"]),
        (scenario(when=When(stack=("module:f2fs",))), ["f2fs"]),
        (scenario(run="mkfs.ext4 $DEV\nmount -t xfs $DEV /mnt"), ["ext4", "xfs"]),
        (scenario(run="echo xfsprogs"), []),
        (scenario(setup="mount -t btrfs x y", filesystem=Filesystem("ext4")), ["btrfs", "ext4"]),
    ],
)
def test_what_a_scenario_mounts_or_names(one: Scenario, kinds: list[str]) -> None:
    assert modules.named_by([one]) == kinds
    mounted = [one.filesystem.type] if one.filesystem is not None else []
    assert modules.mounted_by([one, one]) == mounted


def test_the_library_needs_all_types_between_its_scenarios() -> None:
    assert modules.named_by(load([ROOT / "scenarios"])) == ["bcachefs", "btrfs", "ext4", "f2fs", "xfs"]


def test_only_what_the_kernel_does_not_know_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, ran = tmp_path / "filesystems", list[list[str]]()

    def run(argv: Sequence[str], *, timeout: float) -> None:
        ran.append(list(argv))
        raise CannotRun("modprobe is not installed")

    known.write_text("nodev\tsysfs\nnodev\tbtrfs_control\n\text4\n")
    monkeypatch.setattr(modules, "run_tool", run)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    modules.load(["btrfs", "ext4", "xfs"], known)
    assert ran == [["modprobe", "btrfs"], ["modprobe", "xfs"]]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    modules.load(["xfs"], known)
    assert len(ran) == 2


def test_a_host_is_told_which() -> None:
    assert request.argv("/dev/results", ["xfs"])[-2:] == ["/dev/results", "xfs"]
