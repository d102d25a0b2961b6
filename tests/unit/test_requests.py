"""Requests to the guest's agent, which runs here as an ordinary process on a socket."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inject.errors import CannotRun, InjectError
from inject.fleet.host import CommandTimeout
from inject.vm.channel import CHUNK, WINDOW
from inject.vm.requests import Requests
from tests.support import ROOT

AGENT = "import sys; from inject.vm.inguest.agent import Agent; Agent(int(sys.argv[1])).run()"


@pytest.fixture()
def requests() -> Iterator[Requests]:
    own, theirs = socket.socketpair()
    os.set_blocking(theirs.fileno(), False)
    command = [sys.executable, "-c", AGENT, str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT) as agent, own:
        theirs.close()

        def step() -> None:
            if select.select([own], [], [], 0.1)[0]:
                made.hear(own.recv(64 << 10))

        made = Requests(own.sendall, step)
        try:
            yield made
        finally:
            agent.kill()


def test_exit_code_signal_and_streams(requests: Requests) -> None:
    out, err = bytearray(), bytearray()
    status = requests.exec(
        ["sh", "-c", 'echo "$A"; pwd; echo err >&2; exit 37'],
        env={"A": "a b"},
        cwd="/",
        on_stdout=out.extend,
        on_stderr=err.extend,
    )
    assert (status, bytes(out), bytes(err)) == (37, b"a b\n/\n", b"err\n")
    assert requests.exec(["sh", "-c", "kill -TERM $$"]) == 128 + signal.SIGTERM
    assert requests.exec(["/nonexistent"]) == 127


def test_more_input_than_the_window(requests: Requests) -> None:
    data, out = bytes(i * 13 % 249 for i in range(2 * WINDOW)), bytearray()
    assert requests.exec(["cat"], stdin=data, on_stdout=out.extend, timeout=60) == 0
    assert bytes(out) == data


def test_a_command_that_takes_too_long_is_killed(requests: Requests) -> None:
    command = requests.start(["sleep", "600"])
    with pytest.raises(CommandTimeout, match="within 0.3 s"):
        requests.wait(command, 0.3)
    assert command.status == 128 + signal.SIGKILL


def test_no_command_and_too_much_input_are_refused(requests: Requests) -> None:
    with pytest.raises(CannotRun):
        requests.start([])
    command = requests.start(["cat"], stdin=True)
    with pytest.raises(ValueError, match="room for"):
        requests.feed(command, bytes(WINDOW + 1))
    requests.end_input(command)
    assert requests.wait(command, 60) == 0


def test_files_both_ways(requests: Requests, tmp_path: Path) -> None:
    path, data = tmp_path / "new" / "file", bytes(i * 3 % 253 for i in range(3 * CHUNK + 1))
    requests.write_file(str(path), data, mode=0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (data, 0o600)
    assert requests.read_file(str(path)) == data
    requests.trigger(str(path), b"end")
    assert path.read_bytes() == data + b"end"
    with pytest.raises(InjectError, match="larger than"):
        requests.read_file(str(path), limit=10)
    with pytest.raises(InjectError, match="could not read .*no such regular file"):
        requests.read_file(str(tmp_path / "missing"))
