"""A guest's shell on this terminal: the terminal is given back, from the background too."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support import ROOT

BACKGROUND = """
import os, signal, sys, termios, tty
from inject.vm.attach import _raw
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
os.setsid()
inner = os.open(sys.argv[1], os.O_RDWR)  # the controlling terminal of this session
ready, told = os.pipe()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.setpgid(0, 0)
    os.read(ready, 1)
    before = termios.tcgetattr(inner)
    with _raw(inner):
        assert termios.tcgetattr(inner) != before
        os.kill(os.getpid(), signal.SIGSTOP)
    assert termios.tcgetattr(inner) == before
    os._exit(7)
os.setpgid(child, child)
os.tcsetpgrp(inner, child)
os.write(told, b"x")
os.waitpid(child, os.WUNTRACED)
os.tcsetpgrp(inner, os.getpid())
os.kill(child, signal.SIGCONT)
_, status = os.waitpid(child, os.WUNTRACED)
os.kill(child, signal.SIGKILL) if os.WIFSTOPPED(status) else None
sys.exit(100 if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status))
"""


def test_a_shell_in_the_background_ends() -> None:
    """SIGTTOU would stop it for ever, and its guest with it."""
    outer, inner = os.openpty()
    try:
        command = [sys.executable, "-c", BACKGROUND, os.ttyname(inner)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    finally:
        os.close(outer)
        os.close(inner)
    assert (done.returncode, done.stderr) == (7, "")
