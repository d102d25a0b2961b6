"""A kernel that blocks the removal of a trial's directory costs a bounded time, is named, and runs no more trials."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import inject
from tests.support.workbench import guest_only, sh

pytestmark = guest_only

SCENARIOS = """\
name: freezes
faults: [{{function: vfs_rmdir, return: -EIO}}]
run: |
  mkdir x
  rmdir x || fsfreeze --freeze {place}
---
name: after
faults: [{{function: vfs_rmdir, return: -EIO}}]
run: mkdir x; ! rmdir x
"""
"""A frozen filesystem blocks unlink(2) like a lock that was left (sb_start_write(), include/linux/fs.h, v6.12)."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of its own for the directories of trials."""
    mount, image = tmp_path / "mnt", tmp_path / "image"
    mount.mkdir()
    sh(f"truncate -s 64M {image}; mkfs.ext4 -q -F {image}; mount -o loop {image} {mount}")
    yield mount
    sh(f"fsfreeze --unfreeze {mount} || true; umount --lazy {mount}")


def test_a_removal_that_the_kernel_blocks(place: Path, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(SCENARIOS.format(place=place))
    words = ["run", "--module", tmp_path / "two.yaml", "--json", tmp_path / "out"]
    done = inject(*words, env={**os.environ, "TMPDIR": str(place)}, timeout=400)
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    first, second = (line for line in lines if line["type"] == "verdict")
    assert done.returncode == 1, done.stdout + done.stderr
    assert (first["status"], first["reason"]) == ("fail", "hang")
    assert first["detail"].startswith(f"`rm -r {place}/inject-")
    assert "hangs in the kernel and cannot be killed" in first["detail"]
    assert second["status"] == "error" and "must not run more trials" in second["detail"]
    assert "its removal hangs in the kernel" in sh("dmesg")
