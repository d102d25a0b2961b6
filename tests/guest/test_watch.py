"""`inject watch` on a terminal and without one: keys that work at once, and nothing armed however it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inject import scenario as scenarios
from inject.process.cgroup import hierarchy
from tests.support import ROOT
from tests.support.command import Tool, inject
from tests.support.loop import Loop
from tests.support.terminal import Window, take_terminal
from tests.support.waiting import LIMIT, wait_for
from tests.support.workbench import KPROBES

pytestmark = pytest.mark.test_kernel

MKDIR, RMDIR = "__x64_sys_mkdir", "__x64_sys_rmdir"


SIZE = ("LINES", "COLUMNS")
"""Curses takes the size from them before it asks the terminal."""

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in SIZE},
    **{"PYTHONPATH": str(ROOT), "TERM": "vt220", "NO_COLOR": "1"},
}


class Watch(Window):
    """`inject watch` on a terminal."""

    def __init__(self, *words: str, cwd: Path, rows: int = 24, columns: int = 80) -> None:
        super().__init__(rows, columns)
        inner = self.inner
        self.process = Tool(
            "watch", *words, cwd=cwd, env=ENVIRONMENT, stdin=inner, stdout=inner, stderr=inner, prepare=take_terminal
        )


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = Loop(tmp_path)
    yield made
    made.end()


def gone() -> None:
    """Wait until inject has left nothing in the kernel."""
    wait_for(lambda: not (KPROBES.read_text() or list(hierarchy().rglob("inject-*"))), "an empty kernel")


def quiet(loop: Loop) -> None:
    """Check that no call fails any more."""
    before = loop.errors("parent") + loop.errors("child")
    time.sleep(1)
    assert loop.errors("parent") + loop.errors("child") == before
    assert loop.process.poll() is None


def test_keys(loop: Loop) -> None:
    """Fire once, a trigger, arm, disarm, save, quit: the program sees exactly that many failures."""
    terminal = Watch(f"{MKDIR}=-EDQUOT", RMDIR, "--pid", str(loop.process.pid), cwd=loop.directory)
    terminal.see("everything is off", f"> off +{MKDIR} +-EDQUOT every call +[1-9]")
    assert loop.errors("parent") + loop.errors("child") == 0
    terminal.type("f")
    terminal.see(f"> spent {MKDIR}")
    time.sleep(1)
    assert loop.errors("parent") + loop.errors("child") == 1
    terminal.type("tevery=x\r")
    terminal.see("`every` must be an integer")
    terminal.type("tevery=2,times=4\r")
    terminal.see("> off .* every=2,times=4 ")
    terminal.type("a")
    terminal.see("> spent .* every=2,times=4 ")
    time.sleep(1)
    assert loop.errors("parent") + loop.errors("child") == 5
    terminal.type("m")
    terminal.see("kernel log: inject: watch: mark 1")
    terminal.type("t\r")
    terminal.see("is now every call; the fault is not armed")
    terminal.type("a")
    wait_for(lambda: loop.errors("parent") + loop.errors("child") >= 20, "20 failed calls")
    terminal.type("d")
    terminal.see(f"{MKDIR} is off")
    quiet(loop)
    terminal.type("tnth=3\rs\x15kept.yaml\r")
    terminal.see("saved to kept.yaml: 1 of 2")
    terminal.type("q")
    assert terminal.end() == 0, terminal.emulator.text
    assert "nothing is armed" in terminal.emulator.text
    assert terminal.restored()
    (saved,) = scenarios.load([loop.directory / "kept.yaml"])
    assert [(f.function, f.value, f.when.trigger.nth) for f in saved.faults] == [
        (MKDIR, "-EDQUOT", 3)
    ]  # the other was not armed
    gone()
    quiet(loop)


@pytest.mark.parametrize("how", ["ctrl-c", "lost terminal", "SIGTERM", "SIGKILL"])
def test_however_it_ends_nothing_is_armed(loop: Loop, how: str) -> None:
    terminal = Watch(f"{MKDIR}=-EDQUOT", "--arm", "--pid", str(loop.process.pid), cwd=loop.directory)
    terminal.see("everything is armed", f"> armed {MKDIR}")
    wait_for(lambda: loop.errors("parent"), "a failed call")
    if how == "ctrl-c":
        terminal.type("\x03")
    elif how == "lost terminal":
        terminal.close()
    else:
        terminal.process.send_signal(getattr(signal, how))
    if how != "lost terminal":
        assert terminal.end() == {"SIGKILL": -signal.SIGKILL}.get(how, 130), terminal.emulator.text
        assert how == "SIGKILL" or (terminal.restored() and not terminal.emulator.alternate)
    terminal.process.wait(LIMIT)
    gone()
    quiet(loop)


@pytest.mark.slow
def test_a_stopped_tool_fails_nothing_for_long(loop: Loop) -> None:
    """The kernel's own deadline ends it; when the tool goes on, so does the fault."""
    terminal = Watch(f"{MKDIR}=-EDQUOT", "--arm", "--pid", str(loop.process.pid), cwd=loop.directory)
    terminal.see("1 of 1 armed")
    terminal.process.send_signal(signal.SIGSTOP)
    time.sleep(8)
    quiet(loop)
    before = loop.errors("parent")
    terminal.process.send_signal(signal.SIGCONT)
    wait_for(lambda: loop.errors("parent") > before, "a failed call")
    terminal.type("q")
    assert terminal.end() == 0
    gone()


def test_plain_lines_without_a_terminal(tmp_path: Path) -> None:
    """The faults of a file, a command, and its output between the lines; no control characters."""
    file = tmp_path / "two.yaml"
    file.write_text(
        f"faults:\n  - {{function: {MKDIR}, return: -EDQUOT, when: {{nth: 2}}}}\n"
        f"  - {{function: {RMDIR}, return: -EIO, when: {{comm: nobody}}}}\nrun: 'true'\n"
    )
    script = "mkdir a; mkdir b; mkdir c; rmdir a; rmdir c; echo done"
    done = inject("watch", str(file), "--arm", "--", "bash", "-c", script, cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert "\033" not in done.stdout + done.stderr and "\r" not in done.stdout
    assert f": {MKDIR} returns -EDQUOT (match 2) < " in done.stdout
    assert "\ndone\n" in done.stdout
    assert f"{MKDIR} spent seen 3 matched 3 injected 1" in done.stdout
    assert f"inject: {RMDIR}: 2 seen, 0 matched, 0 injected" in done.stderr
    assert "exited with 0; nothing is armed" in done.stderr
    gone()


def test_a_serial_line_without_a_size(tmp_path: Path) -> None:
    """No size, no colour, a row that would wrap: everything fits 80 columns."""
    terminal = Watch(f"{MKDIR}=-EDQUOT", "--", "sleep", "600", cwd=tmp_path, rows=0, columns=0)
    terminal.see("q quit")
    shown = terminal.emulator.lines
    assert shown[0].startswith("inject watch  sleep 600") and len(shown[0]) == 80
    assert shown[1].split() == ["state", "function", "returns", "trigger", "seen", "match", "inject", "seen/s"]
    assert shown[2].startswith("> off ") and not shown[3]
    assert shown[-1].endswith("q quit")
    terminal.type("q")
    assert terminal.end() == 0
    gone()


def test_what_is_refused(tmp_path: Path) -> None:
    def said(*words: str) -> tuple[int, str]:
        done = inject("watch", *words, cwd=tmp_path, env=ENVIRONMENT)
        return done.returncode, done.stderr

    assert said(f"{MKDIR}=EDQUOT", "--any") == (
        2,
        "inject: an errno must be negative and in capitals, got `EDQUOT`; write -EDQUOT\n",
    )
    code, text = said("no_such_function", "--any")
    assert code == 3, text
    assert "no_such_function is not in this kernel" in text
