"""TAB in a real bash and a real zsh, on a terminal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from inject import cli
from inject.cli import completion
from tests.support import ROOT
from tests.support.fake_kernel import KALLSYMS, build
from tests.support.raw_btf import SIGNED, kernel_types
from tests.support.terminal import Terminal

SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
BEGIN = {
    "bash": """PS1="$ "; bind "set bell-style none"; bind "set completion-query-items 0" """,
    "zsh": 'PS1="$ "; unsetopt zle_bracketed_paste; LISTMAX=10000; autoload -U compinit; compinit -u -d $HOME/dump',
}
COMMAND = """\
#!/bin/sh
PYTHONPATH='{root}' exec '{python}' -m tests.support.elsewhere '{kernel}' '' "$@"
"""
"""The real command, with another kernel's files."""


class Shell:
    """An interactive shell on a terminal."""

    def __init__(self, argv: Sequence[str], home: Path, path: str) -> None:
        self._terminal = Terminal(50, 100)
        inner = self._terminal.inner
        env = {"PATH": path, "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8", "COLUMNS": "100", "LINES": "50"}
        self._terminal.process = subprocess.Popen(
            argv, cwd=home, env=env, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
        )

    def close(self) -> None:
        """End it."""
        self._terminal.process.kill()
        self._terminal.process.wait()
        self._terminal.close()

    def type(self, text: str) -> None:
        """The user types."""
        self._terminal.type(text)

    def until(self, pattern: str) -> str:
        """What is shown until ``pattern`` is seen, that included."""
        shown = self._terminal.expect(pattern) + self._terminal.seen.decode()
        self._terminal.seen = b""
        return shown

    def run(self, line: str) -> str:
        """A whole line, and what it printed."""
        self.type(f"{line}; echo en''d\n")
        return self.until(r"(?<!')end\r?\n")

    def completed(self, line: str, wanted: str) -> str:
        """The line, TAB, and what stands there once ``wanted`` does; the line is thrown away."""
        self.type(f"{line}\t")
        seen = self.until(re.escape(wanted))
        self.type("\x15")
        self.run("true")
        return seen

    def offered(self, line: str, *wanted: str) -> str:
        """The line and TAB twice, and what is listed once all of ``wanted`` is."""
        self.type(f"{line}\t\t")
        seen = self.until("(?s)" + "".join(f"(?=.*{re.escape(word)})" for word in wanted))
        self.type("\x15")
        self.run("true")
        return seen


@pytest.fixture(scope="module", params=sorted(SHELLS))
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell that was told of `inject`, which sees a kernel that lacks nothing, in a folder with scenarios."""
    name = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    home = tmp_path_factory.mktemp(name)
    kernel = home / "kernel"
    build(kernel, btf=None, kallsyms=f"{KALLSYMS}ffffffff8100a000 t lonely_helper\nffffffff8100b000 t lonely_void\n")
    types = kernel_types()
    types.function("lonely_helper", types.integer("ret_t", 4, SIGNED), [])
    types.function("lonely_void", 0, [])
    types.write(kernel)
    (home / "scenarios").symlink_to(ROOT / "scenarios")
    (home / "bin").mkdir()
    command = home / "bin" / "inject"
    command.write_text(COMMAND.format(python=sys.executable, root=str(ROOT), kernel=str(kernel)))
    command.chmod(0o755)
    one = Shell(SHELLS[name], home, f"{home}/bin:{os.environ['PATH']}")
    try:
        one.run(BEGIN[name])
        assert "inject:" not in one.run(f'eval "$(inject completion {name})"')
        yield one
    finally:
        one.close()


def test_commands(shell: Shell) -> None:
    seen = shell.offered("inject ", "list", "check", "doctor", "watch", "schema", "vm")
    assert "_forked" not in seen
    shell.completed("inject vm sh", "inject vm shell")


def test_options(shell: Shell) -> None:
    shell.completed("inject run --se", "inject run --seed")
    shell.offered("inject fail bch2_alloc --re", "--return")
    shell.offered("inject run --probe ", "auto", "kprobe", "fmod_ret")


def test_functions(shell: Shell) -> None:
    shell.completed("inject fail open_c", "inject fail open_ctree")
    shell.completed("inject list --explain open_c", "inject list --explain open_ctree")
    shell.completed("inject new open_c", "inject new open_ctree")
    shell.completed("inject watch xfs_m", "inject watch xfs_mount")
    shell.completed("inject fail lonel", "inject fail lonely_helper")
    shell.completed("inject fail bch2_alloc --return -EIO --fault open_c", "--fault open_ctree")
    assert "__x64_sys" not in shell.offered("inject fail ", "bch2_alloc", "xfs_mount")


def test_the_second_fault_has_options_too(shell: Shell) -> None:
    shell.completed("inject fail bch2_alloc --return -EIO --fault open_ctree --ret", "open_ctree --return")


def test_scenarios(shell: Shell) -> None:
    shell.completed("inject run --only smoke/m", "--only smoke/mkdir")
    shell.completed("inject vm run scenarios/block-io --only block-io/write-one-of-t", "block-io/write-one-of-two")


def test_files(shell: Shell) -> None:
    shell.completed("inject check scen", "inject check scenarios")


@pytest.mark.parametrize("words", ["inject fail 'unfinished", "inject none of this", "inject fail --fault", ""])
def test_nonsense_is_met_with_silence(
    words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(completion.VARIABLE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", "1" if words else "many")
    completion.answer(cli.cli)
    assert capfd.readouterr().err == ""


def test_a_shell_that_is_not_known(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(completion.VARIABLE, "tcsh_complete")
    assert completion.answer(cli.cli) == 1
    assert capfd.readouterr() == ("", "")
