"""gdb on a guest: attached by the printed line, it stands at the very call that is being failed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Optional

import pytest

from inject.vm.boot import Boot
from inject.vm.build.artifacts import Artifacts
from inject.vm.guest import GuestOptions
from tests.support import ROOT
from tests.support.command import COMMAND
from tests.support.waiting import wait_for

pytestmark = pytest.mark.test_kernel  # gdb needs its vmlinux

LIMIT = 900.0
"""Seconds after which a call counts as hung."""

TWICE = r"""
echo 3 >/proc/sys/vm/drop_caches
inject fail __filemap_add_folio --return -ENOMEM --stack vfs_read --nth 1 --stop-on-injection \
    -- cat /usr/bin/fio >/dev/null
echo first $?
inject fail __x64_sys_mkdir --return -EDQUOT --nth 2 --stop-on-injection -- sh -c 'mkdir /tmp/a; mkdir /tmp/b'
echo second $?
"""


class Call:
    """`inject vm ...` that is under way; what it prints is kept as it comes."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "vm", words[0], "--kernel", "test", *words[1:]],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, pattern: str, count: int = 1) -> str:
        """The ``count``-th line that ``pattern`` is found in."""

        def found() -> list[str]:
            return [line for line in self.lines if re.search(pattern, line)][count - 1 :]

        return wait_for(found, lambda: "\n".join(self.lines), process=self, seconds=LIMIT)[0]

    def poll(self) -> Optional[int]:
        """The exit code once all that was printed is read."""
        return None if self._reader.is_alive() else self.process.poll()

    def end(self) -> int:
        """The exit code."""
        status = self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        return status


def gdb(line: str, *commands: str) -> str:
    """What gdb prints that is started by ``line`` as we printed it, and does ``commands`` further."""
    words = line[line.index("gdb ") :].replace("gdb ", "gdb -batch -nx ", 1)
    more = " ".join(f"-ex '{command}'" for command in commands)
    done = subprocess.run(
        ["sh", "-c", f"{words} {more}"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def frames(shown: str) -> list[str]:
    """The functions of a backtrace, innermost first."""
    return re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\w+)", shown, re.MULTILINE)


@pytest.fixture()
def calls(built: Artifacts) -> Iterator[list[Call]]:
    """Calls that a test starts; they end with it."""
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    started: list[Call] = []
    yield started
    for call in started:
        if call.process.poll() is None:
            call.process.kill()
        call.end()


@pytest.mark.slow
def test_stopped_at_the_call_that_is_being_failed(calls: list[Call]) -> None:
    """The printed line shows the tagged function below its true callers; afterwards the injection takes place."""
    call = Call("exec", "--kernel", "test", "--gdb", "--cpus", "4", "--timeout", "1200", "--", "sh", "-c", TWICE)
    calls.append(call)
    told = call.wait_for("stopped where __filemap_add_folio is made to return -ENOMEM, called from ")
    shown = gdb(call.wait_for("attach to it with: "), "detach")
    seen = frames(shown)
    assert seen[:2] == ["__filemap_add_folio", "filemap_add_folio"], shown
    assert {"vfs_read", "do_syscall_64"} <= set(seen), shown
    path = told.partition("called from ")[2].split(" < ")
    assert path[0] == "filemap_add_folio" and "vfs_read" in path
    assert not any("first" in line for line in call.lines if line.startswith("first"))
    call.wait_for("__filemap_add_folio returned -ENOMEM once")
    call.wait_for("^first 0$")

    call.wait_for("stopped where __x64_sys_mkdir is made to return -EDQUOT, called from x64_sys_call")
    shown = gdb(call.wait_for("attach to it with: ", 2), "print $rip == __x64_sys_mkdir", "finish")
    assert frames(shown)[:2] == ["__x64_sys_mkdir", "x64_sys_call"] and "do_syscall_64" in frames(shown), shown
    assert "$1 = 1\n" in shown and "Value returned is $2 = -122\n" in shown, shown
    call.wait_for("cannot create directory .*: Disk quota exceeded")
    call.wait_for("^second 1$")
    assert call.end() == 0


@pytest.mark.slow
def test_a_scenario_waits_for_gdb_and_an_interrupt_ends_it(calls: list[Call]) -> None:
    """No gdb attaches; what gdb does to a running guest, killed too, harms no run."""
    call = Call("run", "--stop-on-injection", "tests/data/broken/survivor.yaml")
    calls.append(call)
    line = call.wait_for("gdb may attach: ")
    words = line[line.index("gdb ", line.index("attach")) :].replace("gdb ", "exec gdb -batch -nx ", 1)
    with subprocess.Popen(["sh", "-c", f"{words} -ex 'shell kill -9 $PPID'"], stdin=subprocess.DEVNULL) as killed:
        assert killed.wait(LIMIT) != 0
    call.wait_for("stopped where __x64_sys_mkdir is made to return -EDQUOT")
    time.sleep(2)
    assert call.process.poll() is None
    os.kill(call.process.pid, signal.SIGINT)
    assert call.end() == 130
    assert call.lines[-1] == "inject: interrupted"


def test_no_time_counts_while_a_debugger_holds_the_guest(built: Artifacts) -> None:
    """Twice as long as a guest may be silent; then a client that was connected is gone, and the guest goes on."""
    with Boot(built, GuestOptions(gdb=True, silence=4)) as guest:
        assert guest.debugger is not None
        port = re.search(r":(\d+)'", guest.debugger.command)
        assert port is not None
        connection = socket.create_connection(("127.0.0.1", int(port[1])))
        until = time.monotonic() + LIMIT
        while not guest.held:
            assert time.monotonic() < until
            guest.machine.pump()
        leaves = threading.Timer(8, connection.close)
        leaves.start()
        assert guest.requests.exec(["true"]) == 0
        assert not leaves.is_alive()
