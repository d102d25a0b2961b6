"""Verdicts by kernel and scenario, as they come and as they were kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from inject.model.scenario import Scenario
from tests.matrix.cell import Cell, Verdict, cell_of

_KEPT = ("status", "reason", "detail", "seconds", "finding", "notes", "log")
"""Keys of a verdict that are kept."""

_PLACES = frozenset(("file", "place", "value_places", "description"))
"""What may change in a scenario without another verdict."""


@dataclass
class Results:
    """Verdicts by kernel and scenario; ``report`` is the file that gets them, too.

    A verdict counts for the scenario as it is now: one that was kept of another text does not.
    """

    digests: Mapping[str, str]
    report: Optional[Path] = None
    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    releases: dict[str, str] = field(default_factory=dict)
    """``uname -r`` of each kernel."""

    def keep(self, kernel: str, release: str, verdicts: Iterable[Verdict]) -> None:
        """Note what was found on a kernel."""
        for verdict in verdicts:
            name = verdict["scenario"]
            entry = {
                "kernel": kernel,
                "release": release,
                "scenario": name,
                "digest": self.digests[name],
                "verdict": {key: verdict[key] for key in _KEPT if key in verdict},
            }
            self._take(entry)
            if self.report:
                with self.report.open("a") as file:
                    file.write(json.dumps(entry) + "\n")

    def load(self, files: Iterable[Path]) -> None:
        """Take what files of earlier runs have; of one scenario on one kernel, the last."""
        for file in filter(Path.exists, files):
            for line in file.read_text().splitlines():
                self._take(json.loads(line))

    def _take(self, entry: Mapping[str, Any]) -> None:
        if self.digests.get(entry["scenario"]) == entry["digest"]:
            self.verdicts[entry["kernel"], entry["scenario"]] = entry["verdict"]
            self.releases[entry["kernel"]] = entry["release"]

    def missing(self, kernel: str, scenarios: Iterable[Scenario]) -> list[Scenario]:
        """The scenarios that have no verdict on ``kernel``."""
        return [scenario for scenario in scenarios if (kernel, scenario.name) not in self.verdicts]

    def conclude(self, kernel: str, scenarios: Iterable[Scenario]) -> None:
        """Keep the verdicts of scenarios that need not be run: others said that the kernel lacks what they need."""
        said = {cell_of(found).lacks: found for (one, _), found in self.verdicts.items() if one == kernel}
        for scenario in self.missing(kernel, scenarios):
            lacking = next((said[name] for name in needs(scenario) if name in said), None)
            if lacking is not None:
                self.keep(kernel, self.releases[kernel], [{**lacking, "scenario": scenario.name, "seconds": 0.0}])

    def cells(self, kernels: Iterable[str], scenarios: Iterable[Scenario]) -> dict[tuple[str, str], Cell]:
        """The cells of the table by scenario and kernel."""
        found = {}
        for scenario in scenarios:
            functions = tuple(needs(scenario)[scenario.filesystem is not None :])
            for kernel in kernels:
                found[scenario.name, kernel] = cell_of(self.verdicts.get((kernel, scenario.name)), functions)
        return found


def needs(scenario: Scenario) -> list[str]:
    """What the kernel must have for a scenario: its filesystem and functions, those of `stack` too."""
    kinds = [scenario.filesystem.type] if scenario.filesystem is not None else []
    functions = [fault.function for fault in scenario.faults]
    callers = [name for fault in scenario.faults for name in fault.when.stack if name.isidentifier()]
    return [*kinds, *scenario.requires.functions, *functions, *callers]


def digest(scenario: Scenario) -> str:
    """A short name for everything of a scenario that a verdict depends on.

    What it leaves at its default is not in it, so that a new key of the format changes no digest.
    """

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            told = [one for one in dataclasses.fields(value) if one.name not in _PLACES]
            return {
                one.name: plain(getattr(value, one.name)) for one in told if getattr(value, one.name) != one.default
            }
        if isinstance(value, (list, tuple)):
            return [plain(one) for one in value]
        return str(value)

    return hashlib.sha256(json.dumps(plain(scenario)).encode()).hexdigest()[:12]
