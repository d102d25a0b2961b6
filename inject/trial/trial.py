"""One trial end to end: fixture, setup, armed workload, recovery, oracles, verdict."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Callable, Optional

from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.errors import CannotRun, InjectError
from inject.fixture.device_numbers import device_numbers
from inject.fixture.filesystem import Fixture
from inject.kernel.detectors import spent_detectors
from inject.kernel.log import LogReader
from inject.model.errorpath import grouped
from inject.model.scenario import Scenario
from inject.model.verdict import Complaint, Counts, Reason, Status, Verdict
from inject.oracles import Context, Oracle, choose
from inject.oracles.base import Quiet
from inject.oracles.dmesg import Dmesg
from inject.process.cgroup import Cgroup
from inject.process.tool import Hung
from inject.process.workload import Outcome
from inject.trial.armed import ArmedRun, Ready, at_gate
from inject.trial.judge import Judgement, command_again, judge, tail, with_finding, with_hangs
from inject.trial.observe import Observation, exit_code, stacks
from inject.trial.preflight import missing, refuse_any_scope
from inject.trial.services import RunOptions, Services
from inject.trial.surroundings import Scene, Surroundings

MOST_PATHS = 100
"""Different error paths that a verdict keeps; the JSON lines have every one."""

PATIENCE = 10.0
"""Seconds that each reader or program may take if the workload hung: it may hang like the workload."""

UMOUNT_TIMEOUT = 60.0


class Trial:
    """One scenario, once.

    ``plan`` is what resolve() made for its faults, if it was called. ``before_arming`` is called when
    the log is read for this trial from now on. ``hold`` is called when all is ready for the faults: it
    returns the scenario whose faults, name and expectations count from then on.
    """

    def __init__(
        self,
        scenario: Scenario,
        services: Services,
        options: RunOptions,
        number: int = 0,
        plan: Optional[Plan] = None,
        before_arming: Callable[[], None] = lambda: None,
        hold: Optional[Callable[[Scenario], Scenario]] = None,
    ) -> None:
        self.scenario = scenario
        self.services = services
        self.options = options
        self.number = number
        self._plan = plan
        self._before_arming = before_arming
        self._hold = hold
        self._started = 0.0
        self._seen = Observation()
        self._around = Surroundings(scenario, services, self._seen)

    def run(self) -> Verdict:
        """The verdict. Raises nothing for what a scenario or a kernel does, only if the report cannot be written."""
        self._started = time.monotonic()
        options, seen = self.options, self._seen
        judgement = with_hangs(self._judgement(), seen.complaints)
        scenario = self.scenario
        judgement = with_finding(scenario, judgement)
        command = command_again(options.reproduce, scenario, options.seed)
        seen.notes += count_notes(scenario, seen.counts)
        if judgement.status is Status.FAIL:
            seen.notes += [f"not checked: {trouble}" for trouble in seen.troubles]
        return replace(
            judgement.verdict(scenario, self.number, command),
            seconds=time.monotonic() - self._started,
            workload=seen.workload,
            unusable=seen.unusable,
            notes=tuple(dict.fromkeys(seen.notes)),
            counts=seen.counts,
            exit=seen.exit,
            errors=grouped(seen.errors, MOST_PATHS),
            kernel_log=seen.kernel_log if judgement.status is Status.FAIL else (),
        )

    def _judgement(self) -> Judgement:
        """The judgement, once everything of the trial is undone."""
        try:
            if self._plan is None:
                self._need()
            lacking = missing(self.services.kernel, self.services.types, self.scenario, planned=self._plan is not None)
            if lacking:
                return Judgement(Status.SKIP, words=lacking)
            outcome = self._run()
            return judge(self.scenario, self._seen.facts(outcome))
        except CannotRun as error:
            return Judgement(Status.SKIP, words=str(error))
        except InjectError as error:
            return Judgement(Status.ERROR, words=str(error))
        except OSError as error:  # a full disk, for one
            return Judgement(Status.ERROR, words=f"{error.filename or 'this machine'}: {error.strerror}")

    def _need(self) -> None:
        """Have the module loaded if a fault needs it; raises CannotRun if that cannot be."""
        self.services.need(fault.function for fault in self.scenario.faults)

    def _run(self) -> Outcome:
        """Everything from the fixture to the last check; returns how the workload ended."""
        if not self.options.any_allowed:
            refuse_any_scope(self.scenario)
        if self.services.observer is not None:  # before anything counts pages, and before a guest is saved
            self.services.observer.attach(self.scenario, self.services.engine())
        with contextlib.ExitStack() as stack:
            if self.options.replaceable:
                stack.callback(self._look_at_detectors, spent_detectors(self.services.kernel))
            directory, group = stack.enter_context(self._around.ground())
            quiet = Quiet()
            if self.scenario.filesystem is not None:
                from inject.oracles.leaks import quiet_state

                quiet = quiet_state(self.scenario.filesystem.type, self.services.kernel)
            fixture = stack.enter_context(self._around.fixture(directory, group))
            return self._with_fixture(fixture, quiet, self._around.scene(directory, group, fixture))

    def _look_at_detectors(self, before: Sequence[str]) -> None:
        """No other trial may run on this kernel if a detector was spent since ``before``: it would pass unseen."""
        for spent in spent_detectors(self.services.kernel):
            if spent not in before:
                self._seen.spoil(spent)

    def _planned(self, fixture: Optional[Fixture]) -> Plan:
        """The plan of the faults, with the trial's own devices."""
        if self._plan is not None:
            return self._plan
        services = self.services
        devices = device_numbers(fixture, self.scenario.faults)
        return Planner(services.kernel, services.types, self.options.seed, devices).plan(self.scenario)

    def _with_fixture(self, fixture: Optional[Fixture], quiet: Quiet, scene: Scene) -> Outcome:
        seen = self._seen
        self._around.setup(scene)
        with LogReader() as log:
            self._before_arming()
            context = Context(self.scenario, fixture, log, scene.group.child("oracles"), quiet.allocated, quiet.pages)
            oracles = choose(context)
            if fixture is not None and fixture.mounted:
                from inject.oracles.syncing import sync

                self._must("sync", partial(sync, context))
            oracles = [one for one in oracles if seen.hear(one.name, partial(one.before, context))]
            if seen.unusable:
                raise InjectError(seen.unusable)
            ready = None
            if self._hold is not None:
                ready = self._wait(self._hold, fixture, scene)
                context = replace(context, scenario=self.scenario)
            plan = self._planned(fixture)
            outcome = self._armed(plan, scene, ready)
            if outcome.timed_out:
                context = replace(context, patience=PATIENCE)
            if not seen.unusable:
                self._recover(scene, context.limit(self._around.script_limit))
            self._ask(oracles, context, scene.group)
            seen.kernel_log = next((one.last(context) for one in oracles if isinstance(one, Dmesg)), ())
            seen.notes += [note for oracle in oracles for note in oracle.notes]
            # Calls that the probe cannot see explain why a fault never fired; otherwise they are of no interest.
            unfired = [rule for rule, tally in zip(plan.rules, seen.counts) if not tally.injected]
            seen.notes += Plan(tuple(unfired)).notes
        return outcome

    def _wait(self, hold: Callable[[Scenario], Scenario], fixture: Optional[Fixture], scene: Scene) -> Ready:
        """Have the engine and the workload ready, and go on with the faults that ``hold`` returns.

        Faults are attached once before, so that all is loaded that any need. Raises CannotRun as _need() does.
        """
        plan = self._planned(fixture)
        ArmedRun(self.scenario, self.number, plan, self.services, self.options, Observation()).rehearse()
        ready = at_gate(self.scenario, scene, self.services)
        self.scenario = hold(self.scenario)
        self._started = time.monotonic()
        self._need()
        return ready

    def _armed(self, plan: Plan, scene: Scene, ready: Optional[Ready]) -> Outcome:
        """Run the workload while calls fail. After a hold the probes stay: the guest ends with its trial."""
        seen = self._seen
        for note in plan.notes:
            self.services.say(note)
        seen.notes += plan.warnings
        armed = ArmedRun(self.scenario, self.number, plan, self.services, self.options, seen, ready)
        try:
            armed.attach()
            outcome = armed.run(scene)
        finally:
            if ready is None:
                armed.detach()
        seen.exit, seen.workload = exit_code(outcome), outcome.seconds
        seen.unkillable(outcome.unkillable, "run")
        return outcome

    def _must(self, name: str, ask: Callable[[], None]) -> None:
        """Do what a trial cannot go on without; raises InjectError if that fails."""
        if not self._seen.hear(name, ask):
            raise InjectError(self._seen.troubles[-1])

    def _recover(self, scene: Scene, limit: float) -> None:
        outcome = self._around.script("recover", self.scenario.recover, scene, limit)
        if outcome is not None and outcome.code != 0:
            detail = f"with the fault disarmed, `recover` {outcome.how()}"
            log = stacks(outcome.blocked) or tail(outcome.output)
            self._seen.complaints.append(Complaint(Reason.RECOVER, detail, log))
            self._seen.hung(outcome.blocked, "recover")

    def _ask(self, oracles: Sequence[Oracle], context: Context, group: Cgroup) -> None:
        """Unmount, and ask every oracle; once the kernel is unusable, ask only for its log."""
        able = [oracle for oracle in oracles if self._ask_one(oracle.name, partial(oracle.settled, context), group)]
        if context.fixture is not None:
            self._ask_one("umount", partial(unmounted, context.fixture, context), group)
        for oracle in able:
            self._ask_one(oracle.name, partial(oracle.after, context), group)
        if self.services.kernel.oopsed():
            self._seen.spoil("it has oopsed")

    def _ask_one(self, name: str, ask: Callable[[], Optional[Complaint]], group: Cgroup) -> bool:
        """Ask one question, unless its answer could hang like the task that cannot be killed; False if it failed."""
        if self._seen.unusable and name != "dmesg":
            return False
        asked = self._seen.hear(name, ask)
        self._seen.look_for_stuck(group, name)
        return asked


def unmounted(fixture: Fixture, context: Context) -> Optional[Complaint]:
    """Unmount. If that fails, the kernel keeps something: all processes of the trial have ended."""
    try:
        fixture.umount(context.limit(UMOUNT_TIMEOUT))
    except (CannotRun, Hung):
        raise
    except InjectError as error:
        return Complaint(Reason.CHECK, str(error))
    return None


def count_notes(scenario: Scenario, counts: Sequence[Counts]) -> list[str]:
    """Notes for each fault on calls that were not counted or compared, and on injections that were not reported."""
    notes = []
    for fault, tally in zip(scenario.faults, counts):
        if tally.lost:
            notes.append(
                f"{fault.function}: {tally.lost} of {tally.injected} injections are counted but not reported one by"
                " one (too many)"
            )
        if tally.unread:
            calls = "1 call was" if tally.unread == 1 else f"{tally.unread} calls were"
            notes.append(f"{fault.function}: {calls} not compared: the string argument was not in memory")
        if tally.missed:
            times = "once" if tally.missed == 1 else f"{tally.missed} times"
            notes.append(
                f"{fault.function}: its probe was busy {times} when a task called it, and did not see that call:"
                " the counts may be too small"
            )
    return notes
