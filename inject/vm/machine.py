"""A running QEMU: its start, its streams and its end.

One thread pumps everything of a machine. Nothing of a machine has a name that outlives it:
the streams are socket pairs, and its disks never have a name, so that even SIGKILL of
this process leaves no file. QEMU itself is
killed by the kernel when the thread that started it ends (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import Callable, Optional

from inject.process.signals import ENDING, signals_held
from inject.vm import qemu
from inject.vm.channel import AGENT_PORT, RESULTS_PORT
from inject.vm.console import Console
from inject.vm.disks import Disks, Parts, path_of, unnamed_file
from inject.vm.monitor import ANSWER, Monitor, MonitorError
from inject.vm.streams import Pipe, Stream

SLICE = 0.2
"""Seconds that one :meth:`Machine.pump` may wait; a signal may go unnoticed for as long."""

_SPAWN = 30.0
_REAP = 10.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Setup:
    """The parts of a machine, before it has disks.

    ``memory`` in bytes; ``append`` follows the kernel command line of every guest;
    ``icount`` N makes its clock count instructions, 2**N ns each. With ``gdb`` QEMU
    has a gdb stub.
    """

    parts: Parts
    accel: str
    cpus: int
    memory: int
    append: str = ""
    icount: Optional[int] = None
    gdb: bool = False


class Machine:
    """One QEMU process. Use as a context manager; leaving it ends QEMU at once.

    ``on_agent`` and ``on_result`` are called from :meth:`pump` with what the guest
    writes to its two ports, ``tick`` before each wait; it may raise to end the wait.
    ``stub`` is inject's end of QEMU's gdb stub, if there is one.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        on_agent: Callable[[bytes], None],
        on_result: Callable[[bytes], None],
        tick: Callable[[], None] = lambda: None,
        console: Optional[Console] = None,
    ) -> None:
        self.setup = setup
        self._tick = tick
        self.console = console or Console()
        self.errors = Console(16 << 10)
        self.monitor = Monitor(self._to_monitor, self.pump, self._has_monitor)
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.stub: Optional[socket.socket] = None
        self._stub: Optional[socket.socket] = None
        if setup.gdb:
            self.stub, self._stub = socket.socketpair()
        self._disks: Optional[Disks] = None
        self._saved = -1
        """A file without a name for memory of the guest."""
        self._watched: dict[int, tuple[Callable[[], None], Callable[[], bool]]] = {}
        self._streams = {
            "console": Pipe("console", self.console.feed),
            "monitor": Stream("monitor", self.monitor.hear),
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
            self._close_disks()
        except BaseException:
            self.close()
            raise

    def _spawn(self) -> None:
        binary = qemu.find(qemu.BINARY)
        tool = qemu.find(qemu.IMAGE_TOOL)
        with signals_held() as before:
            self._disks = Disks(tool, self.setup.parts)
            self._saved = unnamed_file()
            hardware = self._hardware(binary, self._disks.all)
            parent = os.getpid()

            def in_child() -> None:
                signal.pthread_sigmask(signal.SIG_SETMASK, before - ENDING)
                _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(1)

            errors = self._streams["errors"].theirs
            self.process = subprocess.Popen(
                qemu.argv(hardware, binary),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(*hardware.fds(), *self._disks.fds, self._saved),
                start_new_session=True,
                preexec_fn=in_child,
            )
        for stream in self._streams.values():
            stream.close_theirs()
        if self._stub is not None:
            self._stub.close()

    def _hardware(self, binary: str, disks: tuple[qemu.Disk, ...]) -> qemu.Hardware:
        setup, kept = self.setup, self.setup.parts.kept
        theirs = {name: stream.theirs for name, stream in self._streams.items()}
        return qemu.Hardware(
            kernel=str(setup.parts.kernel),
            accel=setup.accel,
            cpus=setup.cpus,
            memory=setup.memory,
            disks=disks,
            console=theirs["console"],
            monitor=theirs["monitor"],
            ports=(qemu.Port(AGENT_PORT, theirs["agent"]), qemu.Port(RESULTS_PORT, theirs["results"])),
            append=setup.append,
            turns=qemu.takes_turns(binary),
            icount=setup.icount,
            gdb=self._stub.fileno() if self._stub is not None else None,
            initramfs=str(setup.parts.initramfs) if setup.parts.initramfs is not None else None,
            memory_file=str(kept.memory) if kept is not None else None,
            shares_memory=kept is not None and kept.saving,
            incoming=kept is not None and not kept.saving,
        )

    def _wait_for_monitor(self) -> None:
        """Wait until QEMU answers: then it has opened its disks. The caller finds an early end."""
        with contextlib.suppress(MonitorError):
            self.monitor.ask("qmp_capabilities", timeout=_SPAWN)

    def _close_disks(self) -> None:
        with signals_held():
            if self._disks is not None:
                self._disks.close()
                self._disks = None

    # ------------------------------------------------------------ life

    def running(self) -> bool:
        """True while QEMU has not ended."""
        return self.process is not None and self.process.poll() is None

    def exit_code(self) -> int:
        """QEMU's exit code, negative for a signal; 0 while it runs."""
        return (self.process.poll() or 0) if self.process is not None else 0

    def pump(self, timeout: float = SLICE) -> None:
        """Move what can be moved between all streams, waiting at most ``timeout`` seconds for the first."""
        self._tick()
        poller = select.poll()
        streams = {stream.own: stream for stream in self._streams.values()}
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
            poller.register(self._streams[name].own, select.POLLIN)
            found = poller.poll(0)
            if not found:
                return
            self._move(self._streams[name], found[0][1])

    def drain(self, timeout: float = 5.0) -> bool:
        """Take what an ended QEMU has still written; False if that takes over ``timeout`` seconds."""
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

    def _to_monitor(self, data: bytes) -> None:
        self._streams["monitor"].send(data)

    def _has_monitor(self) -> bool:
        return self.running() and "monitor" in self._streams

    def send(self, data: bytes) -> None:
        """Write to the agent's port; what an ended QEMU cannot take is dropped."""
        if "agent" in self._streams:
            self._streams["agent"].send(data)

    def memory(self, address: int, size: int) -> bytes:
        """Bytes at a kernel address of the guest, dead or alive; raises MonitorError if QEMU does not say.

        A processor that runs user space may have page tables without the kernel's memory (page
        table isolation), so each is asked in turn.
        """
        signed = address - (1 << 64) if address >> 63 else address
        until = time.monotonic() + ANSWER
        for cpu in range(self.setup.cpus):
            try:
                self.monitor.ask("memsave", val=signed, size=size, filename=path_of(self._saved), **{"cpu-index": cpu})
                break
            except MonitorError:
                if cpu == self.setup.cpus - 1 or not self._has_monitor() or time.monotonic() > until:
                    raise
        return os.pread(self._saved, size, 0)

    # ------------------------------------------------------------ end

    def quit(self) -> None:
        """Have a QEMU end whose guest has ended; what it wrote is left to :meth:`drain`."""
        with contextlib.suppress(MonitorError):
            self.monitor.ask("quit", timeout=_REAP)
        until = time.monotonic() + _REAP
        while self.running() and time.monotonic() < until:
            self.pump()
        if self.process is not None and self.running():
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_REAP)

    def close(self) -> None:
        """End QEMU and leave nothing; may be called again."""
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
            if self._saved >= 0:
                os.close(self._saved)
                self._saved = -1
            for end in (self.stub, self._stub):
                if end is not None:
                    end.close()
        self._close_disks()
