"""The scenarios of a sweep, as YAML: the one that is swept, with another fault, and what all trials expect. Pure."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from inject.errors import InjectError
from inject.model.reached import Point
from inject.model.scenario import Scenario
from inject.scenario.derived import derived, document_of
from inject.scenario.files import shared_directory
from inject.scenario.load import MAX_NAME, parse
from inject.scenario.writer import Word, fault_keys
from inject.sweep import baseline
from inject.sweep.options import SweepOptions
from inject.sweep.shot import Mode, Shot

NO_POINT = Point("", "", ())
"""The names of all points have one length."""


def longest_addition(options: SweepOptions) -> int:
    """Characters that the name of a trial of ``options`` has at most after the scenario's."""
    first = max((Shot(NO_POINT, mode) for mode in options.modes), key=lambda shot: len(shot.id))
    return len("/") + len((first if options.depth < 2 else Shot(NO_POINT, Mode.ONCE, first)).id)


class Scenarios:
    """Makes scenarios of ``scenario``, whose YAML is in ``text``, as ``options`` say.

    Raises InjectError if its name is too long for those of the trials.
    """

    def __init__(self, scenario: Scenario, text: str, options: SweepOptions) -> None:
        room = MAX_NAME - longest_addition(options)
        if len(scenario.name) > room:
            raise InjectError(
                f"the name of {scenario.name} has {len(scenario.name)} characters, and {room} at most leave room for "
                f"those of its trials ({MAX_NAME})",
                "write a shorter `name`",
            )
        self._scenario = scenario
        self._document = document_of(text, scenario.name)
        self._options = options

    def name(self, shot: Shot) -> str:
        """The name of a trial's scenario."""
        return f"{self._scenario.name}/{shot.id}"

    def trial(self, shot: Shot, seconds: Optional[float] = None) -> Scenario:
        """The scenario of one trial, with its YAML; ``seconds`` are those of the baseline."""
        limit = baseline.timeout(self._scenario.timeout, seconds)
        return self._parsed(self.name(shot), {**self._changes(shot), "timeout": limit})

    def baseline(self, shot: Shot) -> Scenario:
        """The trial with nothing failing."""
        faults = [fault_keys(baseline.unfired(fault)) for fault in shot.faults(self._options.errno)]
        about = "nothing fails: what the scenario does by itself"
        return self._parsed(f"{self._scenario.name}/{baseline.NAME}", {"description": about, "faults": faults})

    def document(self, shot: Shot) -> dict[str, Any]:
        """The keys of a scenario that makes the trial again; unlike a trial it must inject.

        It can be moved anywhere: its scripts know where the shared ones are.
        """
        scenario = self._scenario
        changes = {"name": self.name(shot), **self._changes(shot)}
        shared = shared_directory(Path(scenario.file))
        if shared is not None:
            scripts = {"setup": scenario.setup, "run": scenario.run, "recover": scenario.recover}
            set_lib = f"export LIB={shlex.quote(str(shared))}\n"
            changes.update({key: set_lib + script for key, script in scripts.items() if script})
        return {**document_of(self._text(changes), self.name(shot)), "expect": {"exit": Word("any")}}

    def _parsed(self, name: str, changes: dict[str, Any]) -> Scenario:
        text = self._text({"name": name, **changes})
        (scenario,) = parse(text, self._scenario.file, name)
        return replace(scenario, text=text)

    def _changes(self, shot: Shot) -> dict[str, Any]:
        what = f"{shot.first.point.function} and then " if shot.first is not None else ""
        what += shot.point.function
        return {
            "description": f"{what} fails {shot.mode.value} where point {shot.point.id} is reached",
            "faults": [fault_keys(fault) for fault in shot.faults(self._options.errno)],
        }

    def _text(self, changes: dict[str, Any]) -> str:
        """The YAML with ``changes``: any exit code will do, and all checks must pass."""
        checks = {} if self._options.checks is None else {"checks": list(self._options.checks)}
        expect = {"exit": Word("any"), "injected": ">=0"}
        return derived(self._document, {**changes, "expect": expect, "finding": None, "sweep": None, **checks})
