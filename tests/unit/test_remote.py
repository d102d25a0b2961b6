"""inject on a host: what it reads, what it loads, and what it says when it cannot run."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from inject.errors import CannotRun, ExitStatus, Place
from inject.fleet import remote
from inject.fleet.request import RETURNS, Request, read_returns, returns_line, scenario_line
from inject.kernel.kernel import Kernel
from inject.model.scenario import Fault, Scenario
from inject.scenario.load import parse
from inject.scenario.problems import ScenarioErrors
from tests.support import ROOT
from tests.support.fake_kernel import build

SCENARIO = """
name: {name}
faults: [{{function: __x64_sys_mkdir, return: -ENOMEM}}]
run: mkdir x
"""


def asks(*found: Scenario) -> io.StringIO:
    return io.StringIO("".join(scenario_line(scenario).decode() for scenario in found))


def test_each_line_asks_for_one_scenario_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(SCENARIO.format(name="one") + "---" + SCENARIO.format(name="two"))
    one, two = parse(path.read_text(), str(path), "two")
    assert [scenario.name for scenario in remote.scenarios(asks(two, one))] == ["two", "one"]


def test_a_file_that_was_changed_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(SCENARIO.format(name="one"))
    (one,) = parse(path.read_text(), str(path), "one")
    path.write_text("name: [")
    with pytest.raises(ScenarioErrors):
        list(remote.scenarios(asks(one)))


def test_a_host_that_cannot_run_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(_: Kernel) -> None:
        raise CannotRun("no", "do something")

    monkeypatch.setattr(remote, "require_injection", refuse)
    monkeypatch.setattr(remote, "own_input", lambda: io.StringIO(Request(1).line().decode()))
    monkeypatch.setattr(sys, "argv", ["remote", str(tmp_path / "results")])
    assert remote.main() == 3
    assert capsys.readouterr().err == "inject: no; do something\n"


def test_values_that_the_kernel_does_not_allow_end_it_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kernel = build(tmp_path)
    (one,) = parse(
        SCENARIO.format(name="one").replace("__x64_sys_mkdir, return: -ENOMEM", "weak_one, return: 0"), "s.yaml", ""
    )
    lines = Request(1).line() + returns_line([one]) + scenario_line(one)
    monkeypatch.setattr(remote, "require_injection", lambda _: None)
    monkeypatch.setattr(remote, "Kernel", lambda: kernel)
    monkeypatch.setattr(remote, "own_input", lambda: io.StringIO(lines.decode()))
    monkeypatch.setattr(sys, "argv", ["remote", str(tmp_path / "results")])
    assert remote.main() == ExitStatus.USAGE
    said = "s.yaml:3:39: weak_one has error type TRUE and must not return 0; return true\n"
    assert capsys.readouterr().err == said
    assert not (tmp_path / "results").exists()


def test_a_line_of_values_is_bounded() -> None:
    fault = Fault("f" * 100, "-EIO", place=Place("s.yaml"))
    many = [Scenario("s", "s.yaml", (replace(fault, function=f"f{number}"),), "true") for number in range(9000)]
    line = returns_line(many)
    assert len(line) <= RETURNS and len(read_returns(line.decode())) > 1000


def test_what_is_started_finds_no_input() -> None:
    code = """
import subprocess
from inject.fleet.remote import own_input
lines = own_input()
print([subprocess.run(["cat"], capture_output=True).stdout, lines.read()])
"""
    done = subprocess.run([sys.executable, "-c", code], input=b"asked", capture_output=True, cwd=ROOT, check=True)
    assert done.stdout == b"[b'', 'asked']\n"


def test_it_loads_no_command_line_and_no_guests() -> None:
    code = "import sys, inject.fleet.remote; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stdout.split())
    assert "inject.trial.trial" in loaded
    assert not loaded & {"click", "tabulate", "junitparser", "argparse", "bcc"}
    assert not {name for name in loaded if name.startswith(("inject.cli", "inject.vm"))}
