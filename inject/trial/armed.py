"""The part of a trial in which calls fail: attach, arm, run the workload, disarm."""

from __future__ import annotations

from typing import Callable, Optional, Union

from inject.engine.return_trace import Trail
from inject.engine.rule import Plan
from inject.errors import CannotRun
from inject.kernel.log import LogWriter
from inject.kernel.obstacles import of_addresses, of_switches
from inject.model.errorpath import as_named
from inject.model.event import Armed, EngineMemory, ErrorTraced, Injected, Injection, PointReached
from inject.model.scenario import Scenario
from inject.model.syscalls import call_name
from inject.model.text import listed
from inject.process.adopted import Adopted
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.process.signals import signals_held
from inject.process.workload import Outcome, Workload
from inject.propagation import watchlist
from inject.report.progress import error_line, injection_line
from inject.trial.observe import Observation
from inject.trial.pump import LEASE, LeaseKeeper, Pump
from inject.trial.services import RunOptions, Services
from inject.trial.surroundings import Scene

Ready = tuple[Cgroup, Workload]
"""A workload that has not begun, and its control group."""


def at_gate(scenario: Scenario, scene: Scene, services: Services) -> Ready:
    """The workload of ``scenario``, which waits for its release."""
    inner = scene.group.child("workload")
    return inner, Workload(scenario.run, cgroup=inner, cwd=scene.directory, env=scene.env, on_output=services.on_output)


class ArmedRun:
    """One run of a scenario's workload under ``plan``; what is seen of it goes to ``seen``.

    ``ready`` is the workload, if it stands at its gate already.
    """

    def __init__(
        self,
        scenario: Scenario,
        number: int,
        plan: Plan,
        services: Services,
        options: RunOptions,
        seen: Observation,
        ready: Optional[Ready] = None,
    ) -> None:
        self._scenario = scenario
        self._number = number
        self._plan = plan
        self._services = services
        self._options = options
        self._seen = seen
        self._ready = ready
        self._engine = services.engine()
        self._log = LogWriter(scenario.name, number)

    def attach(self) -> None:
        """Attach the probes, disarmed; detach() undoes it."""
        self._engine.attach(
            self._plan,
            self._options.probe,
            self._watched(),
            errnos=bool(self._scenario.expect.errno),
            early=self._services.adopt is None,
        )

    def rehearse(self) -> None:
        """Attach, have loaded what any run needs, and detach."""
        try:
            self.attach()
            self._engine.rehearse()
            self._memory()
        finally:
            self.detach()

    def detach(self) -> None:
        """Remove the probes."""
        self._engine.detach()

    def run(self, scene: Scene) -> Outcome:
        """Arm, run the workload to its end or the timeout, and disarm."""
        engine, services = self._engine, self._services
        workload: Union[Workload, Adopted]
        if services.adopt is not None:
            workload = self._adopted(services.adopt)
            inner = workload.cgroup
        else:
            inner, workload = self._ready or at_gate(self._scenario, scene, services)
        pump = Pump(engine, self._take, self._take_trail)
        lease = LeaseKeeper(engine.extend)
        self._log.begin(self._options.seed)
        with workload:
            services.emit(
                Armed(
                    self._scenario.name,
                    self._number,
                    self._scenario.faults,
                    tuple(engine.used),
                    memory=self._memory(),
                )
            )
            timeout = self._scenario.timeout * services.kernel.config.slowness
            try:
                try:
                    with signals_held():
                        lease.beat()
                        engine.arm(inner.id, inner.level, LEASE, self._options.budget)
                        if services.observer is not None:
                            services.observer.arm(inner)
                        lease.start()
                        pump.start()
                except KeyboardInterrupt:
                    if services.adopt is None:
                        raise
                    timeout = 0.0  # Ctrl-C is how a run on something adopted ends, however early
                workload.release()
                outcome = workload.wait(timeout, on_end=self._disarm, tick=lease.beat)
            finally:
                self._disarm()
                lease.stop()
                pump.stop()
                self._log.end()
        self._conclude()
        return outcome

    def _disarm(self) -> None:
        self._engine.disarm()
        if self._services.observer is not None:
            self._services.observer.disarm()

    def _memory(self) -> Optional[EngineMemory]:
        """Where a guest's host finds what is counted and reported, should this kernel die; None if nothing says."""
        if not self._options.replaceable:
            return None
        symbols = self._services.kernel.symbols
        text = 0 if symbols.hidden else next(iter(symbols.addresses("_stext")), 0)
        try:
            return self._engine.memory(self._services.types.of(), text)
        except CannotRun:
            return None  # a kernel without BTF

    def _conclude(self) -> None:
        """Collect what the engine counted while it was armed."""
        engine, seen = self._engine, self._seen
        untraced = engine.untraced()
        if untraced:
            seen.notes.append(f"{untraced} injection{'s were' if untraced != 1 else ' was'} not traced (too many)")
        seen.cut_short = self._cut_short()
        seen.errnos = engine.errnos()
        seen.uncounted = engine.uncounted()
        if seen.uncounted:
            seen.notes.append(f"{seen.uncounted} failed system calls are not among the errnos (table full)")
        seen.counts = engine.counts()
        self._observe()

    def _observe(self) -> None:
        """Report the points that show only while something fails."""
        if self._services.observer is None:
            return
        points, notes = self._services.observer.take()
        self._seen.notes += notes
        for point in points:
            self._services.emit(PointReached(self._scenario.name, self._number, point))

    def _cut_short(self) -> str:
        """Reason for which not every call failed that should have; "" if there is none."""
        if self._engine.lapsed:
            return (
                f"inject was stopped for more than {LEASE:.0f} s while armed; the deadline expired and injection ended"
            )
        bypassed = self._engine.bypassed()
        if bypassed:
            return (
                f"another tracing program was attached to {listed(bypassed)} during the trial, so the body of a failed"
                " call may have run"
            )
        for obstacle in of_switches(self._services.kernel):
            return f"during the trial: {obstacle.message}"
        more = self._engine.refused(self._options.budget)
        if more:
            left = self._options.budget
            return f"the run's budget was used up: {left} injections were left for this scenario, {more} more were due"
        return ""

    def _watched(self) -> list[int]:
        """Addresses of the functions whose returns are watched; [] if errors are not traced."""
        if not (self._options.trace or self._scenario.traces_errors):
            return []
        hidden = of_addresses(self._services.kernel, "tracing errors")
        if hidden:
            raise CannotRun(hidden.message, hidden.fix)
        kernel, points = self._services.kernel, [rule.point for rule in self._plan.rules]
        filesystem = self._scenario.filesystem.type if self._scenario.filesystem else None
        chosen = watchlist.families(filesystem, [point.function for point in points])
        found = kernel.ftrace.traceable_at(watchlist.pattern(chosen))
        unfit = kernel.ftrace.realigned(found)
        watched = watchlist.watched(found, [*unfit, *(point.address for point in points)])
        if not watched:
            raise CannotRun(
                "this kernel does not say which functions can be watched, so errors cannot be traced",
                "it needs CONFIG_DYNAMIC_FTRACE=y and tracefs: mount -t tracefs none /sys/kernel/tracing",
            )
        return watched

    def _adopted(self, adopt: Callable[[Janitor], Adopted]) -> Adopted:
        """A running process or cgroup; the wait for it ends when no fault can fire any more."""
        subject = adopt(self._services.janitor)
        limits = [fault.when.trigger.limit for fault in self._scenario.faults]

        def spent() -> bool:
            counts = self._engine.counts()
            return all(limit is not None and tally.injected >= limit for limit, tally in zip(limits, counts))

        subject.enough = spent
        self._services.say(f"{subject.noun}: armed")
        return subject

    def _take(self, injection: Injection) -> None:
        self._log.injection(injection)
        self._services.emit(Injected(self._scenario.name, self._number, injection))
        self._services.say(injection_line(injection))

    def _take_trail(self, trail: Trail) -> None:
        engine, services = self._engine, self._services
        point = self._plan.rules[trail.fault].point
        call = call_name(trail.call) if trail.call is not None else ""
        written = engine.written(trail.fault, trail.injected)
        path = services.reader.error_path(
            point, trail.fault, written, trail.injected, engine.path(trail), call, trail.result
        )
        path = as_named(path, self._scenario.errnos)
        self._seen.errors.append(path)
        services.emit(ErrorTraced(self._scenario.name, self._number, path, trail.ordinal, trail.tid))
        services.say(error_line(path, trail.ordinal))
