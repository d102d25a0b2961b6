"""The command under test: held in its own cgroup, released, watched, and ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Union

from inject.errors import CannotRun, InjectError
from inject.process.blocked import BlockedTask, kernel_threads, tasks_of
from inject.process.capture import DEFAULT_LIMIT, Output, drain, wait_collecting
from inject.process.cgroup import Cgroup
from inject.process.signals import signal_name

GRACE = 5.0
"""Seconds in which killed processes must end; after that they are reported as unkillable."""

SCRIPT_LIMIT = (128 << 10) - 1
"""Bytes of a script: one argument of execve (MAX_ARG_STRLEN, include/uapi/linux/binfmts.h)."""

START_TIMEOUT = 60.0
"""Seconds for bash to start and stop at the gate of a script."""

_GATE = "builtin kill -STOP $$; "
"""The start of a script's first line. bash has loaded everything when it stops here, and SIGCONT opens the
gate: of bash's own calls only the end of kill(2) is in scope, and no descriptor or variable is left behind."""

# A program is held by a shell. Calls in scope before it starts: two system calls and the execve. The shell
# opens /dev/null earlier, so that a fault on open() does not hit this line.
_HOLD = 'exec 3</dev/null; read -r go && exec "$@" <&3 3<&-; exit 125'

_POLL = 0.001

_HELD = ("/bin/sh", "-c", _HOLD, "sh")

# A script that has stopped at its gate waits for ever, so it enters its group by itself: if inject is killed before it
# could move the script there, the janitor must find it. What _HOLD holds ends with inject.
_ENTER = 'echo 0 >"$0"/cgroup.procs && exec "$@"'


@dataclass(frozen=True)
class Outcome:
    """End of a workload. ``code`` is None unless it exited by itself."""

    code: Optional[int]
    signal: Optional[int]
    """The signal that ended it, also inject's own at the timeout."""
    output: str
    dropped: int
    """Bytes left out in the middle of ``output``; a line there says so."""
    timed_out: bool
    blocked: tuple[BlockedTask, ...]
    """At a timeout: its tasks and the kernel threads in state D, with their stacks."""
    left_over: int
    """Processes that were still running after the command ended, and were killed."""
    unkillable: tuple[BlockedTask, ...]
    """Tasks that have not ended GRACE seconds after SIGKILL: this kernel must not run more trials."""
    seconds: float
    began: bool = True
    """False if bash ended before the first command of the script, such as at a syntax error in its first line."""
    allowed: float = 0.0
    """Seconds that it had."""

    def how(self) -> str:
        """End of the workload, in words."""
        if self.timed_out:
            return "was still running at the timeout"
        if self.signal is not None:
            return f"was killed by {signal_name(self.signal)}"
        return f"exited with {self.code}"


def script_argv(text: str, name: str = "run") -> list[str]:
    """Command line that runs shell ``text``; messages of bash read ``NAME: line N:``.

    The text is an argument, not a file, so that bash reads no script while faults
    are armed. Raises InjectError if the kernel does not accept the argument.
    """
    if "\0" in text:
        raise InjectError(f"the script `{name}` contains a NUL character")
    if len(text.encode()) > SCRIPT_LIMIT:
        raise InjectError(f"the script `{name}` is longer than {SCRIPT_LIMIT} bytes", "call a script file from it")
    bash = shutil.which("bash")
    if bash is None:
        raise CannotRun("bash is not installed")
    return [bash, "-euo", "pipefail", "-c", text, name]


class Workload:
    """A process that waits inside ``cgroup`` and starts at :meth:`release`.

    ``command`` is shell text (run as ``bash -euo pipefail``), which waits before its first
    command, or an argument list, which waits before its execve(2).
    Its output, both streams together, is kept within ``output_limit`` bytes;
    ``on_output`` gets all of it. Use as a context manager: leaving kills what is left.
    Raises InjectError if it cannot be started, CannotRun if a program is missing.
    """

    def __init__(
        self,
        command: Union[str, Sequence[str]],
        *,
        cgroup: Cgroup,
        cwd: Path,
        env: Optional[Mapping[str, str]] = None,
        name: str = "run",
        output_limit: int = DEFAULT_LIMIT,
        on_output: Optional[Callable[[bytes], None]] = None,
    ) -> None:
        argv = _held(command, name) if isinstance(command, str) else [*_HELD, *_resolved(command, env, cwd)]
        self._gated = argv[: len(_HELD)] != [*_HELD]
        self._cgroup = cgroup
        self._output = Output(output_limit, on_output)
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _ENTER, str(cgroup.path), *argv] if self._gated else argv,
                stdin=subprocess.DEVNULL if self._gated else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=None if env is None else dict(env),
                start_new_session=True,
            )
        except OSError as error:
            raise InjectError(f"cannot start the workload: {error.strerror}") from error
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._released = 0.0
        self._stuck = False
        self._began = True
        try:
            cgroup.add(self._process.pid)
            if self._gated:
                self._began = self._stopped()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the held process, which the command keeps."""
        return self._process.pid

    def release(self) -> None:
        """Start the command: every call from here on is in scope."""
        self._released = time.monotonic()
        if self._gated:
            signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
            return
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.close()

    def _stopped(self) -> bool:
        """Wait until the script stands at its gate; False if it ended before."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            found = os.waitid(os.P_PIDFD, self._pidfd, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                return found.si_code == os.CLD_STOPPED
            if time.monotonic() >= deadline:
                raise InjectError(f"bash did not start within {START_TIMEOUT:g} s")
            time.sleep(_POLL)

    def wait(
        self,
        timeout: float,
        on_end: Optional[Callable[[], None]] = None,
        tick: Callable[[], object] = lambda: None,
    ) -> Outcome:
        """Wait for the command, at most ``timeout`` seconds after its release, and kill what is left.

        ``on_end`` is called as soon as the command has ended or its time is up, before
        anything is killed. ``tick`` is called at least once a second while the wait goes on.
        """
        ended = wait_collecting(self._pidfd, self._pipe, self._output, self._released + timeout, tick)
        seconds = time.monotonic() - self._released
        if on_end is not None:
            on_end()
        alive = self._cgroup.procs()
        blocked = () if ended else (*tasks_of(alive), *kernel_threads())
        unkillable = self._kill()
        drain(self._pipe, self._output)
        code = self._process.poll()
        return Outcome(
            code=code if ended and code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            output=self._output.text(),
            dropped=self._output.dropped,
            timed_out=not ended,
            blocked=blocked,
            left_over=len(alive) if ended else 0,
            unkillable=unkillable,
            seconds=seconds,
            began=self._began,
            allowed=timeout,
        )

    def _kill(self) -> tuple[BlockedTask, ...]:
        """SIGKILL everything in the group; return what has not ended after GRACE seconds (waits only once)."""
        if self._stuck:
            return tasks_of(self._cgroup.procs())
        self._cgroup.kill()
        # A full pipe does not block them: SIGKILL interrupts the write.
        self._stuck = not self._cgroup.wait_empty(GRACE)
        return tasks_of(self._cgroup.procs()) if self._stuck else ()

    def close(self) -> None:
        """Kill what is left and close the pipes; may be called at any time, more than once."""
        if self._pidfd < 0:
            return
        self._kill()
        if self._process.poll() is None:
            self._process.kill()  # it may not be in the group yet
            patience = 0.1 if self._stuck else GRACE
            if not wait_collecting(self._pidfd, self._pipe, self._output, time.monotonic() + patience):
                self._process.returncode = -signal.SIGKILL  # hangs in the kernel: do not wait for it
        self._process.poll()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        os.close(self._pidfd)
        self._pidfd = -1

    def __enter__(self) -> Workload:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run_workload(
    command: Union[str, Sequence[str]],
    *,
    cgroup: Cgroup,
    cwd: Path,
    timeout: float,
    env: Optional[Mapping[str, str]] = None,
    name: str = "run",
    output_limit: int = DEFAULT_LIMIT,
    on_output: Optional[Callable[[bytes], None]] = None,
) -> Outcome:
    """Start, release and wait, for ``setup`` and ``recover``, which run disarmed. Arguments as Workload's."""
    with Workload(
        command, cgroup=cgroup, cwd=cwd, env=env, name=name, output_limit=output_limit, on_output=on_output
    ) as workload:
        workload.release()
        return workload.wait(timeout)


def _held(text: str, name: str) -> list[str]:
    """Command line of a script that waits for its release; one without room for the gate waits before its execve(2)."""
    if len((_GATE + text).encode()) <= SCRIPT_LIMIT:
        return script_argv(_GATE + text, name)
    return [*_HELD, *script_argv(text, name)]


def _resolved(argv: Sequence[str], env: Optional[Mapping[str, str]], cwd: Path) -> list[str]:
    """``argv`` with the path of its program; raises CannotRun if the program is not found."""
    if not argv:
        raise InjectError("no command was given")
    name = argv[0]
    path = os.environ.get("PATH") if env is None else env.get("PATH", os.defpath)
    found = shutil.which(str(cwd / name) if "/" in name else name, path=path)
    if found is None:
        raise CannotRun(f"{name}: command not found, or not executable")
    return [found, *argv[1:]]
