"""A running QEMU: its disks, its streams, its monitor and its end.

One thread pumps everything of a machine. Nothing of a machine has a name that outlives it:
the streams are socket pairs, and its disks are unlinked as soon as QEMU has
opened them, so that even SIGKILL of this process leaves no file. QEMU itself is
killed by the kernel when the thread that started it ends (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from inject.errors import CannotRun, InjectError
from inject.process.signals import ENDING, signals_held
from inject.vm import qemu
from inject.vm.carry import checkout
from inject.vm.channel import AGENT_PORT, MAX_LINE, RESULTS_PORT, Lines, decode, encode
from inject.vm.console import Console

SCRATCH_DISKS = 4
SCRATCH_SIZE = 8 << 30
"""Bytes of each scratch disk; sparse, so that only what is written takes room."""

SLICE = 0.2
"""Seconds that one :meth:`Machine.pump` may wait; so long may a signal go unnoticed."""

PIPE_SIZE = 1 << 20
F_SETPIPE_SZ = 1031
"""linux/fcntl.h; Python's fcntl has it since 3.10."""

_READ = 64 << 10
_OUTBOX = 2 * MAX_LINE
_SPAWN = 30.0
_REAP = 10.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Parts:
    """The files a guest boots from; none of them is ever written.

    ``headers`` is an ext4 image for /lib/modules, None when the image has its own.
    ``checkout`` is the folder whose ``inject/`` runs in the guest, ``modules`` holds
    what earlier guests compiled of it.
    """

    kernel: Path
    rootfs: Path
    headers: Optional[Path]
    checkout: Path
    modules: Optional[Path] = None


class Stream:
    """Our end of one of QEMU's streams, and the bytes that come out of it.

    ``theirs`` is the end that QEMU inherits; both are closed by :meth:`close`.
    """

    def __init__(self, name: str, take: Callable[[bytes], None]) -> None:
        self.name = name
        self.take = take
        self.outbox = bytearray()
        self.ours, self.theirs = self.open()
        os.set_blocking(self.ours, False)

    def open(self) -> tuple[int, int]:
        """A socket pair: small messages both ways."""
        return tuple(end.detach() for end in socket.socketpair())  # type: ignore[return-value]

    def receive(self) -> bool:
        """Take what is there; False at the end of the stream."""
        try:
            data = os.read(self.ours, _READ)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if data:
            self.take(data)
        return bool(data)

    def send(self, data: bytes) -> None:
        """Queue ``data``; raises InjectError when the other side has not read for too long."""
        if len(self.outbox) + len(data) > _OUTBOX:
            raise InjectError(f"the guest does not read its {self.name} port")
        self.outbox += data
        self.flush()

    def flush(self) -> None:
        """Hand over as much as goes without waiting; what QEMU can no longer take is dropped."""
        try:
            while self.outbox:
                del self.outbox[: os.write(self.ours, self.outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self.outbox.clear()

    def close_theirs(self) -> None:
        """QEMU has it now."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def close(self) -> None:
        """Let go of both ends."""
        self.close_theirs()
        if self.ours >= 0:
            os.close(self.ours)
            self.ours = -1


class Pipe(Stream):
    """A stream that QEMU only writes, byte by byte: a pipe joins the bytes, a socket keeps each apart."""

    def open(self) -> tuple[int, int]:
        """A pipe of :data:`PIPE_SIZE` bytes; a full one must not block QEMU."""
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(theirs, F_SETPIPE_SZ, PIPE_SIZE)
        return ours, theirs


class Machine:
    """One QEMU process. Use as a context manager; leaving it ends QEMU at once.

    ``on_agent`` and ``on_result`` are called from :meth:`pump` with what the guest
    writes to its two ports, ``tick`` before each wait; it may raise to end the wait.
    ``stopped`` is True while QEMU, not the guest, holds the guest still. With ``gdb``
    ``stub`` is our end of its gdb stub.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        accel: str,
        cpus: int,
        memory: int,
        append: str = "",
        icount: Optional[int] = None,
        gdb: bool = False,
        on_agent: Callable[[bytes], None],
        on_result: Callable[[bytes], None],
        tick: Callable[[], None] = lambda: None,
        console: Optional[Console] = None,
    ) -> None:
        self.parts = parts
        self.accel = accel
        self.cpus = cpus
        self.memory = memory
        self.append = append
        self.icount = icount
        self._tick = tick
        self.console = console or Console()
        self.errors = Console(16 << 10)
        self.stopped = False
        self.shutdown = ""
        """QEMU's word for why it ended (``guest-shutdown``, ``guest-reset``), "" while unknown."""
        self.out_of_space = False
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.stub: Optional[socket.socket] = None
        self._stub: Optional[socket.socket] = None
        if gdb:
            self.stub, self._stub = socket.socketpair()
        self._folder: Optional[Path] = None
        self._replies: dict[int, dict[str, Any]] = {}
        self._asked = 0
        self._lines = Lines()
        self._watched: dict[int, tuple[Callable[[], None], Callable[[], bool]]] = {}
        self._streams = {
            "console": Pipe("console", self.console.feed),
            "monitor": Stream("monitor", self._hear),
            "errors": Stream("errors", self.errors.feed),
            "agent": Stream("agent", on_agent),
            "results": Stream("results", on_result),
        }

    def __enter__(self) -> Machine:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ start

    def open(self) -> None:
        """Start QEMU and wait for its monitor."""
        try:
            self._spawn()
            self._wait_for_monitor()
            self._forget_folder()
        except BaseException:
            self.close()
            raise

    def _spawn(self) -> None:
        binary = qemu.find(qemu.BINARY)
        tool = qemu.find(qemu.IMAGE_TOOL)
        with signals_held() as before:
            self._folder = Path(tempfile.mkdtemp(prefix="inject-vm-", dir=_temporary()))
            hardware = self._hardware(binary, _make_disks(tool, self.parts, self._folder))
            ours = os.getpid()

            def in_child() -> None:
                signal.pthread_sigmask(signal.SIG_SETMASK, before - ENDING)
                _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != ours:
                    os._exit(1)

            errors = self._streams["errors"].theirs
            self.process = subprocess.Popen(
                qemu.argv(hardware, binary),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=hardware.fds(),
                start_new_session=True,
                preexec_fn=in_child,
            )
        for stream in self._streams.values():
            stream.close_theirs()
        if self._stub is not None:
            self._stub.close()

    def _hardware(self, binary: str, disks: tuple[qemu.Disk, ...]) -> qemu.Hardware:
        theirs = {name: stream.theirs for name, stream in self._streams.items()}
        return qemu.Hardware(
            kernel=str(self.parts.kernel),
            accel=self.accel,
            cpus=self.cpus,
            memory=self.memory,
            disks=disks,
            console=theirs["console"],
            monitor=theirs["monitor"],
            ports=(qemu.Port(AGENT_PORT, theirs["agent"]), qemu.Port(RESULTS_PORT, theirs["results"])),
            append=self.append,
            turns=qemu.takes_turns(binary),
            icount=self.icount,
            gdb=self._stub.fileno() if self._stub is not None else None,
        )

    def _wait_for_monitor(self) -> None:
        """Until QEMU answers it has not surely opened its disks; an early end is found by the caller."""
        with contextlib.suppress(MonitorError):
            self.ask("qmp_capabilities", timeout=_SPAWN)

    def _forget_folder(self) -> None:
        with signals_held():
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    # ------------------------------------------------------------ life

    def running(self) -> bool:
        """Whether QEMU has not ended."""
        return self.process is not None and self.process.poll() is None

    def exit_code(self) -> int:
        """QEMU's exit code, negative for a signal; 0 while it runs."""
        return (self.process.poll() or 0) if self.process is not None else 0

    def pump(self, timeout: float = SLICE) -> None:
        """Move whatever can be moved, waiting at most ``timeout`` seconds for the first of it."""
        self._tick()
        poller = select.poll()
        streams = {stream.ours: stream for stream in self._streams.values()}
        for fd, stream in streams.items():
            poller.register(fd, select.POLLIN | (select.POLLOUT if stream.outbox else 0))
        for fd, (_, wanted) in self._watched.items():
            if wanted():
                poller.register(fd, select.POLLIN)
        for fd, events in poller.poll(max(0, int(timeout * 1000))):
            if fd in self._watched:
                self._watched[fd][0]()
            elif fd in streams:
                self._move(streams[fd], events)

    def _move(self, stream: Stream, events: int) -> None:
        if events & select.POLLOUT:
            stream.flush()
        if events & ~select.POLLOUT and not stream.receive():
            self._streams.pop(stream.name, None)
            stream.close()

    def catch_up(self, name: str) -> None:
        """Take all that has come out of the stream called ``name`` by now."""
        poller = select.poll()
        while name in self._streams:
            poller.register(self._streams[name].ours, select.POLLIN)
            found = poller.poll(0)
            if not found:
                return
            self._move(self._streams[name], found[0][1])

    def drain(self, timeout: float = 5.0) -> bool:
        """After QEMU's end: take what it had still written. False if that takes over ``timeout`` seconds."""
        until = time.monotonic() + timeout
        while self._streams:
            if time.monotonic() > until:
                return False
            self.pump()
        return True

    def watch(self, fd: int, ready: Callable[[], None], wanted: Callable[[], bool]) -> None:
        """Call ``ready`` from :meth:`pump` when ``fd`` can be read and ``wanted()`` says so."""
        self._watched[fd] = (ready, wanted)

    def unwatch(self, fd: int) -> None:
        """Undo :meth:`watch`."""
        self._watched.pop(fd, None)

    def send(self, data: bytes) -> None:
        """Write to the agent's port; what an ended QEMU cannot take is dropped."""
        if "agent" in self._streams:
            self._streams["agent"].send(data)

    # ------------------------------------------------------------ monitor

    def ask(self, command: str, timeout: float = 10.0, **arguments: Any) -> Any:
        """Run a command of QEMU's monitor (QMP) and return its answer.

        Raises MonitorError when QEMU refuses, ends, or is silent for ``timeout`` seconds.
        """
        if "monitor" not in self._streams:
            raise MonitorError(f"QEMU ended before {command}")
        self._asked += 1
        number = self._asked
        request = {"execute": command, "id": number, **({"arguments": arguments} if arguments else {})}
        self._streams["monitor"].send(encode(request))
        until = time.monotonic() + timeout
        while number not in self._replies:
            if not self.running() or "monitor" not in self._streams:
                raise MonitorError(f"QEMU ended during {command}")
            if time.monotonic() > until:
                raise MonitorError(f"QEMU gave no answer to {command} for {timeout:g} s")
            self.pump()
        reply = self._replies.pop(number)
        if "error" in reply:
            raise MonitorError(f"QEMU refused {command}: {reply['error'].get('desc', '')}")
        return reply.get("return")

    def _hear(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            message = decode(line)
            if "id" in message:
                self._replies[message["id"]] = message
            elif "event" in message:
                self._event(message["event"], message.get("data", {}))

    def _event(self, name: str, data: dict[str, Any]) -> None:
        if name in ("STOP", "RESUME"):
            self.stopped = name == "STOP"
        elif name == "SHUTDOWN":
            self.shutdown = str(data.get("reason", ""))
        elif name == "BLOCK_IO_ERROR":
            self.out_of_space = self.out_of_space or bool(data.get("nospace"))

    # ------------------------------------------------------------ end

    def close(self) -> None:
        """End QEMU and leave nothing. Idempotent."""
        with signals_held():
            if self.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(_REAP)
            for stream in self._streams.values():
                stream.close()
            self._streams.clear()
            self._watched.clear()
            self.console.close()
            for end in (self.stub, self._stub):
                if end is not None:
                    end.close()
        self._forget_folder()


class MonitorError(InjectError):
    """QEMU's monitor refused or gave no answer."""


def _temporary() -> str:
    """Where disks are made: /var/tmp rather than /tmp, which may be memory."""
    return os.environ.get("TMPDIR") or ("/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir())


def _make_disks(tool: str, parts: Parts, folder: Path) -> tuple[qemu.Disk, ...]:
    """The overlay, the checkout and the scratch disks, new in ``folder``."""
    overlay = folder / "root.qcow2"
    _create(tool, overlay, "-b", str(parts.rootfs.resolve()), "-F", "raw")
    code = folder / "checkout.tar"
    checkout.pack(parts.checkout, code, parts.modules)
    scratch = [folder / f"scratch{number}.qcow2" for number in range(SCRATCH_DISKS)]
    _create(tool, scratch[0], str(SCRATCH_SIZE))
    for other in scratch[1:]:
        shutil.copyfile(scratch[0], other)
    disks = [qemu.Disk("inject-root", str(overlay), "qcow2")]
    disks.append(qemu.Disk(checkout.SERIAL, str(code), read_only=True))
    if parts.headers is not None:
        disks.append(qemu.Disk("inject-headers", str(parts.headers), read_only=True))
    disks += [qemu.Disk(f"inject-scratch{number}", str(path), "qcow2") for number, path in enumerate(scratch)]
    return tuple(disks)


def _create(tool: str, path: Path, *words: str) -> None:
    options = list(words) if not words[0].startswith("-") else []
    backing = list(words) if words[0].startswith("-") else []
    done = subprocess.run(
        [tool, "create", "-q", "-f", "qcow2", *backing, str(path), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise CannotRun(f"cannot create a disk for the guest: {done.stderr.strip()}")
