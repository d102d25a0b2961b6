"""`inject` as a user types it, in a fork of this process.

A new process would import everything anew, which under emulation takes seconds. A test starts
COMMAND if only a process of its own shows what is tested: the end of the interpreter, another user.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Callable, NoReturn, Optional, Union

from inject import cli
from tests.support import ROOT
from tests.support.waiting import LIMIT

COMMAND = (sys.executable, "-m", "inject")
"""The command in a process of its own; it runs in ROOT."""

_DESCRIPTORS = 4096
"""More than a test has open."""

Done = subprocess.CompletedProcess[str]
Stream = Union[int, IO[str], IO[bytes], None]


def _nothing() -> None:
    pass


def inject(
    *words: Union[str, Path],
    cwd: Path = ROOT,
    env: Optional[Mapping[str, str]] = None,
    prepare: Callable[[], object] = _nothing,
    timeout: float = LIMIT,
) -> Done:
    """Run `inject WORDS` to its end and give what it printed; raises TimeoutExpired after ``timeout`` seconds."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with Tool(*map(str, words), cwd=cwd, env=env, stdout=out, stderr=err, prepare=prepare) as tool:
            status = tool.wait(timeout)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, status, out.read(), err.read())


class Tool:
    """A running `inject WORDS`, with what tests use of Popen; leaving its context kills it.

    Standard input is empty and output is dropped unless given. ``env`` takes the place of the
    environment. ``prepare`` is called in the fork first, when its streams are in place.
    """

    def __init__(
        self,
        *words: str,
        cwd: Path = ROOT,
        env: Optional[Mapping[str, str]] = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        prepare: Callable[[], object] = _nothing,
    ) -> None:
        self.returncode: Optional[int] = None
        with Path(os.devnull).open("r+b") as nothing:
            streams = [_descriptor(nothing if stream is None else stream) for stream in (stdin, stdout, stderr)]
            self.pid = os.fork()
            if not self.pid:
                _live(words, cwd, env, streams, prepare)

    def __enter__(self) -> Tool:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.kill()
        self.wait()

    def poll(self) -> Optional[int]:
        """Its exit status, negative for the signal that ended it; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = LIMIT) -> int:
        """Wait for its end; raises TimeoutExpired after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("inject", timeout)
            time.sleep(0.02)
        return status

    def send_signal(self, number: int) -> None:
        """Send it, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _descriptor(stream: Union[int, IO[str], IO[bytes]]) -> int:
    return stream if isinstance(stream, int) else stream.fileno()


def _live(
    words: tuple[str, ...],
    cwd: Path,
    env: Optional[Mapping[str, str]],
    streams: list[int],
    prepare: Callable[[], object],
) -> NoReturn:
    """The life of the fork: of this process it keeps modules only, no descriptor and nothing to finalise."""
    status = 1
    try:
        gc.freeze()
        kept = [os.dup(stream) for stream in streams]
        for number, stream in enumerate(kept):
            os.dup2(stream, number)
        os.closerange(3, _DESCRIPTORS)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
        sys.argv = ["inject", *words]
        tempfile.tempdir = None  # what it has found for this process
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(cwd)
        if env is not None:
            os.environ.clear()
            os.environ.update(env)
        prepare()
        cli.main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:  # what Python would print before it ends
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
