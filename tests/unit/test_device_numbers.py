"""Device numbers of a trial's filesystem: what the kernel's superblock has, not what stat(2) shows."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from inject.fixture import device_numbers as module
from inject.fixture.device_numbers import device_numbers
from inject.fixture.filesystem import Fixture
from inject.process.mounts import Mount

NULL = os.stat("/dev/null").st_rdev  # noqa: PTH116
OWN = os.major(NULL) << 20 | os.minor(NULL)


@pytest.mark.parametrize(
    ("points", "number"),
    [(["/", "{mnt}"], 0x2B), (["{mnt}", "/", "{mnt}"], 0x2C), (["/"], OWN), ([], OWN)],
)
def test_the_superblocks_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: list[str], number: int
) -> None:
    """st_dev of a btrfs subvolume is another anonymous number; unmounted, it is the directory's filesystem."""
    found = [Mount(0x2A + at, "/", point.format(mnt=tmp_path), "btrfs", ()) for at, point in enumerate(points)]
    monkeypatch.setattr(module, "mounts", lambda: found)
    fixture = SimpleNamespace(mountpoint=tmp_path, devices=("/dev/null",), env={"DEV": "/dev/null", "MNT": "x"})
    numbers = device_numbers(cast(Fixture, fixture), [])
    assert numbers == {"$DEV": (OWN, number), "$MNT": (number, number)}
