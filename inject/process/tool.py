"""Runs of system tools (mkfs, mount, fsck), with a time limit and without input."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Callable, NoReturn, Optional

from inject.errors import CannotRun, InjectError
from inject.process.blocked import BlockedTask, tasks_of
from inject.process.capture import DEFAULT_LIMIT, Output, drain, wait_collecting
from inject.process.cgroup import Cgroup
from inject.process.signals import signal_name

_GRACE = 5.0
"""Seconds in which a killed tool must end."""

_ADVICE = "dmesg(1) may have more information"
"""Last line of every failure of mount(8)."""

_CRASHES = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h

_ENTER = 'echo 0 >"$0"/cgroup.procs && exec "$@"'


class Hung(InjectError):
    """A tool or a reader did not end in time; ``blocked`` says where its tasks waited."""

    def __init__(self, message: str, blocked: tuple[BlockedTask, ...] = ()) -> None:
        super().__init__(message)
        self.blocked = blocked

    @property
    def in_kernel(self) -> bool:
        """True if a task waited in the kernel, where only the kernel could wake it."""
        return any(task.state == "D" for task in self.blocked)


@dataclass(frozen=True)
class Completed:
    """A tool that ran. ``code`` is its exit code, negative for the signal that ended it."""

    argv: tuple[str, ...]
    code: int
    output: str
    timed_out: bool = False
    stuck: bool = False
    """True if it did not end after SIGKILL: it hangs in the kernel."""
    blocked: tuple[BlockedTask, ...] = ()
    """Where its tasks waited when its time was up."""

    @property
    def command(self) -> str:
        """The command line, quoted for a shell."""
        return shlex.join(self.argv)

    @property
    def last_line(self) -> str:
        """The last line that is not empty, or "no output"."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip() and _ADVICE not in line]
        return lines[-1] if lines else "no output"

    @property
    def crashed(self) -> bool:
        """True if the tool itself crashed: its result then says nothing about the filesystem."""
        return not self.timed_out and self.code in _CRASHES

    def how(self) -> str:
        """End of the tool, in words."""
        if self.stuck:
            return "hangs in the kernel and cannot be killed"
        if self.timed_out:
            return "did not end in time and was killed"
        if self.code < 0:
            return f"was killed by {signal_name(-self.code)}"
        return f"exited with {self.code}"

    def failure(self) -> InjectError:
        """The error for a tool that had to succeed."""
        if self.timed_out:
            return Hung(f"`{self.command}` {self.how()}", self.blocked)
        return InjectError(f"`{self.command}` {self.how()}: {self.last_line}")

    def in_time(self, what: str) -> Completed:
        """This, if it ended within its time limit; ``what`` is its name in the Hung that is raised otherwise."""
        if self.timed_out:
            raise Hung(f"{what} {self.how()}", self.blocked)
        return self


def run_tool(
    argv: Sequence[str], *, timeout: float, cgroup: Optional[Cgroup] = None, output_limit: int = DEFAULT_LIMIT
) -> Completed:
    """Run ``argv`` for at most ``timeout`` seconds and return how it ended, for any exit code.

    It starts inside ``cgroup``, so that the janitor finds it if inject is killed.
    Raises CannotRun if the program is not installed.
    """
    if shutil.which(argv[0]) is None:
        raise CannotRun(f"{argv[0]} is not installed")
    deadline = time.monotonic() + timeout
    output = Output(output_limit)
    with _started(argv, cgroup) as process, _pidfd(process.pid) as pidfd:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        os.set_blocking(pipe, False)
        ended = timed_out = False
        blocked: tuple[BlockedTask, ...] = ()
        try:
            ended = wait_collecting(pidfd, pipe, output, deadline)
            timed_out = not ended
            if timed_out:
                blocked = tasks_of(cgroup.procs() if cgroup else [process.pid])
        finally:
            if not ended:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                ended = wait_collecting(pidfd, pipe, output, time.monotonic() + _GRACE)
        drain(pipe, output)
        code = process.wait() if ended else -signal.SIGKILL
    return Completed(tuple(argv), code, output.text(), timed_out, stuck=not ended, blocked=blocked)


def run_forked(
    rows: Callable[[], Iterable[object]],
    *,
    timeout: float,
    cgroup: Optional[Cgroup] = None,
    output_limit: int = DEFAULT_LIMIT,
) -> Completed:
    """Run ``rows()`` in a fork of this process and collect what it yields, one Python literal per line.

    For work that may hang in the kernel, as run_tool(), if starting a new Python would take longer
    than the work. ``rows`` must not import modules or take locks: the fork has no other threads.
    """
    deadline = time.monotonic() + timeout
    output = Output(output_limit)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    die_with_parent = _death_signal()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _forked(rows, writer, cgroup, lambda: die_with_parent(parent))
    os.close(writer)
    os.set_blocking(reader, False)
    try:
        with _pidfd(pid) as pidfd:
            ended = wait_collecting(pidfd, reader, output, deadline)
            timed_out = not ended
            blocked = tasks_of([pid]) if timed_out else ()
            if not ended:
                os.kill(pid, signal.SIGKILL)
                ended = wait_collecting(pidfd, reader, output, time.monotonic() + _GRACE)
        drain(reader, output)
    finally:
        os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if ended else -signal.SIGKILL
    return Completed(("python",), code, output.text(), timed_out, stuck=not ended, blocked=blocked)


def _death_signal() -> Callable[[int], None]:
    """A function that makes the kernel kill this process when its parent ends; prepared before the fork."""
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def die_with(parent: int) -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it had ended before
            os._exit(1)

    return die_with


def _forked(
    rows: Callable[[], Iterable[object]], writer: int, cgroup: Optional[Cgroup], die_with_parent: Callable[[], None]
) -> NoReturn:
    """Body of the fork. It does not flush or undo anything of the parent.

    It keeps no descriptor of the parent but ``writer`` and the standard streams: a reader that hangs in the
    kernel after inject was killed must not hold the janitor's pipe or the BPF program open.
    """
    code = 1
    try:
        die_with_parent()
        os.closerange(3, writer)
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        os.setsid()
        if cgroup is not None:
            (cgroup.path / "cgroup.procs").write_text("0")
        for row in rows():
            line = (ascii(row) + "\n").encode()
            while line:
                line = line[os.write(writer, line) :]
        code = 0
    except BaseException as error:  # reported to the parent
        os.write(writer, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(code)


def check_tool(argv: Sequence[str], *, timeout: float, cgroup: Optional[Cgroup] = None) -> str:
    """As run_tool, but anything except exit code 0 raises InjectError; returns the output."""
    done = run_tool(argv, timeout=timeout, cgroup=cgroup)
    if done.code != 0 or done.timed_out:
        raise done.failure()
    return done.output


@contextlib.contextmanager
def _started(argv: Sequence[str], cgroup: Optional[Cgroup]) -> Iterator[subprocess.Popen[bytes]]:
    """The running tool; unlike Popen's context manager, leaving never waits for it."""
    inside = [] if cgroup is None else ["/bin/sh", "-c", _ENTER, str(cgroup.path)]
    process = subprocess.Popen(
        [*inside, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    try:
        yield process
    finally:
        assert process.stdout is not None
        process.stdout.close()
        if process.poll() is None:
            process.returncode = -signal.SIGKILL  # do not wait for a task that hangs in the kernel


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)
