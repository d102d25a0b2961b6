"""`inject record`, `inject vm record` and `inject vm sweep` with what they cannot do: one sentence, an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.command import inject
from tests.support.elsewhere import become
from tests.support.fake_kernel import build

SMOKE = ROOT / "scenarios/smoke/mkdir.yaml"
TWO = "---\n".join(f"name: s{n}\nfaults: [{{function: f, return: -EIO}}]\nrun: x\n" for n in (1, 2))


def test_recording_needs_root(tmp_path: Path) -> None:
    build(tmp_path)
    done = inject("record", SMOKE, prepare=lambda: become(str(tmp_path), "none"))
    assert (done.returncode, done.stderr) == (
        3,
        "inject: recording needs root; run with sudo, or use `inject vm record`\n",
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("record", "two.yaml", "--only", "s3"), 2, "no scenario is called s3; there are s1, s2"),
        (("vm", "record", "two.yaml", "--room", "0"), 2, "0 is not in the range"),
        (("vm", "record", "none.yaml"), 2, "none.yaml"),
        (("vm", "sweep", "two.yaml"), 2, "two.yaml has 2 scenarios: a sweep is of one; put it into a file of its own"),
        (("vm", "sweep", "one.yaml", "--modes", "twice"), 2, "write once, onward or once,onward"),
        (("vm", "sweep", "one.yaml", "--time-budget", "0"), 2, "0.0 is not in the range"),
        (("vm", "sweep", "one.yaml", "-o", "none", "--resume"), 4, "none has no sweep to go on with; name its"),
        (("vm", "sweep", "one.yaml", "-o", "one.yaml/x"), 4, "cannot write one.yaml/x/journal.jsonl: Not a directory"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    (tmp_path / "two.yaml").write_text(TWO)
    (tmp_path / "one.yaml").write_text(TWO.partition("---\n")[0])
    done = inject(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
