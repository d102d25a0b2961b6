"""`inject watch`: faults on a live table, armed and changed by keys while things run."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional, Protocol

import click

from inject import scenario as scenarios
from inject.cli import completion
from inject.cli.watch import board
from inject.cli.watch.screen import Screen, usable
from inject.engine.planner import Planner
from inject.engine.session import Session, State, for_any_task
from inject.errors import ExitStatus, InjectError
from inject.fixture.device_numbers import device_numbers
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import Injection
from inject.model.point import ErrorType
from inject.model.scenario import Fault, Probe
from inject.model.text import printable
from inject.process import adopted
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.process.workload import Outcome, Workload
from inject.report import progress as console
from inject.report.paint import wanted
from inject.scenario import shorthand
from inject.scenario.writer import fault_keys, to_yaml
from inject.trial.preflight import require_injection, resolve
from inject.trial.services import engine_maker

LONGEST = 86_400.0
"""Seconds that one sitting lasts at most."""

LOOK = 0.25
"""Seconds between two looks at the counters."""

MOST_TYPED = 200
SUFFIXES = (".yaml", ".yml")
DEFAULTS = {ErrorType.ERRNO: "-ENOMEM", ErrorType.ERRNO_NULL: "-ENOMEM", ErrorType.NULL: "NULL", ErrorType.TRUE: "true"}
"""What a function returns where nothing else is said."""


class Subject(Protocol):
    """Whose calls are watched."""

    noun: str
    group: tuple[int, int]
    """Id and depth of its control group."""

    def begin(self) -> None:
        """Let it go."""

    def ended(self) -> str:
        """How it ended, in words; "" while it lives."""

    def said(self) -> str:
        """The last line that it printed, as far as that is ours to see."""


class AfterDashes(click.Command):
    """A command whose words after ``--`` are another command, kept apart as ``command``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before ``--``."""
        end = args.index("--") if "--" in args else len(args)
        ours, ctx.params["command"] = args[:end], tuple(args[end + 1 :])
        return super().parse_args(ctx, ours)


@click.command(cls=AfterDashes)
@click.argument(
    "what", nargs=-1, metavar="FUNC[=VALUE]...|FILE [-- CMD...]", shell_complete=completion.functions_or_files
)
@click.option("-p", "--pid", type=click.IntRange(1), metavar="PID", help="A process that runs already, not CMD.")
@click.option("--cgroup", type=click.Path(path_type=Path), metavar="PATH", help="A control group, not CMD.")
@click.option("--any", "any_task", is_flag=True, help="Every task of this machine, not CMD.")
@click.option("--allow-any", is_flag=True, help="Let --any fail other tasks outside a virtual machine.")
@click.option("--arm", is_flag=True, help="Begin armed; otherwise everything is off and only counted.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=1.0, help="Seconds between lines; no terminal.")
@click.option(
    "--timeout", type=click.FloatRange(0, LONGEST, min_open=True), default=LONGEST, help="Seconds, then quit."
)
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), help="Repeat random decisions.")
@click.option("--probe", type=click.Choice([p.value for p in Probe]), default="auto", help="How to attach.")
def watch(
    what: tuple[str, ...],
    command: tuple[str, ...],
    pid: Optional[int],
    cgroup: Optional[Path],
    any_task: bool,
    allow_any: bool,
    arm: bool,
    interval: float,
    timeout: float,
    seed: Optional[int],
    probe: str,
) -> int:
    """Count calls of functions on a live table; arm, disarm and change faults by keys.

    Everything begins off: calls are counted, none is failed, until a key (or
    --arm) says so. However it ends, nothing stays armed. On something that is
    no terminal it prints plain lines.

    \b
    Keys: a arm, d disarm, f fire once, t change the trigger, A arm all, D disarm
    all, m mark the kernel log, s save as a scenario, arrows or j k choose, q quit.

    \b
    Examples:
      sudo inject watch __filemap_add_folio bch2_folio_set=-ENOMEM -- fio job.fio
      sudo inject watch scenario.yaml --pid 1234
      sudo inject watch should_fail_bio=-EIO --any --allow-any
    """
    if not what:
        raise shorthand.BadSyntax("nothing to watch", "name functions of `inject list`, or a scenario's file")
    _one_subject(command, pid, cgroup, any_task)
    kernel = Kernel()
    require_injection(kernel)
    faults = _faults(what, kernel)
    if any_task:
        faults = for_any_task(faults)
    if any(fault.scope.value == "any" for fault in faults) and not (allow_any or kernel.is_guest()):
        raise InjectError("this fails calls of every task of this machine", "do it in a guest, or say --allow-any")
    types = Types(kernel)
    resolve(kernel, types, faults)
    summary: list[str] = []
    try:
        with contextlib.ExitStack() as stack:
            janitor = stack.enter_context(Janitor())
            engine = stack.enter_context(engine_maker(kernel))()
            number = secrets.randbits(32) if seed is None else seed
            planner = Planner(kernel, types, number, device_numbers(None, faults))
            subject = stack.enter_context(_subject(command, pid, cgroup, janitor))
            session = stack.enter_context(Session(engine, planner, faults, Probe(probe)))
            session.start(*subject.group)
            if arm:
                session.arm_all()
            try:
                if usable():
                    Live(session, subject, timeout, command).run()
                else:
                    _lines(session, subject, timeout, interval)
            finally:
                session.tick()
                summary = _summary(session, subject)
    finally:
        for line in summary:
            click.echo(f"inject: {line}", err=True)
    return ExitStatus.OK


def _one_subject(command: Sequence[str], pid: Optional[int], cgroup: Optional[Path], any_task: bool) -> None:
    given = [bool(command), pid is not None, cgroup is not None, any_task]
    if sum(given) != 1:
        whose = "more than one answer to whose calls" if any(given) else "nothing says whose calls"
        raise shorthand.BadSyntax(whose, "give one of -- CMD..., --pid PID, --cgroup PATH and --any")


def _faults(names: Sequence[str], kernel: Kernel) -> list[Fault]:
    """The faults of scenario files and of ``FUNC[=VALUE]``, in the order given."""
    found: list[Fault] = []
    for name in names:
        if name.endswith(SUFFIXES) or "/" in name:
            found += [fault for scenario in scenarios.load([name]) for fault in scenario.faults]
            continue
        function, _, value = name.partition("=")
        point = kernel.points.find(function)
        block = shorthand.fault(function, {"value": value or DEFAULTS[point.error_type]})
        try:
            (scenario,) = scenarios.parse(to_yaml({"faults": [block], "run": "true"}), shorthand.COMMAND_LINE, "watch")
        except scenarios.ScenarioErrors as error:
            raise shorthand.BadSyntax(error.errors[0].message, error.errors[0].hint) from None
        found += [replace(fault, place=None, value_places=()) for fault in scenario.faults]
    return found


# ---------------------------------------------------------------- whose calls


@dataclass
class Everyone:
    """Every task: only `scope: any` faults see them."""

    noun: str = "every task"
    group: tuple[int, int] = (0, 0)

    def begin(self) -> None:
        """They run already."""

    def ended(self) -> str:
        """Never."""
        return ""

    def said(self) -> str:
        """Its output goes elsewhere."""
        return ""


class Existing:
    """Something that runs already."""

    def __init__(self, taken: adopted.Adopted) -> None:
        self._taken = taken
        self.noun = taken.noun
        self.group = (taken.cgroup.id, taken.cgroup.level)

    def begin(self) -> None:
        """It runs already."""

    def ended(self) -> str:
        """Once nothing lives in its group."""
        return "" if self._taken.cgroup.populated() else f"{self.noun} has ended"

    def said(self) -> str:
        """Its output goes elsewhere."""
        return ""


class Own(threading.Thread):
    """A command of the user's, run here; what it prints last is kept."""

    def __init__(self, command: Sequence[str], workload: Workload, cgroup: Cgroup, printed: Printed) -> None:
        super().__init__(name="inject-command", daemon=True)
        self.noun = shlex.join(command)
        self._short = Path(command[0]).name
        self.group = (cgroup.id, cgroup.level)
        self._workload = workload
        self._cgroup = cgroup
        self._printed = printed
        self._outcome: Optional[Outcome] = None

    def begin(self) -> None:
        """Release it, and wait for it in a thread of its own."""
        self._workload.release()
        self.start()

    def run(self) -> None:
        """Wait for the command."""
        self._outcome = self._workload.wait(LONGEST)

    def ended(self) -> str:
        """How it ended."""
        return f"{self._short} {self._outcome.how()}" if self._outcome is not None else ""

    def said(self) -> str:
        """The last line that it printed."""
        return self._printed.line

    def finish(self) -> None:
        """Kill what is left of it."""
        self._cgroup.kill()
        if self.is_alive():
            self.join(60)


@dataclass
class Printed:
    """The last line that the command printed."""

    line: str = ""
    quiet: bool = field(default_factory=usable)
    """Whether the screen shows the last line; otherwise all of it is printed."""
    _rest: bytes = field(default=b"", repr=False)

    def __call__(self, data: bytes) -> None:
        """Take a piece of output."""
        *lines, self._rest = (self._rest + data)[-4096:].split(b"\n")
        whole = [line for line in lines if line.strip()]
        if whole:
            self.line = whole[-1].decode(errors="replace")
        if not self.quiet:
            click.echo(data, nl=False)


@contextlib.contextmanager
def _subject(command: Sequence[str], pid: Optional[int], cgroup: Optional[Path], janitor: Janitor) -> Iterator[Subject]:
    if pid is not None or cgroup is not None:
        with adopted.by_pid(pid, janitor) if pid is not None else adopted.by_cgroup(cgroup or Path()) as taken:
            yield Existing(taken)
        return
    if not command:
        yield Everyone()
        return
    printed = Printed()
    group = Cgroup.create(janitor)
    try:
        inner = group.child("workload")
        with Workload(list(command), cgroup=inner, cwd=Path.cwd(), on_output=printed) as workload:
            own = Own(command, workload, inner, printed)
            try:
                yield own
            finally:
                own.finish()
    finally:
        group.close(janitor)


# ---------------------------------------------------------------- without a terminal


def _lines(session: Session, subject: Subject, timeout: float, interval: float) -> None:
    """A line for every injection, and one for each fault whose counters moved, each ``interval`` seconds."""
    started = said = time.monotonic()
    before: dict[int, tuple[str, object]] = {}
    _echo(0.0, f"watching {subject.noun}")
    subject.begin()
    while True:
        over = subject.ended() or ("the time is up" if time.monotonic() - started >= timeout else "")
        for injection in session.tick():
            _echo(time.monotonic() - started, console.injection_line(injection).strip() + _below(injection))
        if over or time.monotonic() - said >= interval:
            said = time.monotonic()
            for index, row in enumerate(session.rows):
                now = (row.state.value, row.counts)
                if before.get(index) != now:
                    before[index] = now
                    counts = row.counts
                    words = f"seen {counts.seen} matched {counts.matched} injected {counts.injected}"
                    _echo(said - started, f"{row.fault.function} {row.state.value} {words}")
        if over:
            _echo(time.monotonic() - started, over)
            return
        time.sleep(min(LOOK, interval))


def _below(injection: Injection) -> str:
    callers = [frame.partition("+")[0] for frame in injection.stack[1:4]]
    return f" < {' < '.join(callers)}" if callers else ""


def _echo(seconds: float, text: str) -> None:
    click.echo(f"{seconds:8.1f}  {printable(text)}")


def _summary(session: Session, subject: Subject) -> list[str]:
    """What is left to say when the screen is gone."""
    lines = []
    for row in session.rows:
        counts = row.counts
        lines.append(f"{row.fault.function}: {counts.seen} seen, {counts.matched} matched, {counts.injected} injected")
    return [*lines, f"{printable(subject.ended() or 'stopped')}; nothing is armed"]


# ---------------------------------------------------------------- on a terminal


class Live:
    """The table and its keys."""

    def __init__(self, session: Session, subject: Subject, timeout: float, command: Sequence[str]) -> None:
        self._session = session
        self._subject = subject
        self._timeout = timeout
        self._command = command
        self._started = time.monotonic()
        self._selected = 0
        self._message = "everything is off: a arms the chosen fault"
        self._asking = ""
        self._typed = ""
        self._over = False
        self._gone = False

    def run(self) -> None:
        """Until q, the end of the terminal, or the time is up."""
        colour = wanted(sys.stdout)
        with Screen() as screen:
            self._subject.begin()
            while not self._over and time.monotonic() - self._started < self._timeout:
                self._look()
                width, height = screen.size()
                screen.paint(board.render(self._view(), width, height, colour))
                keys = screen.keys(LOOK)
                if keys is None:
                    return
                for key in keys:
                    self._key(key)

    def _look(self) -> None:
        self._session.tick()
        ended = self._subject.ended()
        if ended and not self._gone:
            self._gone = True
            self._session.disarm_all()
            self._message = f"{ended}; everything is off: s saves, q quits"

    def _view(self) -> board.View:
        lines = tuple(
            board.Line(
                row.state.value,
                row.fault.function,
                ",".join(map(str, row.fault.values)),
                str(row.fault.when.trigger),
                row.counts,
                row.rate,
                row.last,
            )
            for row in self._session.rows
        )
        prompt = f"{self._asking}: {self._typed}_" if self._asking else ""
        seconds = time.monotonic() - self._started
        return board.View(
            self._subject.noun, seconds, lines, self._selected, self._message, prompt, self._subject.said()
        )

    # ------------------------------------------------------------ keys

    def _key(self, key: str) -> None:
        if self._asking:
            self._type(key)
            return
        session, row = self._session, self._session.rows[self._selected]
        name = row.fault.function
        if key == "q":
            self._over = True
        elif key in ("up", "k", "down", "j"):
            step = -1 if key in ("up", "k") else 1
            self._selected = (self._selected + step) % len(session.rows)
            fault = session.rows[self._selected].fault
            self._message = f"{fault.function} returns {fault.returns}: {fault.when.trigger}"
        elif key in ("a", "f", "A") and self._subject.ended():
            self._message = f"{self._subject.ended()}: there is nothing left to fail"
        elif key == "a":
            session.arm(self._selected)
            self._message = f"{name} is armed, counted from now: {row.fault.when.trigger}"
        elif key == "d":
            session.disarm(self._selected)
            self._message = f"{name} is off"
        elif key == "f":
            session.once(self._selected)
            self._message = f"the next call of {name} that its conditions take is failed"
        elif key in ("A", "D"):
            if key == "A":
                session.arm_all()
            else:
                session.disarm_all()
            self._message = "everything is armed" if key == "A" else "everything is off"
        elif key == "m":
            self._message = session.mark()
        elif key == "t":
            self._ask("trigger (nth=3; every=10,times=2; empty: every call)", "")
        elif key == "s":
            self._ask("save as", "watch.yaml")
        else:
            self._message = f"{key} is no key here"

    def _ask(self, question: str, typed: str) -> None:
        self._asking, self._typed, self._message = question, typed, ""

    def _type(self, key: str) -> None:
        if key == "enter":
            asked, self._asking = self._asking, ""
            try:
                self._message = self._save(self._typed) if asked == "save as" else self._retrigger(self._typed)
            except InjectError as error:
                self._message = str(error)
        elif key == "escape":
            self._asking = ""
        elif key == "back":
            self._typed = self._typed[:-1]
        elif key == "clear":
            self._typed = ""
        elif len(key) == 1 and len(self._typed) < MOST_TYPED:
            self._typed += key

    def _retrigger(self, typed: str) -> str:
        row = self._session.rows[self._selected]
        self._session.retrigger(self._selected, shorthand.to_trigger(typed))
        state = "at once" if row.state is State.ARMED else "when armed"
        return f"{row.fault.function} {state}: {row.fault.when.trigger}"

    def _save(self, typed: str) -> str:
        path = Path(typed.strip()).expanduser()
        if not typed.strip():
            return "not saved: no file was named"
        if path.exists():
            return f"not saved: {path} is there already; choose another name"
        used = [row.fault for row in self._session.rows if row.state is not State.OFF or row.counts.injected]
        text = scenario_text(used or [row.fault for row in self._session.rows], self._command)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            return f"not saved: {path}: {error.strerror}"
        return (
            f"saved to {path}: {len(used)} of {len(self._session.rows)}, those that were armed"
            if used
            else f"saved to {path}"
        )


def scenario_text(faults: Sequence[Fault], command: Sequence[str]) -> str:
    """A scenario of ``faults`` as they stand, around ``command``."""
    run = f"cd {shlex.quote(str(Path.cwd()))}\nexec {shlex.join(command)}\n" if command else "true  # the workload\n"
    head = "# Saved by inject watch. `expect`, `recover` and `checks` say what the kernel has to do.\n"
    return head + to_yaml({"faults": [fault_keys(fault) for fault in faults], "run": run})
