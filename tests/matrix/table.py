"""Scenario x kernel, and what follows from it: functions that moved, findings since and until. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from inject.model.scenario import Scenario
from inject.vm import kernels as choice
from tests.matrix.cell import BAD, Cell, Kind
from tests.matrix.known import Known, known
from tests.matrix.results import needs


@dataclass(frozen=True)
class Table:
    """The cells by scenario and kernel; ``releases`` has what each kernel calls itself."""

    kernels: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    cells: Mapping[tuple[str, str], Cell]
    releases: Mapping[str, str]
    explanations: tuple[Known, ...] = ()

    def known(self, scenario: Scenario, kernel: str) -> Optional[Known]:
        """The explanation of a failure; None if it has none, or if it is no failure."""
        return known(scenario.name, kernel, self.cells[scenario.name, kernel], self.explanations)

    def filesystems(self, kernel: str) -> set[str]:
        """Types of filesystem that a kernel does not have."""
        lacking = {self.cells[one.name, kernel].lacks for one in self.scenarios}
        return lacking & {one.filesystem.type for one in self.scenarios if one.filesystem is not None}

    def lacks(self, scenario: Scenario, kernel: str) -> str:
        """What the kernel lacks that the scenario needs: its filesystem, or else what the skip names."""
        cell = self.cells[scenario.name, kernel]
        if cell.kind is not Kind.SKIP:
            return ""
        kind = scenario.filesystem.type if scenario.filesystem is not None else ""
        return kind if kind in self.filesystems(kernel) else cell.lacks

    def moved(self) -> dict[str, dict[str, bool]]:
        """Functions that one kernel has and another has not, with the kernels of which that is known.

        Those of a filesystem that a kernel does not have at all are not among them.
        """
        found: dict[str, dict[str, bool]] = {}
        for scenario in self.scenarios:
            for kernel in self.kernels:
                cell = self.cells[scenario.name, kernel]
                for function in cell.functions:
                    found.setdefault(function, {})[kernel] = True
                lacks = self.lacks(scenario, kernel)
                if lacks in needs(scenario) and lacks not in self.filesystems(kernel):
                    found.setdefault(lacks, {})[kernel] = False
        return {name: where for name, where in sorted(found.items()) if len(set(where.values())) == 2}

    def findings(self) -> list[tuple[Scenario, list[str], list[str]]]:
        """Each scenario with a finding, the kernels on which it holds, and those on which it does not."""
        rows = []
        for scenario in self.scenarios:
            held = [one for one in self.kernels if self.cells[scenario.name, one].kind is Kind.FINDING]
            gone = [one for one in self.kernels if self.cells[scenario.name, one].kind is Kind.GONE]
            if scenario.finding is not None:
                rows.append((scenario, held, gone))
        return rows

    def complaints(self) -> list[str]:
        """What must not be: a failure without explanation, a finding that is gone where it was found, a gap."""
        lines = []
        for scenario in self.scenarios:
            for kernel in self.kernels:
                cell = self.cells[scenario.name, kernel]
                if cell.kind in BAD and self.known(scenario, kernel) is None:
                    reason = f" ({cell.reason})" if cell.reason else ""
                    lines.append(f"{scenario.name} on {kernel}: {cell.kind.value}{reason}: {cell.detail}")
                if cell.kind is Kind.GONE and kernel == choice.BUILT:
                    lines.append(f"{scenario.name} on {kernel}: the finding did not occur; remove `finding`")
        for kernel in self.kernels:
            missing = [one.name for one in self.scenarios if self.cells[one.name, kernel].kind is Kind.UNRUN]
            if missing:
                lines.append(f"{kernel}: {len(missing)} scenarios were not run: {missing[0]} ...")
        return [*lines, *self._stale()]

    def _stale(self) -> list[str]:
        """Explanations of failures that do not occur, although all their scenarios were run."""
        lines = []
        for one in self.explanations:
            for kernel in (kernel for kernel in one.kernels if kernel in self.kernels):
                meant = [scenario for scenario in self.scenarios if one.matches(scenario.name)]
                ran = all(self.cells[scenario.name, kernel].kind is not Kind.UNRUN for scenario in meant)
                if meant and ran and not any(self.known(scenario, kernel) is one for scenario in meant):
                    lines.append(f"{one.scenarios} on {kernel} does not fail ({one.reason}): remove it from known.py")
        return lines
