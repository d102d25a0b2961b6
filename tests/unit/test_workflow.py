"""The workflow is one that GitHub takes, and calls what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from inject import cli
from tests.support import ROOT

WORKFLOW = ROOT / ".github/workflows/test.yml"


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    """The jobs, by name."""
    found = yaml.safe_load(WORKFLOW.read_text())
    jobs: dict[str, Any] = found["jobs"]
    return jobs


def valid(path: Path) -> subprocess.CompletedProcess[str]:
    """By the schema that check-jsonschema carries."""
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_it_is_valid(tmp_path: Path) -> None:
    done = valid(WORKFLOW)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOW.read_text().replace("runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04", 1))
    assert valid(wrong).returncode == 1


def test_both_commands_of_the_readme(jobs: dict[str, Any]) -> None:
    run = [step.get("run", "") for step in jobs["guest"]["steps"]]
    for command in ("make demo", "make test"):
        assert command in (ROOT / "README.md").read_text()
        assert any(line.startswith(command) for line in run)


def test_every_target_and_command_is_there(jobs: dict[str, Any]) -> None:
    text = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    made = (ROOT / "Makefile").read_text()
    targets, calls = re.findall(r"\bmake ([\w./]+)", text), re.findall(r"\.venv/bin/inject ([\w -]+)", text)
    assert targets and calls
    for target in targets:
        assert re.search(rf"^{re.escape(target.replace('.venv', '$(VENV)'))}:", made, re.MULTILINE), target
    for words in calls:
        options = [word for word in words.split() if word.startswith("-")]
        names = [word for word in words.split() if not word.startswith("-")]
        shown = CliRunner().invoke(cli.cli, [*names, "--help"]).output
        assert all(option in shown for option in options), words


def test_every_supported_python(jobs: dict[str, Any]) -> None:
    least = re.search(r"python_requires = >=3\.(\d+)", (ROOT / "setup.cfg").read_text())
    assert least
    wanted = [f"3.{minor}" for minor in range(int(least[1]), 14)]
    assert jobs["python"]["strategy"]["matrix"]["version"] == wanted


def test_the_cache_goes_by_the_keys_of_the_tool(jobs: dict[str, Any]) -> None:
    (step,) = [step for step in jobs["guest"]["steps"] if step.get("uses", "").startswith("actions/cache@")]
    builds = (["vm", "build", "--print-key"], ["vm", "build", "--print-key", "--kernel", "test"])
    printed = [line for words in builds for line in CliRunner().invoke(cli.cli, words).output.splitlines()]
    names = [line.partition("=")[0] for line in printed]
    assert names == ["stock", "image", "kernel", "image"]
    for name in names:
        assert f"steps.keys.outputs.{name} " in step["with"]["key"]
        assert f"~/.cache/inject/{name}/${{{{ steps.keys.outputs.{name} }}}}" in step["with"]["path"]
