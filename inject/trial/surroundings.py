"""The surroundings of a workload: directory, control groups, scratch filesystem and scripts, made and undone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.errors import InjectError
from inject.fixture.directory import remove_directory, trial_directory
from inject.fixture.filesystem import Fixture
from inject.model.scenario import Scenario
from inject.process.blocked import tasks_of
from inject.process.cgroup import Cgroup
from inject.process.workload import GRACE, Outcome, run_workload
from inject.scenario.files import shared_directory
from inject.trial.observe import Observation
from inject.trial.services import Services

SCRIPT_TIMEOUT = 120.0
"""Seconds for ``setup`` and ``recover``, or the scenario's timeout if that is longer."""


@dataclass(frozen=True)
class Scene:
    """Directory and environment in which the scripts of a trial run."""

    group: Cgroup
    directory: Path
    env: dict[str, str]


class Surroundings:
    """The surroundings of one scenario's workload; what goes wrong with them goes to ``seen``."""

    def __init__(self, scenario: Scenario, services: Services, seen: Observation) -> None:
        self._scenario = scenario
        self._services = services
        self._seen = seen

    @contextlib.contextmanager
    def ground(self) -> Iterator[tuple[Path, Cgroup]]:
        """A new directory and a new control group. Raises InjectError if one cannot be made."""
        janitor = self._services.janitor
        with contextlib.ExitStack() as stack:
            directory = trial_directory(janitor)
            stack.callback(self._seen.undo, lambda: remove_directory(directory, janitor))
            group = Cgroup.create(janitor)
            stack.callback(self._seen.undo, lambda: self._close_group(group))
            yield directory, group

    @contextlib.contextmanager
    def fixture(self, directory: Path, group: Cgroup) -> Iterator[Optional[Fixture]]:
        """The scenario's filesystem, mounted; None if it has none. Raises InjectError if it cannot be made."""
        filesystem = self._scenario.filesystem
        if filesystem is None:
            yield None
            return
        self._services.say(f"{filesystem.type} on a scratch device")
        made = Fixture(
            filesystem,
            directory=directory,
            janitor=self._services.janitor,
            cgroup=group.child("tools"),
            cache=self._services.mkfs_cache,
        )
        with contextlib.ExitStack() as stack:
            stack.callback(self._seen.undo, lambda: self._close_fixture(made, group))
            made.open()
            yield made

    def scene(self, directory: Path, group: Cgroup, fixture: Optional[Fixture]) -> Scene:
        """The scripts' directory, which is made, and their environment."""
        work = directory / "cwd"
        work.mkdir()
        env = {**os.environ, "LC_ALL": "C", **_shared(self._scenario), **(fixture.env if fixture else {})}
        return Scene(group, work, env)

    @property
    def script_limit(self) -> float:
        """Seconds that ``setup`` and ``recover`` may take."""
        return max(SCRIPT_TIMEOUT, self._scenario.timeout)

    def setup(self, scene: Scene) -> None:
        """Run ``setup``; raises InjectError for anything but success."""
        outcome = self.script("setup", self._scenario.setup, scene, self.script_limit)
        if outcome is None:
            return
        if outcome.unkillable:
            raise InjectError(self._seen.unusable)
        if outcome.code != 0:
            said = (outcome.output.strip().splitlines() or ["no output"])[-1]
            raise InjectError(f"`setup` {outcome.how()}: {said}")

    def script(self, name: str, text: str, scene: Scene, limit: float) -> Optional[Outcome]:
        """Run a script of the scenario while nothing can fail; None if it is empty."""
        if not text.strip():
            return None
        group = scene.group.child(name)
        outcome = run_workload(text, cgroup=group, cwd=scene.directory, timeout=limit, env=scene.env, name=name)
        self._seen.unkillable(outcome.unkillable, name)
        return outcome

    def _close_fixture(self, fixture: Fixture, group: Cgroup) -> None:
        self._seen.notes += fixture.notes
        self._seen.look_for_stuck(group, "the filesystem's programs")
        if self._seen.unusable:
            return  # a task that hangs in the kernel keeps it busy: the janitor tries when inject ends
        fixture.close()

    def _close_group(self, group: Cgroup) -> None:
        """Remove the trial's cgroup; a process that is still in it cannot be killed."""
        if group.close(self._services.janitor, 0.0 if self._seen.has_unkillable else GRACE):
            return
        self._seen.unkillable(tasks_of(group.procs()), "the trial")
        raise InjectError(f"processes in {group.path} cannot be killed")


def _shared(scenario: Scenario) -> dict[str, str]:
    """``LIB`` for the scripts: the directory with what several scenarios use."""
    folder = shared_directory(Path(scenario.file))
    return {"LIB": str(folder)} if folder else {}
