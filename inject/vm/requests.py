"""Requests to the agent in the guest: files and commands."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

from inject.errors import CannotRun, InjectError
from inject.fleet.host import Command, CommandTimeout, OnOutput, Patience
from inject.model.text import printable_lines
from inject.vm import answers
from inject.vm.answers import LONGEST, BadMessage
from inject.vm.channel import CHUNK, WINDOW, Lines, encode, pack

REQUEST = 60.0
"""Seconds that the agent may take to write or read one piece of a file."""

WHOLE = 600.0
"""Seconds that it may take to read a whole file."""

KILLED = 5.0
"""Seconds for a killed command to end."""

MOST_UNASKED = 100
"""Answers that inject did not ask for, or no longer waits for, that are ignored."""


class Requests:
    """Requests to one agent, and its answers.

    ``send`` writes to the agent's port; ``step`` waits a moment and raises Lost when
    the guest is gone. ``booted`` is what the agent's first message says, None until it has
    come: seconds from the kernel's start to its init.
    """

    def __init__(self, send: Callable[[bytes], None], step: Callable[[], None]) -> None:
        self.booted: Optional[float] = None
        self._write = send
        self._step = step
        self._lines = Lines(LONGEST)
        self._commands: dict[int, Command] = {}
        self._answers: dict[int, Optional[Mapping[str, Any]]] = {}
        """By the id of a request that waits: None until its answer has come."""
        self._last_id = 0
        self._pings = 0
        self._unasked = 0

    # ------------------------------------------------------------ the port

    def hear(self, data: bytes) -> None:
        """Take what the agent wrote to its port. Raises BadMessage for what inject's agent never writes."""
        for line in self._lines.feed(data):
            self._take(answers.parse(line))
        if self._lines.dropped:
            raise BadMessage(f"a line of more than {LONGEST} bytes")

    def _take(self, message: Mapping[str, Any]) -> None:
        kind, number = message["is"], message["id"]
        command = self._commands.get(number)
        if kind == "hello" and self.booted is None:
            self.booted = answers.seconds(message, "init")
        elif kind == "pong" and self._pings:
            self._pings -= 1
        elif command is not None:
            self._of_command(command, kind, message)
        elif number in self._answers and self._answers[number] is None and kind in ("done", "error"):
            self._answers[number] = message
        else:
            self._unasked += 1
            if number > self._last_id or self._unasked > MOST_UNASKED:
                raise BadMessage("answers that inject did not ask for")

    def _of_command(self, command: Command, kind: str, message: Mapping[str, Any]) -> None:
        if kind == "out":
            stream, data = answers.whole(message, "stream", 1, 2), answers.data(message, CHUNK)
            take = command.on_stderr if stream == 2 else command.on_stdout
            if take is not None:
                take(data)
        elif kind == "taken":
            command.credit += answers.whole(message, "bytes", 0, WINDOW - command.credit)
        elif kind == "exit":
            killed = "code" not in message
            command.status = (
                128 + answers.whole(message, "signal", 1, 64) if killed else answers.whole(message, "code", 0, 255)
            )
            del self._commands[command.id]
        elif kind == "error":
            command.error = answers.text(message, "message")
        else:
            raise BadMessage("an answer to a command that is none")

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._pings += 1
        self._send("ping", 0)

    def _send(self, do: str, number: int, **rest: Any) -> None:
        self._write(encode({"do": do, "id": number, **rest}))

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def save(self, command: Command) -> tuple[int, int]:
        """What :meth:`resume` needs in a guest that continues from this one, where ``command`` runs: id and credit."""
        return command.id, command.credit

    def resume(self, saved: tuple[int, int]) -> Command:
        """A command that ran when the guest was saved."""
        self._last_id = max(self._last_id, saved[0])
        command = Command(saved[0], None, None, saved[1])
        self._commands[command.id] = command
        return command

    def wake(self, now: float) -> None:
        """Tell a guest that was saved the time of day, in seconds since 1970; raises InjectError without an answer."""
        self._request("wake", time=now)

    def spare(self, words: Sequence[str], modules: Sequence[str], timeout: float) -> None:
        """Have a process import ``modules`` and wait to become the next command that begins with ``words``.

        Raises InjectError or CommandTimeout if it is not ready within ``timeout`` seconds.
        """
        ready = f"/run/inject-spare-{self._last_id}"
        self._request("spare", words=list(words), modules=list(modules), ready=ready)
        self.exec(["sh", "-c", 'until [ -e "$0" ]; do sleep 0.1; done; rm "$0"', ready], timeout=timeout)

    # ------------------------------------------------------------ files

    def _request(self, do: str, **rest: Any) -> Mapping[str, Any]:
        number = self._new_id()
        self._answers[number] = None
        try:
            self._send(do, number, **rest)
            patience = Patience(REQUEST)
            while (answer := self._answers[number]) is None:
                self._step()
                if patience.over():
                    raise InjectError(f"the guest did not {do} {rest.get('path', '')} within {REQUEST:g} s")
        finally:
            del self._answers[number]
        if answer["is"] == "error":
            said = printable_lines(str(answer.get("message")))
            raise InjectError(f"the guest could not {do} {rest.get('path', '')}: {said}")
        return answer

    def write_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file and make its directories; raises InjectError when the guest cannot."""
        self._request("write", path=path, data=pack(data[:CHUNK]), append=False, mode=mode)
        for start in range(CHUNK, len(data), CHUNK):
            self._request("write", path=path, data=pack(data[start : start + CHUNK]), append=True)

    def trigger(self, path: str, data: bytes) -> None:
        """Write to an existing file such as /proc/sysrq-trigger."""
        self._request("write", path=path, data=pack(data), append=True)

    def read_file(self, path: str, limit: int = 64 << 20) -> bytes:
        """A regular file's bytes; raises InjectError when it is missing or larger than ``limit``."""
        data = bytearray()
        patience = Patience(WHOLE)
        while True:
            answer = self._request("read", path=path, offset=len(data))
            if patience.over():
                raise InjectError(f"the guest did not give all of {path} within {WHOLE:g} s")
            try:
                piece, ended = answers.data(answer, CHUNK), answers.truth(answer, "eof")
            except BadMessage as error:
                raise InjectError(f"cannot read {path} in the guest: {error}") from None
            data += piece
            if len(data) > limit:
                raise InjectError(f"{path} in the guest is larger than {limit} bytes")
            if ended or not piece:
                return bytes(data)

    # ------------------------------------------------------------ commands

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
        stdin: bool = False,
        tty: Optional[tuple[int, int]] = None,
        on_stdout: Optional[OnOutput] = None,
        on_stderr: Optional[OnOutput] = None,
    ) -> Command:
        """Start a command as root. ``tty`` (rows, columns): on a terminal, all output to ``on_stdout``."""
        if not argv:
            raise CannotRun("no command to run in the guest")
        command = Command(self._new_id(), on_stdout, on_stderr, WINDOW)
        self._commands[command.id] = command
        size = list(tty) if tty else None
        self._send("exec", command.id, argv=list(argv), env=dict(env or {}), cwd=cwd, stdin=stdin, tty=size)
        return command

    def feed(self, command: Command, data: bytes) -> None:
        """Send input to ``command``; at most ``command.credit`` bytes."""
        if len(data) > command.credit:
            raise ValueError(f"{len(data)} bytes of input, room for {command.credit}")
        command.credit -= len(data)
        for start in range(0, len(data), CHUNK):
            self._send("stdin", command.id, data=pack(data[start : start + CHUNK]))

    def end_input(self, command: Command) -> None:
        """Close the input of ``command``."""
        self._send("stdin", command.id, eof=True)

    def signal(self, command: Command, number: int) -> None:
        """Signal the command's process group."""
        self._send("signal", command.id, signal=int(number))

    def resize(self, command: Command, rows: int, columns: int) -> None:
        """Set the size of the command's terminal."""
        self._send("resize", command.id, rows=rows, columns=columns)

    def wait(self, command: Command, timeout: Optional[float] = None, stdin: bytes = b"") -> int:
        """Send ``stdin`` to the command, wait for its end and return its status.

        Raises CommandTimeout, after killing it, when it takes over ``timeout`` seconds.
        """
        patience = Patience(timeout) if timeout is not None else None
        rest = memoryview(stdin)
        while command.status is None:
            if rest and command.credit:
                size = min(command.credit, CHUNK)
                self.feed(command, bytes(rest[:size]))
                rest = rest[size:]
                if not rest:
                    self.end_input(command)
            else:
                self._step()
            if command.error:
                raise InjectError(f"the guest could not run the command: {command.error}")
            if patience and patience.over():
                self._kill(command)
                raise CommandTimeout(f"the command did not end within {patience.limit:g} s")
        return command.status

    def _kill(self, command: Command) -> None:
        self.signal(command, signal.SIGKILL)
        patience = Patience(KILLED)
        while command.status is None and not patience.over():
            self._step()

    def exec(
        self,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
        stdin: bytes = b"",
        on_stdout: Optional[OnOutput] = None,
        on_stderr: Optional[OnOutput] = None,
        timeout: Optional[float] = None,
    ) -> int:
        """Run a command to its end and return its status (128 plus the signal that ended it)."""
        command = self.start(argv, env=env, cwd=cwd, stdin=bool(stdin), on_stdout=on_stdout, on_stderr=on_stderr)
        return self.wait(command, timeout, stdin)
