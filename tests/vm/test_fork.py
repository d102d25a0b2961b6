"""Trials in guests that continue from one that was saved: the same verdicts as in guests that are booted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from inject.vm import qemu
from tests.support.command import inject

LIMIT = 900.0
"""Seconds after which the command counts as hung."""

FILES = """\
name: files
filesystem: {type: bcachefs}
faults: [{function: bch2_truncate, return: -EIO}]
setup: echo before >$MNT/old
run: |
  dd if=/dev/zero of=$MNT/f bs=102400 count=1 oflag=direct
  truncate -s 10001 $MNT/f
  cat $MNT/old
checks: [dmesg, fsck, remount]
"""
"""The write is direct, so that no point depends on whether the flusher came before truncate(1)."""
FUNCTIONS = ("bch2_truncate", "bch2_create_trans", "bch2_get_folio_disk*")
"""One fails its system call, one leaves a file unmade, and one kills the kernel (see test_sweep.py)."""


def verdicts(directory: Path) -> dict[str, tuple[str, str, int]]:
    """Status, reason and injections by trial."""
    lines = [json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines()]
    return {
        line["trial"]: (line["status"], line["reason"], line["injected"]) for line in lines if line["type"] == "trial"
    }


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_forked_guests_judge_as_booted_ones(tmp_path: Path) -> None:
    """Also the one whose kernel dies: the next trial begins from the same bytes."""
    (tmp_path / "files.yaml").write_text(FILES)
    words = [word for function in FUNCTIONS for word in ("--functions", function)]
    words += ["--modes", "once,onward", "--rounds", "1", "--reproduce", "0"]
    ends = {}
    for name, options in {"forked": [], "booted": ["--fresh"]}.items():
        out = tmp_path / name
        done = inject("vm", "sweep", tmp_path / "files.yaml", *words, *options, "-o", out, timeout=LIMIT)
        assert done.returncode == 1, done.stdout + done.stderr
        assert ("were booted anew" in done.stderr) == (name == "booted"), done.stderr
        ends[name] = verdicts(out)
    assert ends["forked"] == ends["booted"]
    assert len(ends["forked"]) >= 6
    assert {reason for _, reason, _ in ends["forked"].values()} >= {"crash", ""}


REFUSES = """\
#!/bin/sh
case "$*" in *-incoming*) echo 'no guest goes on here' >&2; exit 1;; esac
exec {binary} "$@"
"""


@pytest.mark.slow
@pytest.mark.usefixtures("artifacts")
def test_trials_boot_guests_if_none_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that cannot restore costs time, and no trial."""
    (tmp_path / "files.yaml").write_text(FILES)
    binary = qemu.find(qemu.BINARY)
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / qemu.BINARY
    wrapper.write_text(REFUSES.format(binary=binary))
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    out = tmp_path / "out"
    words = ["--functions", "bch2_truncate", "--functions", "bch2_create_trans", "--modes", "once,onward"]
    done = inject("vm", "sweep", tmp_path / "files.yaml", *words, "--rounds", "1", "-o", out, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "does not go on" in done.stderr
    assert "0 guests continued from the one that was saved" in done.stderr
    assert {status for status, _, _ in verdicts(out).values()} == {"pass"}
