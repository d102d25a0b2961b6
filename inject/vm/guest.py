"""A guest's life: boot, requests, heartbeat, and the right word for its end."""

from __future__ import annotations

import contextlib
import enum
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional, Protocol

from inject.errors import CannotRun, GuestLost, InjectError
from inject.vm import accel
from inject.vm.carry import checkout
from inject.vm.carry import pycache as compiled
from inject.vm.channel import CHUNK, WINDOW, Lines, decode, encode, pack, unpack
from inject.vm.console import Console, new_file
from inject.vm.gdb import debugger
from inject.vm.machine import Machine, MonitorError, Parts

BOOT = {"test": 120.0, "debug": 300.0}
"""Seconds from QEMU's start to the agent's hello, by flavour; measured 3 and 20 on two free cores."""

COUNTED = 3
"""Times as long that a guest may take to boot when its instructions are counted."""

SILENCE = {"test": 30.0, "debug": 90.0}
"""Seconds without a sign of life after which a guest counts as hung, by flavour."""

BEAT = 2.0
"""Seconds between two heartbeats that the host asks for while it waits."""

LAST_WORDS = 5.0
"""Seconds that a panicked or hung guest gets to finish what it prints."""

REQUEST = 60.0
"""Seconds that the agent may take to write or read one piece of a file."""

_SHUTDOWN = {
    "guest-shutdown": "it was powered off from inside",
    "guest-reset": "it was reset without a panic, as by a triple fault",
}


_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL})


class Ending(enum.Enum):
    """The word for how a guest was lost."""

    NEVER_BOOTED = "never booted"
    PANICKED = "panicked"
    HUNG = "hung"
    ENDED = "ended"


class Lost(GuestLost):
    """The guest is gone.

    ``host_fault``: by what happened on this machine, not in the guest. ``qemu_crashed``:
    by QEMU's own fault (7.2 was seen to, with a general protection fault in its
    translator, at one boot in fifty on a loaded machine).
    """

    def __init__(
        self,
        ending: Ending,
        why: str,
        *,
        console: str,
        hint: str = "",
        host_fault: bool = False,
        qemu_crashed: bool = False,
    ) -> None:
        super().__init__(f"the guest {ending.value}: {why}", hint, console=console)
        self.ending = ending
        self.why = why
        self.host_fault = host_fault
        self.qemu_crashed = qemu_crashed


class CommandTimeout(InjectError):
    """A command in the guest did not end in time and was killed."""


class Artefacts(Protocol):
    """What a guest boots from; inject.vm.artifacts.Artifacts is one."""

    @property
    def bzimage(self) -> Path: ...
    @property
    def rootfs(self) -> Path: ...
    @property
    def vmlinux(self) -> Optional[Path]: ...
    @property
    def headers(self) -> Optional[Path]: ...
    @property
    def kernel_key(self) -> str: ...
    @property
    def image_key(self) -> str: ...


@dataclass(frozen=True)
class Options:
    """What the user may choose about a guest; ``memory`` in bytes, times in seconds.

    ``boot_timeout`` and ``silence`` None: by flavour (:data:`BOOT`, :data:`SILENCE`).
    ``timeout`` bounds one command of ``vm exec``; None: as long as it takes.
    ``modules`` holds compiled modules of earlier guests (compiled.py); boot() sets it.
    ``consoles`` is a folder where each guest's console becomes a file.
    ``icount`` N makes the guest's clock count instructions, 2**N ns each, under TCG.
    ``gdb``: a gdb may attach (debugger.py).
    """

    flavour: str = "test"
    kernel_image: Optional[Path] = None
    accel: str = "auto"
    cpus: int = 2
    memory: int = 2 << 30
    timeout: Optional[float] = None
    boot_timeout: Optional[float] = None
    silence: Optional[float] = None
    append: str = ""
    checkout: Path = field(default_factory=checkout.root)
    modules: Optional[Path] = None
    icount: Optional[int] = None
    consoles: Optional[Path] = None
    gdb: bool = False

    def boot_seconds(self) -> float:
        """How long a boot may take."""
        usual = BOOT.get(self.flavour, max(BOOT.values()))
        return self.boot_timeout or (usual if self.icount is None else COUNTED * usual)

    def silent_seconds(self) -> float:
        """How long a living guest may say nothing."""
        return self.silence or SILENCE.get(self.flavour, max(SILENCE.values()))


class Patience:
    """Counts waiting time towards ``limit`` seconds, in steps of at most one second.

    Time in which this process did not wait (it was stopped, the laptop slept, its
    output was blocked) is not held against the guest.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.spent = 0.0
        self._last = time.monotonic()

    def reset(self) -> None:
        """Start again."""
        self.spent = 0.0
        self._last = time.monotonic()

    def over(self) -> bool:
        """Count the time since the last call; whether the limit is reached."""
        now = time.monotonic()
        self.spent += min(1.0, now - self._last)
        self._last = now
        return self.spent >= self.limit


Output = Callable[[bytes], None]


@dataclass
class Command:
    """A command that runs, or ran, in the guest. ``status`` is None while it runs.

    ``status`` is its exit code, or 128 plus the signal that ended it. ``credit``
    is how many bytes of input the guest can take now.
    """

    id: int
    on_stdout: Optional[Output]
    on_stderr: Optional[Output]
    status: Optional[int] = None
    credit: int = WINDOW
    error: str = ""


class Guest:
    """One booted guest; a context manager that boots, and ends QEMU when left.

    Every wait in it is bounded by the heartbeat: Lost is raised, with the word and
    the console's tail, when the guest never boots, panics, hangs or ends.
    ``phases`` holds seconds from the start of QEMU: ``qemu`` (its monitor answered),
    ``kernel`` (first byte on the console), ``agent`` (hello), and ``init``, seconds
    of the guest's own clock.
    """

    def __init__(
        self,
        artefacts: Artefacts,
        options: Options,
        *,
        accelerator: str = "tcg",
        sign_of_life: Optional[float] = None,
        on_result: Optional[Callable[[bytes], None]] = None,
        say: Callable[[str], None] = lambda _: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.options = options
        self.on_result = on_result
        """Called with each whole line that is written to the results port."""
        self.phases: dict[str, float] = {}
        self.hello: dict[str, Any] = {}
        self._sign_of_life = sign_of_life
        self._agent = Lines()
        self._results = Lines()
        self._commands: dict[int, Command] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._last_id = 0
        self._started = time.monotonic()
        self._silence = Patience(options.silent_seconds())
        self._asked = 0
        self._later: list[Callable[[], None]] = []
        self._artefacts = artefacts
        self._accelerator = accelerator
        self._say = say
        self._tick = tick
        self.debugger: Optional[debugger.Debugger] = None
        self.machine = self._new_machine()

    def _new_machine(self) -> Machine:
        found, options = self._artefacts, self.options
        append = f"{options.append} {debugger.COMMAND_LINE}".strip() if options.gdb else options.append
        return Machine(
            Parts(found.bzimage, found.rootfs, found.headers, options.checkout, options.modules),
            accel=self._accelerator,
            cpus=options.cpus,
            memory=options.memory,
            append=append,
            icount=options.icount,
            gdb=options.gdb,
            on_agent=self._hear,
            on_result=self._collect,
            tick=self._tick,
            console=Console(file=new_file(options.consoles)) if options.consoles is not None else None,
        )

    def __enter__(self) -> Guest:
        try:
            self._begin()
        except Lost as lost:
            if not lost.qemu_crashed or self._accelerator != "tcg":
                raise
            self._say(f"{lost.message} (a fault of QEMU); trying once more")
            self.machine = self._new_machine()
            self._begin()
        return self

    def _begin(self) -> None:
        self._started = time.monotonic()
        self.phases.clear()
        self.machine.__enter__()
        try:
            self._phase("qemu")
            self._boot()
            self._debug()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self.debugger is not None:
            self.debugger.close()
        self.machine.close()

    # ------------------------------------------------------------ boot

    def _phase(self, name: str) -> None:
        self.phases.setdefault(name, round(time.monotonic() - self._started, 3))

    def _boot(self) -> None:
        patience = Patience(self.options.boot_seconds())
        life = Patience(self._sign_of_life) if self._sign_of_life else None
        while not self.hello:
            self.machine.pump()
            if self.machine.console.seen:
                self._phase("kernel")
            self._check_alive()
            if life and not self.machine.console.seen and life.over():
                raise self._lost(Ending.NEVER_BOOTED, f"no sign of life for {life.limit:g} s")
            if patience.over():
                self._provoke_last_words()
                raise self._lost(Ending.NEVER_BOOTED, f"its agent said nothing for {patience.limit:g} s")
        self._phase("agent")
        self.phases["init"] = float(self.hello.get("init", 0.0))
        self._alive()

    def _debug(self) -> None:
        if self.machine.stub is not None:
            vmlinux = self._artefacts.vmlinux
            self.debugger = debugger.Debugger(self.machine, self.machine.stub, vmlinux, self._say)
            self.debugger.start()

    # ------------------------------------------------------------ hearing

    def _alive(self) -> None:
        self._silence.reset()
        self._asked = 0

    def _hear(self, data: bytes) -> None:
        self._alive()
        for line in self._agent.feed(data):
            message = decode(line)
            kind, number = message.get("is"), int(message.get("id", 0))
            command = self._commands.get(number)
            if kind == "hello":
                self.hello = message
            elif kind == "pong":
                continue
            elif command is not None:
                self._of_command(command, str(kind), message)
            else:
                self._answers[number] = message

    def _of_command(self, command: Command, kind: str, message: Mapping[str, Any]) -> None:
        if kind == "out":
            take = command.on_stderr if message["stream"] == 2 else command.on_stdout
            if take is not None:
                take(unpack(message["data"]))
        elif kind == "taken":
            command.credit += message["bytes"]
        elif kind == "exit":
            command.status = message["code"] if "code" in message else 128 + message["signal"]
            del self._commands[command.id]
        elif kind == "error":
            command.error = message["message"]

    def _collect(self, data: bytes) -> None:
        self._alive()
        for line in self._results.feed(data):
            if self.debugger is not None:
                self.debugger.hear(line)
            if self.on_result is not None:
                self.on_result(line)

    def results_dropped(self) -> int:
        """How many lines on the results port were too long to be taken."""
        return self._results.dropped

    # ------------------------------------------------------------ heartbeat

    def later(self, action: Callable[[], None]) -> None:
        """Do ``action`` in the next :meth:`step`; for signal handlers, which may interrupt anything."""
        self._later.append(action)

    def step(self) -> None:
        """Wait a moment for anything to happen; raises Lost when the guest is gone.

        While a debugger holds the guest still no time counts.
        """
        self._pump()
        while self.held:
            self._pump()
            self._silence.reset()
        if self._silence.spent >= BEAT * (1 + self._asked):
            self._asked += 1
            self._send("ping", 0)
        if self._silence.over():
            self._provoke_last_words()
            raise self._lost(Ending.HUNG, f"no heartbeat for {self._silence.limit:g} s")
        if self._silence.spent > LAST_WORDS and self.machine.console.panic() is not None:
            raise self._lost(Ending.PANICKED, str(self.machine.console.panic()))

    @property
    def held(self) -> bool:
        """Whether the guest stands still because somebody debugs it."""
        return self.debugger is not None and self.debugger.holding

    def _pump(self) -> None:
        self.machine.pump()
        while self._later:
            self._later.pop(0)()
        self._check_alive()

    def _check_alive(self) -> None:
        machine = self.machine
        if machine.stopped and not self.held:
            self._explain_stop()
        if machine.running():
            return
        hint = "" if machine.drain() else "not all that it wrote could be read"
        panic, why, code = machine.console.panic(), self._why_qemu_ended(), machine.exit_code()
        ending = Ending.ENDED if self.hello else Ending.NEVER_BOOTED
        if panic is not None:
            ending = Ending.PANICKED if self.hello else Ending.NEVER_BOOTED
            raise self._lost(ending, panic or "it gave no reason", hint)
        raise self._lost(ending, why, hint, host_fault=code != 0, qemu_crashed=-code in _CRASHES)

    def _why_qemu_ended(self) -> str:
        code = self.machine.exit_code()
        said = "; ".join(self.machine.errors.tail(3).strip().split("\n"))
        if code < 0:
            return f"QEMU was ended by {_signal_name(-code)}{': ' + said if said else ''}"
        if code > 0:
            return f"QEMU ended with exit code {code}: {said or 'it gave no reason'}"
        return _SHUTDOWN.get(self.machine.shutdown, self.machine.shutdown or "QEMU ended")

    def _explain_stop(self) -> None:
        """QEMU itself holds the guest still: the host's disk is full, or KVM failed."""
        if self.machine.out_of_space:
            why, hint = "the host's disk is full", "free some space, or set TMPDIR to a larger place"
            raise self._lost(Ending.HUNG, why, hint, host_fault=True)
        with contextlib.suppress(MonitorError):
            status = self.machine.ask("query-status").get("status")
            if status in ("internal-error", "io-error", "guest-panicked"):
                ending = Ending.HUNG if self.hello else Ending.NEVER_BOOTED
                said = self.machine.errors.text().strip().split("\n")[0]
                why = f"QEMU stopped it ({status}{': ' + said if said else ''})"
                raise self._lost(ending, why, host_fault=True)

    def _provoke_last_words(self) -> None:
        """An NMI makes the guest's kernel panic with a stack: where it hung."""
        with contextlib.suppress(MonitorError):
            self.machine.ask("inject-nmi", timeout=LAST_WORDS)
            patience = Patience(LAST_WORDS)
            while self.machine.running() and not patience.over():
                self.machine.pump()
            self.machine.drain(LAST_WORDS if not self.machine.running() else 0.0)

    def _lost(self, ending: Ending, why: str, hint: str = "", **of_host: bool) -> Lost:
        return Lost(ending, why, hint=hint, console=self.console_tail(), **of_host)

    def console_tail(self, lines: int = 60) -> str:
        """The last lines that the guest printed."""
        return self.machine.console.tail(lines)

    # ------------------------------------------------------------ requests

    def _send(self, do: str, number: int, **rest: Any) -> None:
        self.machine.send(encode({"do": do, "id": number, **rest}))

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _request(self, do: str, **rest: Any) -> dict[str, Any]:
        number = self._new_id()
        self._send(do, number, **rest)
        patience = Patience(REQUEST)
        while number not in self._answers:
            self.step()
            if patience.over():
                raise InjectError(f"the guest did not {do} {rest.get('path', '')} within {REQUEST:g} s")
        answer = self._answers.pop(number)
        if answer["is"] == "error":
            raise InjectError(f"the guest could not {do} {rest.get('path', '')}: {answer['message']}")
        return answer

    def write_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file, making its folders; raises InjectError when the guest cannot."""
        self._request("write", path=path, data=pack(data[:CHUNK]), append=False, mode=mode)
        for start in range(CHUNK, len(data), CHUNK):
            self._request("write", path=path, data=pack(data[start : start + CHUNK]), append=True)

    def trigger(self, path: str, data: bytes) -> None:
        """Write to a file that is there, such as /proc/sysrq-trigger."""
        self._request("write", path=path, data=pack(data), append=True)

    def read_file(self, path: str, limit: int = 64 << 20) -> bytes:
        """A regular file's bytes; raises InjectError when it is missing or larger than ``limit``."""
        data = bytearray()
        while True:
            answer = self._request("read", path=path, offset=len(data))
            data += unpack(answer["data"])
            if len(data) > limit:
                raise InjectError(f"{path} in the guest is larger than {limit} bytes")
            if answer["eof"]:
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
        on_stdout: Optional[Output] = None,
        on_stderr: Optional[Output] = None,
    ) -> Command:
        """Start a command as root. ``tty`` (rows, columns): on a terminal, all output to ``on_stdout``."""
        if not argv:
            raise CannotRun("no command to run in the guest")
        command = Command(self._new_id(), on_stdout, on_stderr)
        self._commands[command.id] = command
        size = list(tty) if tty else None
        self._send("exec", command.id, argv=list(argv), env=dict(env or {}), cwd=cwd, stdin=stdin, tty=size)
        return command

    def feed(self, command: Command, data: bytes) -> None:
        """Input for ``command``; at most ``command.credit`` bytes."""
        if len(data) > command.credit:
            raise ValueError(f"{len(data)} bytes of input, room for {command.credit}")
        command.credit -= len(data)
        for start in range(0, len(data), CHUNK):
            self._send("stdin", command.id, data=pack(data[start : start + CHUNK]))

    def end_input(self, command: Command) -> None:
        """No more input for ``command``."""
        self._send("stdin", command.id, eof=True)

    def signal(self, command: Command, number: int) -> None:
        """Signal the command's process group."""
        self._send("signal", command.id, signal=int(number))

    def resize(self, command: Command, rows: int, columns: int) -> None:
        """Tell the command's terminal its new size."""
        self._send("resize", command.id, rows=rows, columns=columns)

    def wait(self, command: Command, timeout: Optional[float] = None, stdin: bytes = b"") -> int:
        """The command's status, having passed on ``stdin``.

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
                self.step()
            if command.error:
                raise InjectError(f"the guest could not run the command: {command.error}")
            if patience and patience.over():
                self._kill(command)
                raise CommandTimeout(f"the command did not end within {patience.limit:g} s")
        return command.status

    def _kill(self, command: Command) -> None:
        self.signal(command, signal.SIGKILL)
        patience = Patience(LAST_WORDS)
        while command.status is None and not patience.over():
            self.step()

    def exec(
        self,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
        stdin: bytes = b"",
        on_stdout: Optional[Output] = None,
        on_stderr: Optional[Output] = None,
        timeout: Optional[float] = None,
    ) -> int:
        """Run a command to its end and return its status (128 plus the signal that ended it)."""
        command = self.start(argv, env=env, cwd=cwd, stdin=bool(stdin), on_stdout=on_stdout, on_stderr=on_stderr)
        return self.wait(command, timeout, stdin)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def boot(
    artefacts: Artefacts,
    options: Options,
    *,
    cache: Path,
    on_result: Optional[Callable[[bytes], None]] = None,
    say: Callable[[str], None] = lambda _: None,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[Guest]:
    """A booted guest on the best accelerator that runs it; ends QEMU on leaving.

    With ``accel="auto"`` KVM is tried first; when the guest gives no sign of life
    there, that is said; when it then boots on TCG, it is remembered under ``cache``.
    ``tick`` is called before every wait, in which it may raise what ends it all.
    Raises Lost when no accelerator boots it, CannotRun when QEMU is missing.
    """
    options = replace(options, modules=compiled.folder(cache, artefacts.image_key))
    memory = accel.memory_file(cache, artefacts.kernel_key)
    names = accel.candidates(options.accel, memory) if options.icount is None else [_counted(options)]
    if options.gdb and options.accel == "auto":
        names = ["tcg"]  # where the clock stands still with the guest, and breakpoints cost it nothing
    with contextlib.ExitStack() as stack:
        if len(names) > 1:
            try:
                guest = _try_kvm(artefacts, options, on_result, tick)
            except Lost as lost:
                say(f"KVM does not run this kernel here ({lost.why}); using TCG")
                guest = stack.enter_context(Guest(artefacts, options, on_result=on_result, say=say, tick=tick))
                accel.remember_bad(memory, lost.why)
            else:
                stack.push(guest)
        else:
            one = Guest(artefacts, options, accelerator=names[0], on_result=on_result, say=say, tick=tick)
            guest = stack.enter_context(one)
        yield guest


def _counted(options: Options) -> str:
    """The accelerator that counts instructions; raises CannotRun when another one is forced."""
    if options.accel == "kvm":
        raise CannotRun("KVM does not count instructions", "leave --accel kvm out")
    return "tcg"


def _try_kvm(
    artefacts: Artefacts,
    options: Options,
    on_result: Optional[Callable[[bytes], None]],
    tick: Callable[[], None],
) -> Guest:
    """A guest that booted under KVM within seconds; raises Lost otherwise."""
    bound = Options(**{**vars(options), "boot_timeout": min(accel.FIRST_HEARTBEAT, options.boot_seconds())})
    guest = Guest(artefacts, bound, accelerator="kvm", sign_of_life=accel.SIGN_OF_LIFE, on_result=on_result, tick=tick)
    return guest.__enter__()
