"""One trial end to end: fixture, setup, armed workload, recovery, oracles, verdict."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Optional

from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.errors import CannotRun, InjectError
from inject.fixture.device_numbers import device_numbers
from inject.fixture.directory import remove_directory, trial_directory
from inject.fixture.filesystem import Fixture
from inject.kernel.log import LogReader
from inject.model.errorpath import grouped
from inject.model.scenario import Scenario
from inject.model.verdict import Complaint, Counts, Reason, Status, Verdict
from inject.oracles import Context, Oracle, allocated, choose, sync
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.process.workload import Outcome, run_workload
from inject.scenario.files import shared_directory
from inject.trial.armed import ArmedRun, Scene
from inject.trial.judge import judge, tail, with_finding
from inject.trial.observe import Observation, exit_code, stacks
from inject.trial.preflight import missing, refuse_any_scope
from inject.trial.services import RunOptions, Services

MOST_PATHS = 100
"""Different error paths that a verdict keeps; the JSON lines have every one."""

SCRIPT_TIMEOUT = 120.0
"""Seconds for ``setup`` and ``recover``, or the scenario's timeout if that is longer."""


class Trial:
    """One scenario, once. ``plan`` is what resolve() made for its faults, if it was called."""

    def __init__(
        self, scenario: Scenario, services: Services, options: RunOptions, number: int = 0, plan: Optional[Plan] = None
    ) -> None:
        self.scenario = scenario
        self.services = services
        self.options = options
        self.number = number
        self._plan = plan
        self._seen = Observation()

    def run(self) -> Verdict:
        """The verdict. Raises nothing for what a scenario or a kernel does, only if the report cannot be written."""
        started = time.monotonic()
        try:
            lacking = missing(self.services.kernel, self.scenario, planned=self._plan is not None)
            verdict = self._verdict(Status.SKIP, None, lacking) if lacking else self._run()
        except CannotRun as error:
            verdict = self._verdict(Status.SKIP, None, str(error))
        except InjectError as error:
            verdict = self._verdict(Status.ERROR, None, str(error))
        except OSError as error:  # a full disk, for one
            verdict = self._verdict(Status.ERROR, None, f"{error.filename or 'this machine'}: {error.strerror}")
        verdict = replace(
            verdict,
            seconds=time.monotonic() - started,
            unusable=self._seen.unusable,
            notes=tuple(dict.fromkeys(self._seen.notes)),
        )
        return with_finding(self.scenario, verdict)

    def _verdict(self, status: Status, reason: Optional[Reason], detail: str, log: Sequence[str] = ()) -> Verdict:
        command = (
            f"{self.options.reproduce} {self.scenario.file} --only {self.scenario.name} --seed {self.options.seed}"
        )
        return Verdict(self.scenario.name, status, reason, detail, self.number, reproduce=command, log=tuple(log))

    def _run(self) -> Verdict:
        if not self.options.any_allowed:
            refuse_any_scope(self.scenario)
        seen = self._seen
        with contextlib.ExitStack() as stack:
            janitor = self.services.janitor
            directory = trial_directory(janitor)
            stack.callback(seen.undo, lambda: remove_directory(directory, janitor))
            group = Cgroup.create(janitor)
            stack.callback(seen.undo, lambda: _close_group(group, janitor))
            fixture: Optional[Fixture] = None
            quiet: Mapping[str, tuple[int, int]] = {}
            if self.scenario.filesystem is not None:
                quiet = allocated(self.scenario.filesystem.type)
                self.services.say(f"{self.scenario.filesystem.type} on a scratch device")
                fixture = Fixture(
                    self.scenario.filesystem,
                    directory=directory,
                    janitor=janitor,
                    cgroup=group.child("tools"),
                    cache=self.services.mkfs_cache,
                )
                opened = fixture
                stack.callback(seen.undo, lambda: self._close_fixture(opened))
                fixture.open()
            work = directory / "cwd"
            work.mkdir()
            env = {**os.environ, "LC_ALL": "C", **_shared(self.scenario), **(fixture.env if fixture else {})}
            return self._with_fixture(fixture, quiet, Scene(group, work, env))

    def _close_fixture(self, fixture: Fixture) -> None:
        self._seen.notes += fixture.notes
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

    def _with_fixture(self, fixture: Optional[Fixture], quiet: Mapping[str, tuple[int, int]], scene: Scene) -> Verdict:
        seen = self._seen
        self._script("setup", self.scenario.setup, scene, needed=True)
        plan = self._planned(fixture)
        for note in plan.notes:
            self.services.say(note)
        armed = ArmedRun(self.scenario, self.number, plan, self.services, self.options, seen)
        with LogReader() as log:
            context = Context(self.scenario, fixture, log, scene.group.child("oracles"), quiet)
            oracles = choose(context)
            try:
                armed.attach()
                if fixture is not None and fixture.mounted:
                    sync(context)
                for oracle in oracles:
                    oracle.before(context)
                outcome = armed.run(scene)
            finally:
                armed.detach()
            seen.unkillable(outcome.unkillable)
            if not seen.unusable:
                self._recover(scene)
            self._ask(oracles, context)
            seen.notes += [note for oracle in oracles for note in oracle.notes]
            # Calls that the probe cannot see explain why a fault never fired; otherwise they are of no interest.
            unfired = [rule for rule, tally in zip(plan.rules, seen.counts) if not tally.injected]
            seen.notes += Plan(tuple(unfired)).notes
        return self._judged(outcome)

    def _judged(self, outcome: Outcome) -> Verdict:
        seen = self._seen
        seen.notes += lost_events(self.scenario, seen.counts)
        verdict = self._verdict(*judge(self.scenario, seen.facts(outcome)))
        return replace(verdict, counts=seen.counts, exit=exit_code(outcome), errors=grouped(seen.errors, MOST_PATHS))

    def _script(self, name: str, text: str, scene: Scene, *, needed: bool) -> Optional[Outcome]:
        """Run ``setup`` or ``recover`` disarmed; with ``needed`` anything but success raises InjectError."""
        if not text.strip():
            return None
        limit = max(SCRIPT_TIMEOUT, self.scenario.timeout)
        group = scene.group.child(name)
        outcome = run_workload(text, cgroup=group, cwd=scene.directory, timeout=limit, env=scene.env, name=name)
        self._seen.unkillable(outcome.unkillable)
        if needed and outcome.code != 0:
            said = (outcome.output.strip().splitlines() or ["no output"])[-1]
            raise InjectError(f"`{name}` {outcome.how()}: {said}")
        return outcome

    def _recover(self, scene: Scene) -> None:
        outcome = self._script("recover", self.scenario.recover, scene, needed=False)
        if outcome is not None and outcome.code != 0:
            detail = f"with the fault disarmed, `recover` {outcome.how()}"
            log = stacks(outcome.blocked) or tail(outcome.output)
            self._seen.complaints.append(Complaint(Reason.RECOVER, detail, log))

    def _ask(self, oracles: Sequence[Oracle], context: Context) -> None:
        """Unmount, and ask every oracle; if the kernel is unusable, ask only for its log."""
        seen = self._seen
        asked = [oracle for oracle in oracles if not seen.unusable or oracle.name == "dmesg"]
        for oracle in asked:
            seen.hear(oracle.name, partial(oracle.settled, context))
        if context.fixture is not None and not seen.unusable:
            seen.hear("umount", context.fixture.umount)
        for oracle in asked:
            seen.hear(oracle.name, partial(oracle.after, context))
        if self.services.kernel.oopsed():
            seen.spoil("it has oopsed")


def lost_events(scenario: Scenario, counts: Sequence[Counts]) -> list[str]:
    """A note for each fault whose injections are counted but not all reported one by one."""
    return [
        f"{fault.function}: {tally.lost} of {tally.injected} injections are counted but not reported one by one"
        " (event buffer full)"
        for fault, tally in zip(scenario.faults, counts)
        if tally.lost
    ]


def _shared(scenario: Scenario) -> dict[str, str]:
    """``LIB`` for the scripts: the directory with what several scenarios use."""
    folder = shared_directory(Path(scenario.file))
    return {"LIB": str(folder)} if folder else {}


def _close_group(group: Cgroup, janitor: Janitor) -> None:
    if not group.close(janitor):
        raise InjectError(f"processes in {group.path} cannot be killed")
