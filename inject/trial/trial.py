"""One trial end to end: fixture, setup, armed workload, recovery, oracles, verdict."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Callable, Optional

from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.errors import CannotRun, InjectError
from inject.fixture.device_numbers import device_numbers
from inject.fixture.directory import remove_directory, trial_directory
from inject.fixture.filesystem import Fixture
from inject.kernel.detectors import spent_detectors
from inject.kernel.log import LogReader
from inject.model.errorpath import grouped
from inject.model.scenario import Scenario
from inject.model.verdict import Complaint, Counts, Reason, Status, Verdict
from inject.oracles import Context, Oracle, choose
from inject.oracles.base import Quiet
from inject.process.blocked import tasks_of
from inject.process.cgroup import Cgroup
from inject.process.tool import Hung
from inject.process.workload import GRACE, Outcome, run_workload
from inject.scenario.files import shared_directory
from inject.trial.armed import ArmedRun, Scene
from inject.trial.judge import Judgement, command_again, judge, tail, with_finding, with_hangs
from inject.trial.observe import Observation, exit_code, stacks
from inject.trial.preflight import missing, refuse_any_scope
from inject.trial.services import RunOptions, Services

MOST_PATHS = 100
"""Different error paths that a verdict keeps; the JSON lines have every one."""

PATIENCE = 10.0
"""Seconds that each reader or program may take if the workload hung: it may hang like the workload."""

UMOUNT_TIMEOUT = 60.0

SCRIPT_TIMEOUT = 120.0
"""Seconds for ``setup`` and ``recover``, or the scenario's timeout if that is longer."""


class Trial:
    """One scenario, once.

    ``plan`` is what resolve() made for its faults, if it was called. ``before_arming`` is called when
    the log is read for this trial from now on.
    """

    def __init__(
        self,
        scenario: Scenario,
        services: Services,
        options: RunOptions,
        number: int = 0,
        plan: Optional[Plan] = None,
        before_arming: Callable[[], None] = lambda: None,
    ) -> None:
        self.scenario = scenario
        self.services = services
        self.options = options
        self.number = number
        self._plan = plan
        self._before_arming = before_arming
        self._seen = Observation()

    def run(self) -> Verdict:
        """The verdict. Raises nothing for what a scenario or a kernel does, only if the report cannot be written."""
        started = time.monotonic()
        scenario, options, seen = self.scenario, self.options, self._seen
        judgement = with_finding(scenario, with_hangs(self._judgement(), seen.complaints))
        command = command_again(options.reproduce, scenario, options.seed)
        seen.notes += count_notes(scenario, seen.counts)
        if judgement.status is Status.FAIL:
            seen.notes += [f"not checked: {trouble}" for trouble in seen.troubles]
        return replace(
            judgement.verdict(scenario, self.number, command),
            seconds=time.monotonic() - started,
            unusable=seen.unusable,
            notes=tuple(dict.fromkeys(seen.notes)),
            counts=seen.counts,
            exit=seen.exit,
            errors=grouped(seen.errors, MOST_PATHS),
        )

    def _judgement(self) -> Judgement:
        """The judgement, once everything of the trial is undone."""
        try:
            if self._plan is None:
                self.services.need(fault.function for fault in self.scenario.faults)
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

    def _run(self) -> Outcome:
        """Everything from the fixture to the last check; returns how the workload ended."""
        if not self.options.any_allowed:
            refuse_any_scope(self.scenario)
        seen = self._seen
        with contextlib.ExitStack() as stack:
            if self.options.replaceable:
                stack.callback(self._look_at_detectors, spent_detectors(self.services.kernel))
            janitor = self.services.janitor
            directory = trial_directory(janitor)
            stack.callback(seen.undo, lambda: remove_directory(directory, janitor))
            group = Cgroup.create(janitor)
            stack.callback(seen.undo, lambda: self._close_group(group))
            fixture: Optional[Fixture] = None
            quiet = Quiet()
            if self.scenario.filesystem is not None:
                from inject.oracles.leaks import quiet_state

                quiet = quiet_state(self.scenario.filesystem.type, self.services.kernel)
                self.services.say(f"{self.scenario.filesystem.type} on a scratch device")
                fixture = Fixture(
                    self.scenario.filesystem,
                    directory=directory,
                    janitor=janitor,
                    cgroup=group.child("tools"),
                    cache=self.services.mkfs_cache,
                )
                opened = fixture
                stack.callback(seen.undo, lambda: self._close_fixture(opened, group))
                fixture.open()
            work = directory / "cwd"
            work.mkdir()
            env = {**os.environ, "LC_ALL": "C", **_shared(self.scenario), **(fixture.env if fixture else {})}
            return self._with_fixture(fixture, quiet, Scene(group, work, env))

    def _look_at_detectors(self, before: Sequence[str]) -> None:
        """No other trial may run on this kernel if a detector was spent since ``before``: it would pass unseen."""
        for spent in spent_detectors(self.services.kernel):
            if spent not in before:
                self._seen.spoil(spent)

    def _close_fixture(self, fixture: Fixture, group: Cgroup) -> None:
        self._seen.notes += fixture.notes
        self._seen.look_for_stuck(group, "the filesystem's programs")
        if self._seen.unusable:
            return  # a task that hangs in the kernel keeps it busy: the janitor tries when inject ends
        fixture.close()

    def _planned(self, fixture: Optional[Fixture]) -> Plan:
        """The plan of the faults, with the trial's own devices."""
        if self._plan is not None:
            return self._plan
        services = self.services
        devices = device_numbers(fixture, self.scenario.faults)
        return Planner(services.kernel, services.types, self.options.seed, devices).plan(self.scenario)

    def _with_fixture(self, fixture: Optional[Fixture], quiet: Quiet, scene: Scene) -> Outcome:
        seen = self._seen
        self._script("setup", self.scenario.setup, scene, self._script_limit, needed=True)
        plan = self._planned(fixture)
        for note in plan.notes:
            self.services.say(note)
        seen.notes += plan.warnings
        armed = ArmedRun(self.scenario, self.number, plan, self.services, self.options, seen)
        with LogReader() as log:
            self._before_arming()
            context = Context(self.scenario, fixture, log, scene.group.child("oracles"), quiet.allocated, quiet.pages)
            oracles = choose(context)
            try:
                armed.attach()
                if fixture is not None and fixture.mounted:
                    from inject.oracles.syncing import sync

                    self._must("sync", partial(sync, context))
                oracles = [one for one in oracles if seen.hear(one.name, partial(one.before, context))]
                if seen.unusable:
                    raise InjectError(seen.unusable)
                outcome = armed.run(scene)
            finally:
                armed.detach()
            seen.exit = exit_code(outcome)
            seen.unkillable(outcome.unkillable, "run")
            if outcome.timed_out:
                context = replace(context, patience=PATIENCE)
            if not seen.unusable:
                self._recover(scene, context.limit(self._script_limit))
            self._ask(oracles, context, scene.group)
            seen.notes += [note for oracle in oracles for note in oracle.notes]
            # Calls that the probe cannot see explain why a fault never fired; otherwise they are of no interest.
            unfired = [rule for rule, tally in zip(plan.rules, seen.counts) if not tally.injected]
            seen.notes += Plan(tuple(unfired)).notes
        return outcome

    @property
    def _script_limit(self) -> float:
        """Seconds that ``setup`` and ``recover`` may take."""
        return max(SCRIPT_TIMEOUT, self.scenario.timeout)

    def _must(self, name: str, ask: Callable[[], None]) -> None:
        """Do what a trial cannot go on without; raises InjectError if that fails."""
        if not self._seen.hear(name, ask):
            raise InjectError(self._seen.troubles[-1])

    def _script(self, name: str, text: str, scene: Scene, limit: float, *, needed: bool) -> Optional[Outcome]:
        """Run ``setup`` or ``recover`` disarmed; with ``needed`` anything but success raises InjectError."""
        if not text.strip():
            return None
        group = scene.group.child(name)
        outcome = run_workload(text, cgroup=group, cwd=scene.directory, timeout=limit, env=scene.env, name=name)
        self._seen.unkillable(outcome.unkillable, name)
        if needed and outcome.unkillable:
            raise InjectError(self._seen.unusable)
        if needed and outcome.code != 0:
            said = (outcome.output.strip().splitlines() or ["no output"])[-1]
            raise InjectError(f"`{name}` {outcome.how()}: {said}")
        return outcome

    def _recover(self, scene: Scene, limit: float) -> None:
        outcome = self._script("recover", self.scenario.recover, scene, limit, needed=False)
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

    def _close_group(self, group: Cgroup) -> None:
        """Remove the trial's cgroup; a process that is still in it cannot be killed."""
        if group.close(self.services.janitor, 0.0 if self._seen.has_unkillable else GRACE):
            return
        self._seen.unkillable(tasks_of(group.procs()), "the trial")
        raise InjectError(f"processes in {group.path} cannot be killed")


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
                " one (event buffer full)"
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


def _shared(scenario: Scenario) -> dict[str, str]:
    """``LIB`` for the scripts: the directory with what several scenarios use."""
    folder = shared_directory(Path(scenario.file))
    return {"LIB": str(folder)} if folder else {}
