"""Standard streams that are closed when inject starts: no traceback, and no file that gets their number."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.command import ROOT

LIMIT = 60
"""Seconds after which a command counts as hung."""

FILE = """
import os, sys
from inject.process.streams import open_streams
open_streams()
opened = os.open(os.devnull, os.O_RDONLY)
print("to the terminal")
sys.stderr.write("to the terminal")
sys.exit(0 if opened > 2 and sys.stdin.read() == "" else 9)
"""


def run(redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of this Python in a shell that closes streams."""
    script = f'exec "$@" {redirection}'
    return subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_file_never_gets_the_number_of_a_stream(redirection: str) -> None:
    done = run(redirection if "<" in redirection else f"</dev/null {redirection}", "-c", FILE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "statuses"), [("doctor", {0, 3}), ("schema", {0}), ("check scenarios/smoke", {0})])
def test_commands_end_as_with_open_streams(redirection: str, words: str, statuses: set[int]) -> None:
    done = run(redirection, "-m", "inject", *words.split())
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode in statuses, done.stderr
