"""`inject vm run`: many scenarios, as few guests as possible, a verdict for each whatever dies.

The guest journals what it does on its own port. When it is lost, the scenario
that was under way is given the verdict here, and a new guest runs the rest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional

from inject.errors import InjectError
from inject.judge import settle
from inject.model import Reason, Scenario, Status, Verdict
from inject.report.jsonl import end_event
from inject.vm import checkout, warm
from inject.vm.channel import RESULTS_PORT, decode
from inject.vm.console import Console
from inject.vm.guest import Artefacts, Ending, Guest, Lost, Options, Patience, boot
from inject.vm.terminal import ended_by_signals

Event = dict[str, Any]

IN_GUEST = "sudo inject run"
FROM_HOST = "inject vm run"
"""How a verdict's ``reproduce`` begins there, and what it has to be here."""

SLACK = 600.0
"""Seconds that making, checking and removing filesystems may take in all, apart from the scripts."""

SCRIPT = 120.0
"""Seconds that the guest allows each script of a scenario, or its timeout if longer (runner.SCRIPT_TIMEOUT)."""

TRAILING = 2.0
"""Seconds of silence on the results port after which an exited `inject run` has said all it had to say."""

BLOCKED = 3.0
"""Seconds for the kernel to print the stacks of blocked tasks."""

LOG_LINES = 80


@dataclass(frozen=True)
class Request:
    """What to run: ``paths`` as the user gave them, and the scenarios found there, each name once.

    ``arguments`` are passed on to `inject run` in the guest. ``cwd`` is what
    relative paths are relative to, here and in the guest.
    """

    paths: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    seed: Optional[int] = None
    arguments: tuple[str, ...] = ()
    cwd: Path = field(default_factory=Path.cwd)


@dataclass
class _Progress:
    """Where the run in one guest stands."""

    pending: list[Scenario]
    on_event: Callable[[Event], None]
    verdicts: list[Verdict] = field(default_factory=list)
    current: Optional[str] = None
    armed: bool = False
    first: bool = True
    settled: int = 0
    """Verdicts that this guest gave or was given."""
    ended: bool = False
    unusable: str = ""
    bad_lines: int = 0
    moved: Patience = field(default_factory=lambda: Patience(SLACK))

    def begin_guest(self) -> None:
        """Forget what concerns the guest before."""
        self.current, self.armed, self.ended, self.unusable, self.settled = None, False, False, "", 0

    def take(self, line: bytes) -> None:
        """One line of the results port: keep count, pass it on."""
        self.moved.reset()
        try:
            event = decode(line)
            kind = event.get("type")
            if kind == "verdict":
                self._settle(event)
                return
        except (ValueError, KeyError, TypeError):
            self.bad_lines += 1
            return
        if kind == "end":
            self.ended = True
            return
        if kind == "run":
            first, self.first = self.first, False
            if not first:
                return
        if kind in ("start", "armed"):
            self.current = str(event.get("scenario"))
            self.armed = kind == "armed"
        self.on_event(event)

    def _settle(self, event: Event) -> None:
        verdict = Verdict.from_json(event)
        if verdict.reproduce.startswith(IN_GUEST):
            verdict = replace(verdict, reproduce=FROM_HOST + verdict.reproduce[len(IN_GUEST) :])
        self.unusable = self.unusable or verdict.unusable
        self.settle(verdict, {**event, "reproduce": verdict.reproduce})

    def settle(self, verdict: Verdict, event: Optional[Event] = None) -> None:
        """A scenario has its verdict."""
        self.pending[:] = [s for s in self.pending if s.name != verdict.scenario]
        self.current, self.armed = None, False
        self.settled += 1
        self.verdicts.append(verdict)
        self.on_event(event or verdict.to_json())

    def under_way(self) -> Scenario:
        """The scenario that the guest is at, or would have begun next."""
        return next((s for s in self.pending if s.name == self.current), self.pending[0])

    def bound(self) -> float:
        """Seconds until the next event must have come."""
        return max(3 * max(SCRIPT, scenario.timeout) for scenario in self.pending) + SLACK


def run_batch(
    request: Request,
    artefacts: Artefacts,
    options: Options,
    *,
    cache: Path,
    on_event: Callable[[Event], None],
    on_output: Callable[[bytes], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Verdict]:
    """A verdict for each scenario, in the order given.

    ``on_event`` gets the events of product.md as they happen, as if one guest had
    run it all: one ``run``, one ``end``. ``on_output`` gets what `inject run`
    prints in the guest, ``say`` one line for each thing worth knowing. Raises Lost
    when not even one guest boots, KeyboardInterrupt for SIGINT, SIGTERM, SIGHUP.
    """
    progress = _Progress([], on_event)
    batch = _Batch(request, artefacts, cache, progress, on_output, say)
    with ended_by_signals():
        for group in _groups(request.scenarios, options):
            progress.pending = list(group.scenarios)
            for _ in group.scenarios:  # each guest settles at least one
                if progress.pending:
                    batch.one_guest(group.options)
    order = {scenario.name: number for number, scenario in enumerate(request.scenarios)}
    verdicts = sorted(progress.verdicts, key=lambda verdict: order.get(verdict.scenario, len(order)))
    on_event(end_event(verdicts))
    return verdicts


@dataclass(frozen=True)
class _Group:
    options: Options
    scenarios: tuple[Scenario, ...]


def _groups(scenarios: Sequence[Scenario], options: Options) -> list[_Group]:
    """Scenarios with the same wishes share a guest; groups in order of their first scenario."""
    groups: dict[Options, list[Scenario]] = {}
    for scenario in scenarios:
        wishes = scenario.vm
        own = replace(options, cpus=wishes.cpus or options.cpus, memory=wishes.memory or options.memory)
        groups.setdefault(own, []).append(scenario)
    return [_Group(own, tuple(members)) for own, members in groups.items()]


@dataclass(frozen=True)
class _Batch:
    """What all guests of one call share."""

    request: Request
    artefacts: Artefacts
    cache: Path
    progress: _Progress
    on_output: Callable[[bytes], None]
    say: Callable[[str], None]

    def one_guest(self, options: Options) -> None:
        """Boot a guest and run in it what is pending; settles at least one scenario, or raises.

        What is left pending afterwards needs another guest.
        """
        progress = self.progress
        progress.begin_guest()
        output = Console(64 << 10)
        booted = False
        try:
            with boot(self.artefacts, options, cache=self.cache, on_result=progress.take, say=self.say) as guest:
                booted = True
                status = self._run(guest, output)
        except Lost as lost:
            if not booted and not progress.verdicts:
                raise
            _blame(self.request, progress, lost, booted, self.say)
            return
        left = len(progress.pending)
        if progress.settled and left and (status is None or progress.unusable):
            self.say(
                f"the guest is unfit for more ({progress.unusable or 'stuck'}); a new one runs the remaining {left}"
            )
        elif status is not None:
            _settle_unreported(progress, status, output)

    def _run(self, guest: Guest, output: Console) -> Optional[int]:
        """`inject run` in ``guest``; its status, or None when the unfinished scenario was settled as a hang."""
        progress = self.progress
        kept = warm.folder(self.cache, self.artefacts.kernel_key)
        _ship(guest, self.request, progress.pending)
        warm.push(guest, kept)

        def take_output(data: bytes) -> None:
            output.feed(data)
            self.on_output(data)

        command = guest.start(
            guest_argv(self.request, progress.pending),
            env={"PYTHONPATH": checkout.HOME},
            cwd=str(self.request.cwd),
            on_stdout=take_output,
            on_stderr=take_output,
        )
        progress.moved = Patience(progress.bound())
        while command.status is None:
            guest.step()
            if command.error:
                raise InjectError(f"the guest could not start inject: {command.error}")
            if progress.moved.over():
                _stuck(guest, self.request, progress)
                return None
        progress.moved = Patience(TRAILING)
        while not progress.ended and not progress.moved.over():
            guest.step()
        warm.pull(guest, kept)
        return command.status


def guest_argv(request: Request, pending: Sequence[Scenario]) -> list[str]:
    """The command that runs ``pending`` in the guest."""
    words = ["python3", "-m", "inject", "run", "--json", f"/dev/virtio-ports/{RESULTS_PORT}", "--stop-when-unusable"]
    if request.seed is not None:
        words += ["--seed", str(request.seed)]
    words += request.arguments
    for scenario in pending:
        words += ["--only", scenario.name]
    return [*words, "--", *request.paths]


def _ship(guest: Guest, request: Request, scenarios: Sequence[Scenario]) -> None:
    """Give the guest the same files under the same paths, so that every message names the user's path.

    The checkout is there already; a link makes it appear where the user has it.
    """
    home = guest.options.checkout.resolve()
    linked = guest.exec(["sh", "-c", _LINK, "sh", str(home), checkout.HOME, str(request.cwd)], timeout=60) == 0
    shipped = set(checkout.files(home)) if linked else set()
    for file in dict.fromkeys(scenario.file for scenario in scenarios):
        path = Path(os.path.normpath(request.cwd / file))
        if path.is_relative_to(home) and path.relative_to(home) in shipped:
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InjectError(f"cannot read {file}: {error.strerror}") from None
        guest.write_file(str(path), data)


_LINK = """
[ -e "$1" ] || { mkdir -p "${1%/*}/" && ln -s "$2" "$1"; }
linked=$?
mkdir -p "$3"
[ "$linked" = 0 ] && [ "$1" -ef "$2" ]
"""


# ---------------------------------------------------------------- verdicts that the guest could not give


def _stuck(guest: Guest, request: Request, progress: _Progress) -> None:
    """The guest lives but nothing moves: the unfinished scenario hangs."""
    guest.trigger("/proc/sysrq-trigger", b"w")
    shown = Patience(BLOCKED)
    while not shown.over():
        guest.step()
    why = f"nothing happened for {progress.moved.limit:g} s"
    lost = Lost(Ending.HUNG, why, console=guest.console_tail(LOG_LINES))
    progress.settle(_verdict(request, progress, lost))


def _blame(request: Request, progress: _Progress, lost: Lost, booted: bool, say: Callable[[str], None]) -> None:
    """The scenario under way gets the verdict; without a guest at all, every one that is left."""
    if not progress.pending:
        return
    if booted:
        progress.settle(_verdict(request, progress, lost))
        if progress.pending:
            say(f"{lost.message}; a new guest runs the remaining {len(progress.pending)}")
        return
    for _ in range(len(progress.pending)):
        progress.settle(_verdict(request, progress, lost))


def _verdict(request: Request, progress: _Progress, lost: Lost) -> Verdict:
    scenario = progress.under_way()
    log = _own_part(lost.console, scenario.name)[-LOG_LINES:]
    words = [FROM_HOST, scenario.file, "--only", scenario.name]
    if request.seed is not None:
        words += ["--seed", str(request.seed)]
    command = " ".join(words)
    if not progress.armed or lost.host_fault:
        when = "while" if progress.armed else "before"
        detail = f"{lost.message} ({when} the scenario was armed)"
        return Verdict(scenario.name, Status.ERROR, None, detail, reproduce=command, log=log)
    reason = Reason.HANG if lost.ending is Ending.HUNG else Reason.CRASH
    detail = f"with {_points(scenario)} armed, {lost.message}"
    return settle(scenario, Verdict(scenario.name, Status.FAIL, reason, detail, reproduce=command, log=log))


def _own_part(console: str, name: str) -> tuple[str, ...]:
    """What the console shows from the scenario's own marker in the kernel log on; all of it without one."""
    lines = console.split("\n") if console else []
    begun = [number for number, line in enumerate(lines) if f"inject: begin {name} " in line]
    return tuple(lines[begun[-1] :] if begun else lines)


def _points(scenario: Scenario) -> str:
    """The fault points of a scenario: ``__filemap_add_folio = -ENOMEM``."""
    return ", ".join(f"{fault.function} = {fault.returns}" for fault in scenario.faults)


def _settle_unreported(progress: _Progress, status: int, output: Console) -> None:
    """`inject run` ended and yet said nothing about some scenarios: our fault, not the kernel's."""
    log = tuple(output.tail(LOG_LINES).split("\n"))
    said = next((line for line in reversed(log) if line.strip()), "it printed nothing")
    for scenario in list(progress.pending):
        detail = f"inject run in the guest ended with exit code {status} without a verdict: {said}"
        progress.settle(Verdict(scenario.name, Status.ERROR, None, detail, log=log))
