"""A QEMU guest: its streams, its heartbeat and its end."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from inject.fleet.host import Ending, Patience
from inject.model.event import Armed
from inject.report.jsonl import NotAnEvent, read_line
from inject.vm.answers import BadMessage
from inject.vm.build.artifacts import Artifacts
from inject.vm.carry import checkout
from inject.vm.channel import Lines
from inject.vm.console import Console, new_file
from inject.vm.disks import Kept, Parts
from inject.vm.ending import LAST_WORDS, Examiner
from inject.vm.gdb import debugger
from inject.vm.gdb.symbols import Symbols
from inject.vm.machine import Machine, Setup
from inject.vm.requests import Requests

BOOT = {"test": 120.0, "plants": 120.0, "coverage": 120.0, "stock": 120.0, "debug": 300.0}
"""Seconds from QEMU's start to the agent's hello, by flavour; measured 3, 3, 3, 6 and 20 on two free cores."""

COUNTED = 3
"""Factor on the boot time of a guest whose instructions are counted."""

SILENCE = {"test": 30.0, "plants": 30.0, "coverage": 30.0, "stock": 30.0, "debug": 90.0}
"""Seconds without a sign of life after which a guest counts as hung, by flavour."""

BEAT = 2.0
"""Seconds between two heartbeats that the host asks for while it waits."""


@dataclass(frozen=True)
class GuestOptions:
    """Choices of the user about a guest; ``memory`` in bytes, times in seconds.

    ``boot_timeout`` and ``silence`` None: by flavour (:data:`BOOT`, :data:`SILENCE`).
    ``timeout`` bounds one command of ``vm exec``; None: no bound.
    ``modules`` holds compiled modules of earlier guests (carry/pycache.py); boot() sets it.
    ``consoles`` is a directory in which each guest's console becomes a file.
    ``icount`` N makes the guest's clock count instructions, 2**N ns each, under TCG.
    ``gdb``: a gdb may attach (gdb/debugger.py). ``fresh``: do not continue from a saved guest (template.py).
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
    fresh: bool = False

    @property
    def _sort(self) -> str:
        """The flavour without a version: ``stock`` for ``stock:6.1``."""
        return self.flavour.partition(":")[0]

    def boot_seconds(self) -> float:
        """Seconds that a boot may take."""
        usual = BOOT.get(self._sort, max(BOOT.values()))
        return self.boot_timeout or (usual if self.icount is None else COUNTED * usual)

    def silent_seconds(self) -> float:
        """Seconds that a guest may give no sign of life."""
        return self.silence or SILENCE.get(self._sort, max(SILENCE.values()))


class Guest:
    """One guest. boot.py starts it; :meth:`close` ends QEMU.

    Every wait in it is bounded by the heartbeat: Lost is raised, with the word and
    the console's tail, when the guest never boots, panics, hangs or ends.
    ``kept``: it is to be saved, or continues from one that was and is not ``is_new`` then (template.py).
    ``on_result`` is called with each whole line that is written to the results port.
    ``phases`` holds seconds from the start of QEMU: ``qemu`` (its monitor answered),
    ``kernel`` (first byte on the console), ``agent`` (hello), and ``init``, seconds
    of the guest's own clock.
    """

    def __init__(
        self,
        artifacts: Artifacts,
        options: GuestOptions,
        *,
        accelerator: str = "tcg",
        on_result: Optional[Callable[[bytes], None]] = None,
        tick: Callable[[], None] = lambda: None,
        kept: Optional[Kept] = None,
    ) -> None:
        self.options = options
        self.is_new = kept is None or kept.saving
        self.on_result = on_result
        self.phases: dict[str, float] = {}
        self.debugger: Optional[debugger.Debugger] = None
        self._results = Lines()
        self._silence = Patience(options.silent_seconds())
        self._asked = 0
        self._later: list[Callable[[], None]] = []
        append = f"{options.append} {debugger.COMMAND_LINE}".strip() if options.gdb else options.append
        parts = Parts(
            artifacts.bzimage,
            artifacts.rootfs,
            artifacts.headers,
            options.checkout,
            options.modules,
            artifacts.initramfs,
            artifacts.override,
            kept,
        )
        setup = Setup(parts, accelerator, options.cpus, options.memory, append, options.icount, options.gdb)
        console = Console(file=new_file(options.consoles)) if options.consoles is not None else None
        self.machine = Machine(setup, on_agent=self._hear, on_result=self._collect, tick=tick, console=console)
        self.requests = Requests(self.machine.send, self.step)
        self.examiner = Examiner(self.machine)
        vmlinux = artifacts.vmlinux
        if vmlinux is not None:
            self.examiner.symbols = lambda: Symbols.beside(vmlinux)

    def close(self) -> None:
        """End QEMU."""
        if self.debugger is not None:
            self.debugger.close()
        self.machine.close()

    def alive(self) -> None:
        """Note a sign of life."""
        self._silence.reset()
        self._asked = 0

    def _hear(self, data: bytes) -> None:
        self.alive()
        try:
            self.requests.hear(data)
        except BadMessage as error:
            self.examiner.distrust(f"its agent wrote {error}")

    def _collect(self, data: bytes) -> None:
        self.alive()
        for line in self._results.feed(data):
            self._note_trial(line)
            if self.debugger is not None:
                self.debugger.hear(line)
            if self.on_result is not None:
                self.on_result(line)

    def _note_trial(self, line: bytes) -> None:
        """Note where the guest has the counters and injections of the trial that it arms."""
        if line.startswith(b'{"type":"armed"'):
            with contextlib.suppress(NotAnEvent):
                event = read_line(line)
                self.examiner.memory = event.memory if isinstance(event, Armed) else None
        elif line.startswith(b'{"type":"verdict"'):
            self.examiner.memory = None

    def results_dropped(self) -> int:
        """Number of lines on the results port that were too long to be taken."""
        return self._results.dropped

    def console_tail(self, lines: int = 60) -> str:
        """The last lines that the guest printed."""
        return self.machine.console.tail(lines)

    # ------------------------------------------------------------ heartbeat

    def later(self, action: Callable[[], None]) -> None:
        """Do ``action`` in the next :meth:`step`; for signal handlers, which may interrupt anything."""
        self._later.append(action)

    def step(self) -> None:
        """Wait a moment for anything to happen; raises Lost when the guest is gone.

        No time counts while a debugger holds the guest.
        """
        self._pump()
        while self.held:
            self._pump()
            self._silence.reset()
        if self._silence.spent >= BEAT * (1 + self._asked):
            self._asked += 1
            self.requests.ping()
        if self._silence.over():
            self.examiner.provoke_last_words()
            raise self.examiner.lost(Ending.HUNG, f"no heartbeat for {self._silence.limit:g} s")
        if self._silence.spent > LAST_WORDS:
            self.examiner.check_panic()

    @property
    def held(self) -> bool:
        """True while a debugger holds the guest."""
        return self.debugger is not None and self.debugger.holding

    def _pump(self) -> None:
        self.machine.pump()
        while self._later:
            self._later.pop(0)()
        self.examiner.check(held=self.held)
