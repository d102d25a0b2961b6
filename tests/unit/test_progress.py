"""What a run in guests and a build show: whose line it is, a word now and then, nothing wider than the terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios

import pytest

from inject.cli.building import BuildProgress, shortened
from inject.cli.display import Display
from inject.cli.progress import QUIET, Progress
from inject.fleet.ledger import Ledger
from inject.model.event import Armed, Injected, Injection
from inject.model.scenario import Fault, Scenario
from inject.model.verdict import Status, Verdict


def scenario(name: str) -> Scenario:
    return Scenario(name, f"{name}.yaml", (Fault("f", "-ENOMEM"),), "true")


def fired(name: str) -> Injected:
    return Injected(name, 0, Injection(0, "f", "-ENOMEM", -12, 1, 7, 7, "dd", 0))


@pytest.mark.parametrize(
    ("several", "line"),
    [(False, "  dd/7: f returns -ENOMEM (match 1)"), (True, "  b: dd/7: f returns -ENOMEM (match 1)")],
)
def test_with_several_guests_a_line_names_its_scenario(
    capsys: pytest.CaptureFixture[str], several: bool, line: str
) -> None:
    ledger = Ledger([scenario("a"), scenario("b")])
    progress = Progress(ledger, Display(2, 1, None), several=several)
    progress(fired("b"))
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_long_silence_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [1000.0]
    ledger = Ledger([scenario("a"), scenario("b")])
    progress = Progress(ledger, Display(2, 0, None), now=lambda: clock[0])
    progress.idle()
    ledger.arm("a")
    progress(Armed("a", 0, ()))
    clock[0] += QUIET
    progress.idle()
    progress.idle()
    assert capsys.readouterr().err.splitlines() == ["inject: 0 of 2 done after 1 min, at a"]
    ledger.settle(Verdict("a", Status.PASS))
    progress(Verdict("a", Status.PASS))
    capsys.readouterr()
    clock[0] += QUIET - 1
    progress.idle()
    assert capsys.readouterr().err == ""
    clock[0] += 1
    progress.idle()
    assert capsys.readouterr().err.splitlines() == ["inject: 1 of 2 done after 2 min, between scenarios"]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    ledger = Ledger([scenario("a")])
    progress = Progress(ledger, Display(1, -1, None), now=lambda: clock[0])
    clock[0] += 10 * QUIET
    progress.idle()
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------- progress of a build


def test_progress_without_a_terminal_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    progress = BuildProgress()
    progress("kernel test: compiling, 12 s")
    progress.end()
    assert capsys.readouterr().err == "inject: kernel test: compiling, 12 s\n"


@pytest.mark.parametrize("columns", [80, 160, 10])
def test_progress_stays_in_its_line(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """On a real terminal: each line in the place of the one before, none so wide that the terminal would wrap it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    saved = os.dup(2)
    os.dup2(theirs, 2)
    try:
        with monkeypatch.context() as patch, os.fdopen(os.dup(2), "w") as stderr:
            patch.setattr(sys, "stderr", stderr)
            patch.setenv("TERM", "xterm")
            progress = BuildProgress()
            progress("image: " + "unpacking " * 40 + ", 1 min 5 s")
            progress("image: done, 1 min 10 s")
            progress("kernel test: 12 of ~2350 objects, 3.0 s")
            progress("kernel 6.12: no build tree, so there are no headers for the guest " + "x" * 200)
            progress.end()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    os.write(theirs, b"END")
    shown = ""
    while not shown.endswith("END"):
        shown += os.read(ours, 65536).decode()
    os.close(theirs)
    os.close(ours)
    lines = [re.split(r"\r\x1b\[K", line) for line in shown.replace("\r\n", "\n").split("\n")]
    images, kernels = lines[0][1:], lines[1][1:]
    assert len(images) == 2 and len(kernels) == 1
    assert all(len(text) < columns for text in images + kernels)
    if columns > 40:
        assert images[0].endswith("..., 1 min 5 s")
        assert lines[2][1].endswith("x" * 200)


@pytest.mark.parametrize("room", range(8, 40))
def test_what_is_too_long_loses_its_middle(room: int) -> None:
    line = "image: unpacking something, 1 min 5 s"
    short = shortened(line, room)
    assert len(short) <= room
    assert (short == line) == ("..." not in short) == (len(line) <= room)
