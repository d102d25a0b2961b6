"""The guest's side of the agent port: runs what the host asks for, until the host is gone.

Started by init as root. One thread, one poll loop, no module that is slow to
import under emulation. Every buffer is bounded: while the port is congested no
command's output is read, and the host sends input only as the agent says
``taken`` (see inject/vm/channel.py, the protocol).
"""

# Importing pathlib alone would take as long as the rest of the start:
# ruff: noqa: PTH100, PTH101, PTH103, PTH113, PTH118, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))

from inject.vm.channel import AGENT_PORT, CHUNK, WINDOW, Lines, decode, encode, pack, unpack  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn, Optional

CONGESTED = 256 << 10
"""Bytes that wait for the port; above it no more output of commands is read."""

DRAINED = 2 << 20
"""Bytes that are read from a pipe after its command ended, if others still write into it."""

PID_FILE = "/run/inject-agent.pid"
"""Tells inject which process no fault may fail: without the agent the host gives the guest up."""

HOST_GONE = 60.0
"""Seconds that the port may be without a host before the agent ends."""

IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python or the background shell of init ignores; a command must not inherit that."""

LINKS = "/dev/virtio-ports"


def find_port(name: str) -> str:
    """The device of the virtio port called ``name``, and links of all names as udev would make them."""
    os.makedirs(LINKS, exist_ok=True)
    found = ""
    for device in os.listdir("/sys/class/virtio-ports"):
        with open(f"/sys/class/virtio-ports/{device}/name", encoding="ascii") as file:
            label = file.read().strip()
        link = os.path.join(LINKS, label)
        if not os.path.lexists(link):
            os.symlink(f"../{device}", link)
        if label == name:
            found = f"/dev/{device}"
    if not found:
        raise SystemExit(f"no virtio port is called {name}")
    return found


def link_names() -> None:
    """Names that programs expect: bash's <(...), and `inject` itself."""
    here = os.path.dirname(os.path.abspath(__file__))
    for target, link in (("/proc/self/fd", "/dev/fd"), (os.path.join(here, "inject"), "/usr/local/bin/inject")):
        if not os.path.lexists(link):
            os.symlink(target, link)


def wait_for_mounts() -> None:
    """Wait for the end of standard input, which init holds open until everything is mounted."""
    while os.read(0, 64):
        pass


def take_precedence() -> None:
    """Stay responsive under any workload: above its real-time tasks, never killed for memory; children get neither.

    Otherwise a task of SCHED_FIFO on each processor keeps the agent from answering, and the
    host calls that a hang of the kernel.
    """
    try:
        highest = os.sched_param(os.sched_get_priority_max(os.SCHED_RR))
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, highest)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("-1000")
    except OSError as error:
        print(f"inject: the agent has no precedence: {error}", flush=True)


class Process:
    """One running command: its process group, and the agent's ends of its streams.

    ``outputs`` maps a readable descriptor to the stream's number, 1 or 2.
    """

    def __init__(self, request: Mapping[str, Any], spare: Optional[Spare] = None) -> None:
        self.id: int = request["id"]
        self.tty: bool = bool(request.get("tty"))
        self.waiting = bytearray()
        self.ending = not request.get("stdin")
        self.outputs: dict[int, int] = {}
        self.stdin = -1
        theirs = self._terminal(request["tty"]) if self.tty else self._pipes()
        self.pid = spare.take(request, theirs) if spare is not None else os.fork()
        if self.pid == 0:
            become(request, theirs, self.tty)
        for fd in set(theirs):
            os.close(fd)
        self.pidfd = os.pidfd_open(self.pid)
        for fd in (*self.outputs, self.stdin):
            os.set_blocking(fd, False)
        if self.ending and not self.tty:
            self.close_stdin()

    def _pipes(self) -> tuple[int, int, int]:
        stdin, self.stdin = os.pipe()
        first, stdout = os.pipe()
        second, stderr = os.pipe()
        self.outputs = {first: 1, second: 2}
        return stdin, stdout, stderr

    def _terminal(self, size: list[int]) -> tuple[int, int, int]:
        own, theirs = os.openpty()
        self.stdin = own
        self.outputs = {own: 1}
        self.resize(*size)
        return theirs, theirs, theirs

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal this many character cells."""
        if self.tty and self.stdin >= 0:
            fcntl.ioctl(self.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: int) -> None:
        """Signal the command's process group; before it has one, the process."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            os.kill(self.pid, number)

    def write(self) -> int:
        """Pass waiting input on; returns the number of bytes that went, or were refused for good."""
        try:
            count = os.write(self.stdin, self.waiting[:CHUNK])
        except BlockingIOError:
            return 0
        except OSError:
            count = len(self.waiting)
            self.ending = True
        del self.waiting[:count]
        if self.ending and not self.waiting:
            self.close_stdin()
        return count

    def close_stdin(self) -> None:
        """Close the input; on a terminal by its end-of-file character."""
        if self.tty:
            if self.ending and self.stdin >= 0:
                self.ending = False
                os.write(self.stdin, b"\x04")
        elif self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def read(self, fd: int) -> bytes:
        """Output that is there; closes ``fd`` and returns b"" at its end. Raises BlockingIOError when empty."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            raise
        except OSError:
            data = b""
        if not data:
            del self.outputs[fd]
            if not self.tty:
                os.close(fd)
        return data

    def close(self) -> None:
        """Close every descriptor; processes that the command left behind stay."""
        for fd in {*self.outputs, self.stdin, self.pidfd} - {-1}:
            os.close(fd)
        self.outputs = {}
        self.stdin = -1


def become(request: Mapping[str, Any], streams: tuple[int, int, int], tty: bool) -> NoReturn:
    """Turn the forked child into the command; exit with 127 or 126 as a shell does if that fails."""
    code = 126
    try:
        for number in IGNORED:
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        if tty:
            fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
        for target, fd in enumerate(streams):
            os.dup2(fd, target)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("0")
        if request.get("cwd"):
            os.chdir(request["cwd"])
        environment = {**os.environ, **request.get("env", {})}
        environment.pop("INJECT_INIT_AT", None)
        os.execvpe(request["argv"][0], request["argv"], environment)
    except FileNotFoundError as error:
        code = 127
        os.write(2, f"{error.filename or request['argv'][0]}: {error.strerror}\n".encode())
    except BaseException as error:
        os.write(2, f"{request['argv'][0]}: {error}\n".encode())
    os._exit(code)


class Spare:
    """A process that has imported what commands that begin with ``words`` need (spare.py); serves one of them.

    It was started as a command without a host. ``channel`` is the agent's end of its socket.
    """

    def __init__(self, words: list[str], modules: list[str], ready: str) -> None:
        import socket  # slow to load, and of no use to a guest that is not saved

        self.words = words
        self._socket = socket
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.set_inheritable(theirs.fileno(), True)
        here = os.path.dirname(os.path.abspath(__file__))
        argv = ["python3", os.path.join(here, "spare.py"), str(theirs.fileno()), ready, *modules]
        environment = {"PYTHONPATH": os.path.normpath(os.path.join(here, "../../.."))}
        self.pid = os.fork()
        if self.pid == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            become({"argv": argv, "env": environment}, (nothing, nothing, 2), False)
        theirs.close()

    def serves(self, request: Mapping[str, Any]) -> bool:
        """True for a command that it can become, and while it lives."""
        fits = not request.get("tty") and request["argv"][: len(self.words)] == self.words
        return fits and os.waitpid(self.pid, os.WNOHANG)[0] == 0

    def take(self, request: Mapping[str, Any], streams: tuple[int, int, int]) -> int:
        """Have it become the command; its process."""
        environment = {**os.environ, **request.get("env", {})}
        environment.pop("INJECT_INIT_AT", None)
        order = {"argv": request["argv"][len(self.words) - 1 :], "env": environment, "cwd": request.get("cwd")}
        self._socket.send_fds(self.channel, [encode(order)], streams)
        self.channel.close()
        return self.pid


class Agent:
    """Answers requests until the host is gone."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.lines = Lines()
        self.outbox = bytearray()
        self.commands: dict[int, Process] = {}
        self.spares: list[Spare] = []
        self.gone_since = 0.0

    def say(self, kind: str, number: int = 0, **rest: object) -> None:
        """Queue one message for the host."""
        self.outbox += encode({"is": kind, "id": number, **rest})

    def run(self) -> None:
        """Serve until the host is gone for :data:`HOST_GONE` seconds."""
        while not self.gone_since or time.monotonic() - self.gone_since < HOST_GONE:
            self.step()

    def step(self) -> None:
        """Wait for the next thing that can be done, and do it."""
        poller = select.poll()
        poller.register(self.port, select.POLLIN | (select.POLLOUT if self.outbox else 0))
        owners: dict[int, Process] = {}
        for command in self.commands.values():
            for fd, events in self.interests(command).items():
                poller.register(fd, events)
                owners[fd] = command
        ready = poller.poll()
        for fd, events in ready:
            if fd == self.port:
                self.serve_port(events)
        for fd, events in ready:
            if fd in owners:
                self.serve(owners[fd], fd, events)

    def interests(self, command: Process) -> dict[int, int]:
        """Events to wait for on each of the command's streams."""
        wanted: dict[int, int] = {}
        if len(self.outbox) < CONGESTED:
            wanted = dict.fromkeys((command.pidfd, *command.outputs), select.POLLIN)
        if command.waiting and command.stdin >= 0:
            wanted[command.stdin] = wanted.get(command.stdin, 0) | select.POLLOUT
        return wanted

    def serve(self, command: Process, fd: int, events: int) -> None:
        """Move a command's bytes, or notice its end."""
        if fd == command.pidfd:
            self.finish(command)
            return
        if fd == command.stdin and events & select.POLLOUT:
            self.say("taken", command.id, bytes=command.write())
        if fd in command.outputs and events & ~select.POLLOUT:
            self.forward(command, fd)

    def forward(self, command: Process, fd: int) -> int:
        """Send one piece of output; returns its size, 0 when there is none."""
        stream = command.outputs[fd]
        try:
            data = command.read(fd)
        except BlockingIOError:
            return 0
        if data:
            self.say("out", command.id, stream=stream, data=pack(data))
        return len(data)

    def finish(self, command: Process) -> None:
        """Send the rest of an ended command's output, then its exit."""
        for fd in list(command.outputs):
            left = DRAINED
            while left > 0 and fd in command.outputs:
                count = self.forward(command, fd)
                if count == 0:
                    break
                left -= count
        code = os.waitstatus_to_exitcode(os.waitpid(command.pid, 0)[1])
        command.close()
        del self.commands[command.id]
        if code < 0:
            self.say("exit", command.id, signal=-code)
        else:
            self.say("exit", command.id, code=code)

    # ------------------------------------------------------------ port

    def serve_port(self, events: int) -> None:
        """Move what can be moved between the port and the two boxes."""
        if events & select.POLLIN:
            data = os.read(self.port, 64 << 10)
            for line in self.lines.feed(data):
                self.answer(line)
        if events & select.POLLOUT:
            self.flush()
        if events & select.POLLHUP:
            self.gone_since = self.gone_since or time.monotonic()
            time.sleep(0.1)
        else:
            self.gone_since = 0.0

    def flush(self) -> None:
        """Write what the port takes."""
        try:
            while self.outbox:
                del self.outbox[: os.write(self.port, self.outbox[:CHUNK])]
        except BlockingIOError:
            pass

    def answer(self, line: bytes) -> None:
        """Do one request; an exception in it becomes the answer."""
        number = 0
        try:
            request = decode(line)
            number = int(request.get("id", 0))
            getattr(self, f"do_{request['do']}")(request)
        except Exception as error:
            self.say("error", number, message=f"{type(error).__name__}: {error}")

    # ------------------------------------------------------------ requests

    def do_ping(self, request: Mapping[str, Any]) -> None:
        self.say("pong", request["id"])

    def do_wake(self, request: Mapping[str, Any]) -> None:
        time.clock_settime(time.CLOCK_REALTIME, request["time"])
        self.say("done", request["id"])

    def do_exec(self, request: Mapping[str, Any]) -> None:
        spare = next((spare for spare in self.spares if spare.serves(request)), None)
        if spare is not None:
            self.spares.remove(spare)
        self.commands[request["id"]] = Process(request, spare)

    def do_spare(self, request: Mapping[str, Any]) -> None:
        self.spares.append(Spare(request["words"], request["modules"], request["ready"]))
        self.say("done", request["id"])

    def do_stdin(self, request: Mapping[str, Any]) -> None:
        command = self.commands.get(request["id"])
        if command is None:
            return
        data = unpack(request.get("data", ""))
        if command.stdin < 0:
            self.say("taken", command.id, bytes=len(data))
            return
        if len(command.waiting) + len(data) > WINDOW:
            raise OSError(errno.ENOBUFS, "more input than was asked for")
        command.waiting += data
        command.ending = command.ending or bool(request.get("eof"))
        if command.ending and not command.waiting:
            command.close_stdin()

    def do_signal(self, request: Mapping[str, Any]) -> None:
        if request["id"] in self.commands:
            self.commands[request["id"]].signal(request["signal"])

    def do_resize(self, request: Mapping[str, Any]) -> None:
        if request["id"] in self.commands:
            self.commands[request["id"]].resize(request["rows"], request["columns"])

    def do_write(self, request: Mapping[str, Any]) -> None:
        path = request["path"]
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "ab" if request.get("append") else "wb") as file:
            file.write(unpack(request["data"]))
        if "mode" in request:
            os.chmod(path, request["mode"])
        self.say("done", request["id"])

    def do_read(self, request: Mapping[str, Any]) -> None:
        if not os.path.isfile(request["path"]):
            raise OSError(errno.ENOENT, "no such regular file", request["path"])
        with open(request["path"], "rb") as file:
            file.seek(request.get("offset", 0))
            data = file.read(CHUNK)
        self.say("done", request["id"], data=pack(data), eof=not data)


def main() -> None:
    """Open the port, say hello, serve."""
    port = os.open(find_port(AGENT_PORT), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    link_names()
    wait_for_mounts()
    take_precedence()
    with open(PID_FILE, "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    agent = Agent(port)
    with open("/proc/uptime", encoding="ascii") as file:
        uptime = float(file.read().split()[0])
    init = float(os.environ.get("INJECT_INIT_AT", "0"))
    agent.say("hello", release=os.uname().release, uptime=uptime, init=init)
    agent.run()
    raise SystemExit("the host is gone")


if __name__ == "__main__":
    main()
