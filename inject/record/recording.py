"""One scenario, recorded: all of a trial up to its workload, with no fault armed, and the points that this reaches."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import Optional

from inject.engine.context import preempt_count
from inject.engine.recorder import Recorded, Recorder
from inject.errors import CannotRun, InjectError
from inject.fixture.filesystem import Fixture
from inject.kernel.files import text_of
from inject.kernel.kernel import Kernel
from inject.kernel.log import LogWriter
from inject.kernel.obstacles import of_addresses, of_lockdown, of_switches
from inject.model.event import FunctionSkipped, PointReached
from inject.model.reached import Skipped
from inject.model.scenario import Scenario
from inject.model.verdict import Status, Verdict
from inject.oracles.syncing import sync_at
from inject.process.signals import signals_held
from inject.process.workload import Outcome, Workload
from inject.record.families import Selection
from inject.record.options import RecordOptions
from inject.record.points import limit, lost, points_of
from inject.record.survey import Survey
from inject.store import cache_root
from inject.trial.judge import tail
from inject.trial.observe import Observation, exit_code
from inject.trial.preflight import missing
from inject.trial.services import Services
from inject.trial.surroundings import Scene, Surroundings

REFUSED = "is refused by the kernel: no probe can be attached"


class Recording:
    """One scenario, recorded once. Its points and the functions left out are emitted, the verdict is returned."""

    def __init__(self, scenario: Scenario, services: Services, options: RecordOptions, survey: Survey) -> None:
        self._scenario = scenario
        self._services = services
        self._options = options
        self._survey = survey
        self._seen = Observation()
        self._around = Surroundings(scenario, services, self._seen)
        self._log = LogWriter(scenario.name)

    def run(self) -> Verdict:
        """PASS if every call in scope is in a point; ERROR if calls were lost, or the workload did not end."""
        started = time.monotonic()
        status, words, log = self._ended()
        return Verdict(
            self._scenario.name,
            status,
            None,
            words,
            seconds=time.monotonic() - started,
            log=log,
            unusable=self._seen.unusable,
            exit=self._seen.exit,
            notes=tuple(dict.fromkeys(self._seen.notes)),
        )

    def _ended(self) -> tuple[Status, str, tuple[str, ...]]:
        """Status, words and evidence, once everything is undone."""
        services, scenario = self._services, self._scenario
        bare = replace(scenario, faults=(), requires=replace(scenario.requires, functions=()))  # nothing is failed
        try:
            lacking = missing(services.kernel, services.types, bare)
            return (Status.SKIP, lacking, ()) if lacking else self._recorded()
        except CannotRun as error:
            return Status.SKIP, str(error), ()
        except InjectError as error:
            return Status.ERROR, str(error), ()
        except OSError as error:  # a full disk, for one
            return Status.ERROR, f"{error.filename or 'this machine'}: {error.strerror}", ()

    def _recorded(self) -> tuple[Status, str, tuple[str, ...]]:
        """Record, tell, and sum up: status, words and evidence."""
        with contextlib.ExitStack() as stack:
            directory, group = stack.enter_context(self._around.ground())
            fixture = stack.enter_context(self._around.fixture(directory, group))
            scene = self._around.scene(directory, group, fixture)
            self._around.setup(scene)
            chosen, recorded, outcome = self._record(scene, fixture)
            self._recover(scene)
            if self._services.kernel.oopsed():
                self._seen.spoil("it has oopsed")
        troubles = self._tell(chosen, recorded)
        troubles += [f"while it was recorded, {obstacle.message}" for obstacle in of_switches(self._services.kernel)]
        return self._summed(outcome, troubles)

    def _record(self, scene: Scene, fixture: Optional[Fixture]) -> tuple[Selection, Recorded, Outcome]:
        """Attach, run the workload to its end or the timeout, and read."""
        services, options = self._services, self._options
        families = self._survey.families
        chosen = families.choose(options.functions or families.default(self._scenario), options)
        services.say(f"recording {len(chosen.functions)} functions of {', '.join(chosen.families)}")
        with Recorder(
            services.kernel,
            chosen.functions,
            preempt_count(services.types),
            room=options.room,
            cache=cache_root() / "recorder",
            janitor=services.janitor.pid,
        ) as recorder:
            refused = recorder.attach()
            if recorder.few:
                self._seen.notes.append(
                    f"{len(chosen.functions) - len(refused)} of {len(chosen.functions)} functions are recorded: "
                    f"{recorder.few}"
                )
            if fixture is not None and fixture.mounted:
                sync_at(str(fixture.mountpoint), scene.group.child("sync"))
            outcome = self._workload(scene, recorder)
            recorder.detach()
            recorded = recorder.read()
        symbols = (chosen.functions[address] for address in refused)
        left = tuple(Skipped(symbol.name, symbol.module, recorder.few or REFUSED) for symbol in symbols)
        return replace(chosen, skipped=(*chosen.skipped, *left)), recorded, outcome

    def _workload(self, scene: Scene, recorder: Recorder) -> Outcome:
        """Run the workload while its calls are recorded."""
        inner = scene.group.child("workload")
        timeout = self._scenario.timeout * self._services.kernel.config.slowness
        self._log.note("recording")
        with Workload(
            self._scenario.run,
            cgroup=inner,
            cwd=scene.directory,
            env=scene.env,
            on_output=self._services.on_output,
        ) as workload:
            try:
                with signals_held():
                    recorder.arm(inner.id, inner.level, any_task=self._options.any_task)
                workload.release()
                outcome = workload.wait(timeout, on_end=recorder.disarm)
            finally:
                recorder.disarm()
        self._log.note("recorded")
        self._seen.exit = exit_code(outcome)
        self._seen.unkillable(outcome.unkillable, "run")
        return outcome

    def _recover(self, scene: Scene) -> None:
        """Run ``recover``, which may undo what the workload left mounted."""
        if self._seen.unusable:
            return
        outcome = self._around.script("recover", self._scenario.recover, scene, self._around.script_limit)
        if outcome is not None and outcome.code != 0:
            self._seen.notes.append(f"`recover` {outcome.how()}")

    def _tell(self, chosen: Selection, recorded: Recorded) -> list[str]:
        """Emit points and functions left out; sentences on what was lost."""
        services, options, scenario = self._services, self._options, self._scenario
        for skipped in chosen.skipped:
            services.emit(FunctionSkipped(scenario.name, 0, skipped))
        points = points_of(recorded.points, chosen.functions, self._survey.symbols.frame)
        reached = {chosen.functions[raw.function] for raw in recorded.points}
        types = {(one.name, one.module): self._survey.families.failure(one) for one in reached}
        for point in points:
            known = replace(point, error_type=types[point.function, point.module])
            services.emit(PointReached(scenario.name, 0, known))
        depth = limit(_depth(services.kernel))
        losses = recorded.losses
        troubles = lost(losses, recorded.points, options.room, depth, chosen.functions)
        if losses.missed:
            told = f"{losses.missed} calls were not seen, because a BPF program ran on their CPU"
            if options.any_task:
                troubles.append(told)
            else:
                self._seen.notes.append(f"{told}: interrupts or that program made them, which are out of scope")
        return troubles

    def _summed(self, outcome: Outcome, troubles: list[str]) -> tuple[Status, str, tuple[str, ...]]:
        lines = tail(outcome.output)
        if not outcome.began:
            return Status.ERROR, f"`run` never began: bash {outcome.how()}", lines
        if outcome.timed_out:
            troubles.insert(0, f"`run` did not end within {outcome.allowed:g} s: what it reached until then is listed")
        elif outcome.code != 0:
            self._seen.notes.append(f"`run` {outcome.how()}, with no fault armed")
        return (Status.ERROR, "; ".join(troubles), lines) if troubles else (Status.PASS, "", ())


def require_recording(kernel: Kernel) -> None:
    """Raise CannotRun, with the fix, if nothing can be recorded on this machine."""
    if os.geteuid():
        raise CannotRun("recording needs root", "run with sudo, or use `inject vm record`")
    found = [of_addresses(kernel, "recording"), of_lockdown(kernel), *of_switches(kernel)]
    for obstacle in found:
        if obstacle is not None:
            raise CannotRun(obstacle.message, obstacle.fix)


def _depth(kernel: Kernel) -> int:
    """Frames that the kernel unwinds at most; 0 if it does not say."""
    text = text_of(kernel.root / "proc/sys/kernel/perf_event_max_stack")
    return int(text) if text.isdigit() else 0
