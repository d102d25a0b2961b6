"""One trial end to end: fixture, setup, armed workload, recovery, oracles, verdict."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Callable, Optional, Union

from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.engine.return_trace import Trail
from inject.engine.rule import Plan
from inject.errors import CannotRun, InjectError
from inject.fixture.directory import remove_directory, trial_directory
from inject.fixture.filesystem import Fixture
from inject.fixture.mkfs_cache import MkfsCache
from inject.kernel.kernel import Kernel
from inject.kernel.log import LogReader, LogWriter
from inject.kernel.obstacles import refuse
from inject.kernel.types import Types
from inject.model.errorpath import ErrorPath, grouped
from inject.model.event import Armed, ErrorTraced, Event, Injected, Injection
from inject.model.point import FaultPoint
from inject.model.scenario import Fault, Probe, Scenario, Scope
from inject.model.verdict import Complaint, Counts, Reason, Status, Verdict
from inject.oracles import Context, Oracle, allocated, choose, sync
from inject.process.adopted import Adopted
from inject.process.blocked import BlockedTask
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.process.signals import signals_held
from inject.process.workload import Outcome, Workload, run_workload
from inject.propagation import watchlist
from inject.propagation.fate import Reader
from inject.report import progress as console
from inject.scenario.files import shared_folder
from inject.trial.judge import Facts, judge, tail, with_finding

POLL = 50
"""Milliseconds that one wait for an injection event takes at most."""

PAUSE = 0.005
"""Seconds between two looks into the kernel's buffer, so that one look finds many: at 100,000 injections a
second 500, of the 12,000 that it holds."""

MOST_PATHS = 100
"""Different ways of errors that a verdict keeps; the JSON lines have every one."""

LEASE = 10.0
"""Seconds until the kernel stops failing calls by itself, unless we put that off."""

RENEWAL = 1.0
"""Seconds after which we put it off again."""

SCRIPT_TIMEOUT = 120.0
"""Seconds for ``setup`` and ``recover``, or the scenario's timeout if that is longer."""

Emit = Callable[[Event], None]


@dataclass(frozen=True)
class Options:
    """How a run behaves; ``reproduce`` is the command line up to the scenario's file."""

    seed: int
    any_allowed: bool = False
    budget: int = 0
    """Injections that the whole run may make; 0: no bound."""
    probe: Probe = Probe.AUTO
    trace: bool = False
    """Follow the injected errors even where the scenario does not ask."""
    reproduce: str = "sudo inject run"


@dataclass(frozen=True)
class Tools:
    """What all trials of one run share."""

    kernel: Kernel
    types: Types
    engine: Callable[[], Engine]
    """Makes the engine at its first call, since compiling takes seconds in a guest."""
    janitor: Janitor
    emit: Emit
    say: Callable[[str], None]
    on_output: Optional[Callable[[bytes], None]] = None
    """Sees the armed workload's output as it comes."""
    adopt: Optional[Callable[[Janitor], Adopted]] = None
    """Takes something that runs already, in the place of the scenario's ``run``."""
    mkfs_cache: MkfsCache = field(default_factory=MkfsCache)
    """Filesystems made for earlier trials."""

    @cached_property
    def reader(self) -> Reader:
        """Reads return values by this kernel's types."""
        return Reader(self.kernel, self.types)


class Ticker(threading.Thread):
    """Calls ``act`` every ``period`` seconds while something else runs."""

    def __init__(self, name: str, period: float, act: Callable[[], object]) -> None:
        super().__init__(name=f"inject-{name}", daemon=True)
        self._period = period
        self._act = act
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Act until stop() is called."""
        while not self._stop_asked.wait(self._period):
            self._act()

    def stop(self) -> None:
        """End the thread."""
        _end(self, self._stop_asked)


def collector(engine: Engine) -> Ticker:
    """Keeps room in the kernel's buffer while the workload runs, whatever it takes to pass injections on."""
    return Ticker("collect", PAUSE, partial(engine.collect, POLL))


def lease(engine: Engine) -> Ticker:
    """Puts the kernel's deadline off while we live: a stopped or stuck tool ends its own faults."""
    return Ticker("lease", RENEWAL, partial(engine.extend, LEASE))


class Watcher(threading.Thread):
    """Passes injections on while the workload runs: to the kernel log, the report and the terminal."""

    def __init__(self, engine: Engine, take: Callable[[Injection], None], take_trail: Callable[[Trail], None]) -> None:
        super().__init__(name="inject-events", daemon=True)
        self._engine = engine
        self._collector = collector(engine)
        self._take = take
        self._take_trail = take_trail
        self._ripe: list[Trail] = []
        self._stop_asked = threading.Event()
        self._error: Optional[BaseException] = None

    def run(self) -> None:
        """Pass on until stop() is called."""
        self._collector.start()
        try:
            while not self._stop_asked.wait(POLL / 1000):
                self._pass_on(self._stop_asked.is_set)
        except BaseException as error:  # told to whoever calls stop()
            self._error = error

    def _pass_on(self, enough: Callable[[], bool] = lambda: False) -> None:
        self._ripe += self._engine.trails()  # the injections of these are there already
        while not enough():
            fired = self._engine.take(1)
            if not fired:
                break
            self._take(fired[0])
        else:
            return
        for trail in self._ripe:
            self._take_trail(trail)
        self._ripe.clear()

    def stop(self) -> None:
        """End the thread and pass on what is left; raises what went wrong in it."""
        _end(self, self._stop_asked)
        self._collector.stop()
        if self._error is not None:
            raise self._error
        self._engine.collect(0)
        self._pass_on()
        for trail in self._engine.trails(rest=True):
            self._take_trail(trail)


def _end(thread: threading.Thread, asked: threading.Event) -> None:
    """Ask a thread to end, and wait a minute at most; nothing if it was never started."""
    asked.set()
    if thread.ident is not None:
        thread.join(60)


class Trial:
    """One scenario, once."""

    def __init__(self, scenario: Scenario, tools: Tools, options: Options, number: int = 0) -> None:
        self.scenario = scenario
        self.tools = tools
        self.options = options
        self.number = number
        self.unusable = ""
        self._log = LogWriter(scenario.name, number)
        self._ours: list[str] = []
        self._notes: list[str] = []
        self._errors: list[ErrorPath] = []
        self._points: tuple[FaultPoint, ...] = ()
        self._bounded = ""

    def run(self) -> Verdict:
        """The verdict; never raises for what a scenario or a kernel does, only for our own report's troubles."""
        started = time.monotonic()
        try:
            missing = self._missing()
            verdict = self._verdict(Status.SKIP, None, missing) if missing else self._run()
        except CannotRun as error:
            verdict = self._verdict(Status.SKIP, None, str(error))
        except InjectError as error:
            verdict = self._verdict(Status.ERROR, None, str(error))
        except OSError as error:  # a full disk, for one
            verdict = self._verdict(Status.ERROR, None, f"{error.filename or 'this machine'}: {error.strerror}")
        verdict = replace(verdict, seconds=time.monotonic() - started, unusable=self.unusable)
        verdict = replace(verdict, notes=tuple(dict.fromkeys(self._notes)))
        return with_finding(self.scenario, verdict)

    def _verdict(self, status: Status, reason: Optional[Reason], detail: str, log: Sequence[str] = ()) -> Verdict:
        command = (
            f"{self.options.reproduce} {self.scenario.file} --only {self.scenario.name} --seed {self.options.seed}"
        )
        return Verdict(self.scenario.name, status, reason, detail, self.number, reproduce=command, log=tuple(log))

    # ------------------------------------------------------------ before

    def _missing(self) -> str:
        """What the scenario requires and this machine lacks, in words; "" if nothing."""
        wants = self.scenario.requires
        kernel = self.tools.kernel
        for function in (*wants.functions, *(fault.function for fault in self.scenario.faults)):
            try:
                refuse(kernel, kernel.points.find(function))
            except InjectError as error:
                return str(error)
        for program in wants.programs:
            if shutil.which(program) is None:
                return f"the program {program} is not installed"
        for option in wants.config:
            if kernel.config.options and not kernel.config.has(option):
                return f"this kernel was built without {option}"
        return ""

    def _refuse(self) -> None:
        """Raise InjectError for what the user has to allow and did not."""
        wide = [fault.function for fault in self.scenario.faults if fault.scope is Scope.ANY]
        if wide and not self.options.any_allowed:
            raise InjectError(
                f"`scope: any` fails {wide[0]} for every task of this machine",
                "run it in a guest (`inject vm run`), or say --allow-any",
            )

    # ------------------------------------------------------------ the trial

    def _run(self) -> Verdict:
        self._refuse()
        with contextlib.ExitStack() as stack:
            janitor = self.tools.janitor
            directory = trial_directory(janitor)
            stack.callback(self._undo, lambda: remove_directory(directory, janitor))
            group = Cgroup.create(janitor)
            stack.callback(self._undo, lambda: _close_group(group, janitor))
            fixture: Optional[Fixture] = None
            quiet: Mapping[str, tuple[int, int]] = {}
            if self.scenario.filesystem is not None:
                quiet = allocated(self.scenario.filesystem.type)
                self.tools.say(f"{self.scenario.filesystem.type} on a scratch device")
                fixture = Fixture(
                    self.scenario.filesystem,
                    directory=directory,
                    janitor=janitor,
                    cgroup=group.child("tools"),
                    cache=self.tools.mkfs_cache,
                )
                opened = fixture
                stack.callback(self._undo, lambda: self._close_fixture(opened))
                fixture.open()
            work = directory / "cwd"
            work.mkdir()
            return self._with_fixture(fixture, quiet, group, work)

    def _close_fixture(self, fixture: Fixture) -> None:
        self._notes += fixture.notes
        if self.unusable:
            return  # a task that hangs in the kernel keeps it busy: the janitor tries when we end
        fixture.close()

    def _undo(self, undo: Callable[[], None]) -> None:
        """A leftover does not change the verdict; it makes this kernel unfit for the next trial."""
        try:
            undo()
        except InjectError as error:
            self.unusable = self.unusable or str(error)

    def _with_fixture(
        self, fixture: Optional[Fixture], quiet: Mapping[str, tuple[int, int]], group: Cgroup, work: Path
    ) -> Verdict:
        env = {**os.environ, "LC_ALL": "C", **_shared(self.scenario), **(fixture.env if fixture else {})}
        self._script("setup", self.scenario.setup, group, work, env, needed=True)
        engine = self.tools.engine()
        planner = Planner(
            self.tools.kernel, self.tools.types, self.options.seed, device_numbers(fixture, self.scenario.faults)
        )
        plan = planner.plan(self.scenario)
        for note in plan.notes:
            self.tools.say(note)
        with LogReader() as log:
            context = Context(self.scenario, fixture, log, group.child("oracles"), quiet)
            oracles = choose(context)
            try:
                engine.attach(plan, self.options.probe, self._watched(plan), errnos=bool(self.scenario.expect.errno))
                if fixture is not None and fixture.mounted:
                    sync(context)
                for oracle in oracles:
                    oracle.before(context)
                outcome, errnos = self._armed(engine, group, work, env)
                counts = engine.counts()
            finally:
                engine.detach()
            self._note_unkillable(outcome.unkillable)
            complaints = [] if self.unusable else self._recover(group, work, env)
            complaints += self._after(oracles, context)
            self._notes += [note for oracle in oracles for note in oracle.notes]
            # Why a fault never fired; where it did, nobody needs to hear of calls that it could not see.
            unfired = [rule for rule, tally in zip(plan.rules, counts) if not tally.injected]
            self._notes += Plan(tuple(unfired)).notes
        return self._judged(outcome, counts, errnos, complaints)

    def _judged(
        self,
        outcome: Outcome,
        counts: tuple[Counts, ...],
        errnos: Mapping[tuple[str, str], int],
        complaints: Sequence[Complaint],
    ) -> Verdict:
        self._notes += lost_events(self.scenario, counts)
        facts = _facts(outcome, counts, errnos, complaints, self._errors)
        status, reason, detail, log = judge(self.scenario, facts)
        if self._bounded and reason in (None, Reason.NOT_INJECTED, Reason.EXIT, Reason.ERRNO):
            status, reason, detail = Status.ERROR, None, self._bounded
        if status is Status.PASS and self._ours:
            status, detail = Status.ERROR, "; ".join(self._ours)
        errors = grouped(self._errors, MOST_PATHS)
        return replace(self._verdict(status, reason, detail, log), counts=counts, exit=_code(outcome), errors=errors)

    def _armed(
        self, engine: Engine, group: Cgroup, work: Path, env: Mapping[str, str]
    ) -> tuple[Outcome, Mapping[tuple[str, str], int]]:
        scenario = self.scenario
        inner = group.child("workload")
        workload: Union[Workload, Adopted]
        if self.tools.adopt is not None:
            workload = self._adopted(self.tools.adopt, engine)
            inner = workload.cgroup
        else:
            workload = Workload(scenario.run, cgroup=inner, cwd=work, env=env, on_output=self.tools.on_output)
        watcher = Watcher(engine, self._take, partial(self._take_trail, engine))
        renewal = lease(engine)
        self._log.begin(self.options.seed)
        with workload:
            self.tools.emit(Armed(scenario.name, self.number, scenario.faults, tuple(engine.used)))
            timeout = scenario.timeout
            try:
                try:
                    with signals_held():
                        engine.arm(inner.id, inner.level, LEASE, self.options.budget)
                        renewal.start()
                        watcher.start()
                except KeyboardInterrupt:
                    if self.tools.adopt is None:
                        raise
                    timeout = 0.0  # of what runs already it is the good end, however early
                workload.release()
                outcome = workload.wait(timeout, on_end=engine.disarm)
            finally:
                engine.disarm()
                renewal.stop()
                watcher.stop()
                self._log.end()
        lost = engine.untraced()
        if lost:
            self._notes.append(f"the errors of {lost} more injections could not be followed: there was no room")
        self._bounded = self._bound_reached(engine)
        return outcome, engine.errnos()

    def _bound_reached(self, engine: Engine) -> str:
        """Why fewer calls failed than the scenario asked for, when that was our doing; "" if it was not."""
        if engine.lapsed:
            return f"this process stood still for {LEASE:.0f} s while armed, so the kernel stopped failing calls"
        more = engine.refused(self.options.budget)
        if more:
            left = self.options.budget
            return f"the run's budget was used up: {left} injections were left for this scenario, {more} more were due"
        return ""

    def _watched(self, plan: Plan) -> list[int]:
        """Addresses of the functions whose returns are watched; [] where nobody asks where errors go."""
        self._points = tuple(rule.point for rule in plan.rules)
        if not (self.options.trace or self.scenario.follows_errors):
            return []
        filesystem = self.scenario.filesystem.type if self.scenario.filesystem else None
        chosen = watchlist.families(filesystem, [point.function for point in self._points])
        found = self.tools.kernel.ftrace.traceable_at(watchlist.pattern(chosen))
        unfit = self.tools.kernel.ftrace.realigned(found)
        watched = watchlist.watched(found, [*unfit, *(point.address for point in self._points)])
        if not watched:
            raise CannotRun(
                "this kernel does not say which functions can be watched, so errors cannot be followed",
                "it needs CONFIG_DYNAMIC_FTRACE=y and tracefs: mount -t tracefs none /sys/kernel/tracing",
            )
        return watched

    def _take_trail(self, engine: Engine, trail: Trail) -> None:
        point = self._points[trail.fault]
        call = engine.system_call(trail.call) if trail.call is not None else ""
        written = engine.written(trail.fault, trail.injected)
        path = self.tools.reader.error_path(
            point, trail.fault, written, trail.injected, engine.path(trail), call, trail.result
        )
        self._errors.append(path)
        self.tools.emit(ErrorTraced(self.scenario.name, self.number, path, trail.ordinal, trail.tid))
        self.tools.say(console.error_line(path, trail.ordinal))

    def _adopted(self, adopt: Callable[[Janitor], Adopted], engine: Engine) -> Adopted:
        """What runs already; the wait for it ends when no fault can fire any more."""
        subject = adopt(self.tools.janitor)
        limits = [fault.when.trigger.limit for fault in self.scenario.faults]

        def spent() -> bool:
            return all(limit is not None and counts.injected >= limit for limit, counts in zip(limits, engine.counts()))

        subject.enough = spent
        self.tools.say(f"{subject.noun}: armed")
        return subject

    def _take(self, injection: Injection) -> None:
        self._log.injection(injection)
        self.tools.emit(Injected(self.scenario.name, self.number, injection))
        self.tools.say(console.injection_line(injection))

    # ------------------------------------------------------------ after

    def _script(
        self, name: str, text: str, group: Cgroup, work: Path, env: Mapping[str, str], *, needed: bool
    ) -> Optional[Outcome]:
        """Run ``setup`` or ``recover`` disarmed; with ``needed`` anything but success raises InjectError."""
        if not text.strip():
            return None
        limit = max(SCRIPT_TIMEOUT, self.scenario.timeout)
        outcome = run_workload(text, cgroup=group.child(name), cwd=work, timeout=limit, env=env, name=name)
        self._note_unkillable(outcome.unkillable)
        if needed and outcome.code != 0:
            said = (outcome.output.strip().splitlines() or ["no output"])[-1]
            raise InjectError(f"`{name}` {outcome.how()}: {said}")
        return outcome

    def _recover(self, group: Cgroup, work: Path, env: Mapping[str, str]) -> list[Complaint]:
        outcome = self._script("recover", self.scenario.recover, group, work, env, needed=False)
        if outcome is None or outcome.code == 0:
            return []
        detail = f"with the fault disarmed, `recover` {outcome.how()}"
        return [Complaint(Reason.RECOVER, detail, _blocked(outcome.blocked) or tail(outcome.output))]

    def _after(self, oracles: Sequence[Oracle], context: Context) -> list[Complaint]:
        """Unmount, and hear every oracle; on a kernel that is no good any more only its log is heard."""
        complaints: list[Complaint] = []
        asked = [oracle for oracle in oracles if not self.unusable or oracle.name == "dmesg"]
        for oracle in asked:
            self._guard(oracle.name, complaints, partial(_settled, oracle, context))
        if context.fixture is not None and not self.unusable:
            self._guard("umount", complaints, partial(_unmount, context.fixture))
        for oracle in asked:
            self._guard(oracle.name, complaints, partial(oracle.after, context))
        if self.tools.kernel.oopsed():
            self.unusable = self.unusable or "it has oopsed"
        return complaints

    def _guard(self, name: str, complaints: list[Complaint], ask: Callable[[], Optional[Complaint]]) -> None:
        """What ``ask`` complains of goes to ``complaints``, or to our own troubles if it is not the kernel's fault."""
        try:
            said = ask()
        except CannotRun as error:
            self._ours.append(f"{name}: {error}")
            return
        except InjectError as error:
            complaints.append(Complaint(Reason.CHECK, f"{name}: {error}"))
            return
        if said is None:
            return
        if said.notice and any(complaint.reason is Reason.CHECK for complaint in complaints):
            return
        if said.inconclusive:
            self._ours.append(f"{name}: {said.detail}")
        else:
            complaints.append(replace(said, detail=f"{name}: {said.detail}"))

    def _note_unkillable(self, tasks: Sequence[BlockedTask]) -> None:
        if tasks and not self.unusable:
            names = ", ".join(f"{task.comm}/{task.tid}" for task in tasks[:3])
            self.unusable = f"{names} cannot be killed"


def lost_events(scenario: Scenario, counts: Sequence[Counts]) -> list[str]:
    """A note for each fault whose injections were counted but not all told one by one."""
    return [
        f"{fault.function}: {tally.lost} of {tally.injected} injections are counted but have no line of their own,"
        " because the event buffer was full"
        for fault, tally in zip(scenario.faults, counts)
        if tally.lost
    ]


def _facts(
    outcome: Outcome,
    counts: Sequence[Any],
    errnos: Mapping[tuple[str, str], int],
    complaints: Sequence[Complaint],
    errors: Sequence[ErrorPath],
) -> Facts:
    return Facts(
        counts=tuple(counts),
        how=outcome.how(),
        code=_code(outcome),
        output=outcome.output,
        timed_out=outcome.timed_out,
        blocked=_blocked(outcome.blocked),
        errnos=errnos,
        complaints=tuple(complaints),
        errors=tuple(errors),
    )


def _code(outcome: Outcome) -> int:
    """The exit code as a shell gives it: whether bash runs its last command itself must not matter."""
    return outcome.code if outcome.code is not None else 128 + (outcome.signal or 0)


def _shared(scenario: Scenario) -> dict[str, str]:
    """``LIB`` for the scripts: where scenarios keep what they share."""
    folder = shared_folder(Path(scenario.file))
    return {"LIB": str(folder)} if folder else {}


def _settled(oracle: Oracle, context: Context) -> None:
    oracle.settled(context)


def _unmount(fixture: Fixture) -> None:
    fixture.umount()


def _blocked(tasks: Sequence[BlockedTask]) -> tuple[str, ...]:
    return tuple(line for task in tasks for line in task.lines())


def _close_group(group: Cgroup, janitor: Janitor) -> None:
    if not group.close(janitor):
        raise InjectError(f"processes in {group.path} cannot be killed")


def device_numbers(fixture: Optional[Fixture], faults: Sequence[Fault]) -> dict[str, tuple[int, ...]]:
    """``$DEV``... and /dev/NAME: the device's number, then that of the filesystem mounted from it.

    Both as the kernel keeps a dev_t. Raises InjectError for a name in /dev that is no block device.
    """
    named = [fault.when.device for fault in faults if fault.when.device]
    found: dict[str, tuple[int, ...]] = {name: _numbers(name) for name in named if name.startswith("/")}
    if fixture is None:
        return found
    mounted = _kernel_dev(fixture.mountpoint.stat().st_dev)
    for name, path in fixture.env.items():
        own = mounted if name == "MNT" else _kernel_dev(Path(path).stat().st_rdev)
        found[f"${name}"] = (own, mounted)
    return found


def _numbers(device: str) -> tuple[int, ...]:
    """The numbers of a block device of this machine and of the filesystem mounted from it, if there is one."""
    try:
        found = Path(device).stat()
    except OSError as error:
        raise InjectError(f"{device}: {error.strerror}", "`lsblk` shows the block devices") from None
    if not stat.S_ISBLK(found.st_mode):
        raise InjectError(f"{device} is no block device", "`lsblk` shows those that are")
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        fields, _, rest = line.partition(" - ")
        if device in rest.split()[1].split(":"):
            major, minor = fields.split()[2].split(":")
            return _kernel_dev(found.st_rdev), int(major) << 20 | int(minor)
    return (_kernel_dev(found.st_rdev),)


def _kernel_dev(number: int) -> int:
    """User space's dev_t as the kernel's: MAJOR << 20 | MINOR (include/linux/kdev_t.h)."""
    return os.major(number) << 20 | os.minor(number)


def run_all(
    scenarios: Iterable[Scenario],
    tools: Tools,
    options: Options,
    *,
    begin: Callable[[int, Scenario], None],
    end: Callable[[Verdict], None],
    stop_when_unusable: bool = False,
) -> list[Verdict]:
    """Every scenario once, in order. With ``stop_when_unusable`` an unfit kernel ends the run early.

    The next of ``scenarios`` is only asked for when the one before has its verdict.
    """
    verdicts: list[Verdict] = []
    unusable = ""
    left = options.budget
    for number, scenario in enumerate(scenarios, 1):
        begin(number, scenario)
        if unusable:
            verdict = Verdict(scenario.name, Status.ERROR, None, f"this kernel is unfit for more trials: {unusable}")
        elif options.budget and left <= 0:
            what = f"the run's budget of {options.budget} injections was used up before this scenario"
            verdict = Verdict(scenario.name, Status.ERROR, None, what)
        else:
            verdict = Trial(scenario, tools, replace(options, budget=left)).run()
            if options.budget:  # 0 is no budget at all, and must stay 0
                left -= sum(counts.injected for counts in verdict.counts)
        tools.emit(verdict)
        end(verdict)
        verdicts.append(verdict)
        unusable = unusable or verdict.unusable
        if unusable and stop_when_unusable:
            break
    return verdicts
