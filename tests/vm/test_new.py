"""`inject vm new` as a user has it: the guest's kernel is asked, the file is the host's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import inject

pytestmark = pytest.mark.usefixtures("artifacts")


@pytest.mark.slow
def test_a_first_scenario_of_the_guests_kernel(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    done = inject("vm", "new", "bch2_extent_fallocate", "-o", str(path), "--consoles", str(tmp_path / "consoles"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.endswith(f"inject: {path} written; check it with: inject check {path}\n")
    text = path.read_text()
    assert "function: bch2_extent_fallocate" in text
    assert f"#   inject check {path}\n" in text
    assert "struct btree_trans *" in text
    assert inject("check", str(path)).stdout == "1 scenario valid\n"
    assert "Linux version" in (tmp_path / "consoles/console-1.log").read_text(errors="replace")
