"""The directory of a finding: what a maintainer needs to see it again, and to judge it. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from inject.model.reached import Point
from inject.model.scenario import Scenario
from inject.scenario.derived import derived
from inject.scenario.load import parse
from inject.sweep.findings import README, Cause
from inject.sweep.known import entry_for
from inject.sweep.pieces import count
from inject.sweep.reproduction import ENOUGH, Reproduction
from inject.sweep.shot import points_of
from inject.sweep.standalone import script
from inject.sweep.state import Ended

WIDTH = 100
CALLERS = 12
"""Callers of a point that the README shows; scenario.yaml has those that matter."""

MOST_TRIALS = 50
"""Trials that the README lists."""


@dataclass(frozen=True)
class Seen:
    """On what a finding was seen."""

    kernel: str
    """As the command line names it: ``stock``."""
    release: str
    """"" if the journal does not say."""
    config: str
    """A short name of the kernel's configuration; "" if it is not known."""
    version: str
    """Of inject."""
    sweep: str
    """The scenario that was swept, and its file."""


@dataclass(frozen=True)
class Dossier:
    """All that is known of one finding. ``repeated`` is None if it was not made smaller."""

    cause: Cause
    chosen: Ended
    """The trial that is shown."""
    points: Mapping[str, Point]
    """The points of its trials, by their ids."""
    base: str
    """The name of the scenario that was swept."""
    document: Mapping[str, Any]
    """The scenario that shows it again."""
    repeated: Optional[Reproduction]
    seen: Seen
    command: str
    """The command that runs the scenario, up to its file."""

    @property
    def point(self) -> Point:
        """The point of the trial that is shown."""
        return self.points[self.chosen.point]

    @property
    def failed(self) -> list[Point]:
        """The points that the scenario fails, in the order of its faults."""
        if self.repeated is not None:
            return [self.repeated.points[number] for number in self.repeated.reduction.kept]
        return [self.points[id] for id in points_of(self.chosen.shot)]

    def line(self) -> dict[str, Any]:
        """The journal's line."""
        one = self.repeated
        lines = count(str(self.document["run"]))
        keys = {"runs": 0, "failed": 0, "faults": len(self.document["faults"]), "lines": [lines, lines]}
        return {**self.cause.line(), "trial": self.chosen.shot, **(one.keys() if one is not None else keys)}

    def files(self) -> dict[str, str]:
        """The text of each file, by name."""
        text = self.scenario_text()
        (scenario,) = parse(text, "scenario.yaml", "finding")
        kernel = self.seen.release
        types = {point.function: point.error_type for point in self.failed}
        return {
            "scenario.yaml": text,
            "reproduce.sh": script(scenario, self.cause.signature, kernel, error_types=types),
            "kernel.log": "".join(f"{line}\n" for line in self._kernel_log()),
            "trace.txt": "".join(f"{line}\n" for line in self._trace()),
            README: "\n".join(self._readme(scenario)) + "\n",
        }

    def scenario_text(self) -> str:
        """The scenario, complete: it needs no other file."""
        name = f"{self.base}/{self.cause.digest}"
        return derived(self.document, {"name": name, "description": f"finding of a sweep: {self.cause.signature}"})

    def again(self) -> str:
        """How often it failed when it was repeated, in words; "" if it was not repeated."""
        one = self.repeated
        if one is None or not one.runs:
            return ""
        word = "reproducible" if one.reproducible else f"not called reproducible, which takes {ENOUGH}"
        return f"{len(one.failed)} of {one.runs} runs failed with this signature: {word}"

    def _kernel_log(self) -> list[str]:
        if self.repeated is not None and self.repeated.failed:
            line = self.repeated.failed[0]
            return [*map(str, line["kernel_log"])] or [*map(str, line["log"])]
        return list(self.chosen.kernel_log or self.chosen.log) or ["(the trial kept no line of the kernel's log)"]

    def _trace(self) -> Iterator[str]:
        """Where the error went, as far as the run with --trace saw it; always the points that are failed."""
        if self.repeated is not None and self.repeated.trace:
            yield from self.repeated.trace
            yield ""
        else:
            yield "(no run with --trace: below is where the trial failed the call)"
        for point in self.failed:
            yield f"{point.function} [{point.module or 'vmlinux'}]"
            yield from (f"  {frame}" for frame in point.stack)

    def _readme(self, scenario: Scenario) -> Iterator[str]:
        cause, seen = self.cause, self.seen
        yield cause.signature
        yield ""
        yield "What happened"
        yield from _indented(self.chosen.detail)
        yield ""
        yield "How to see it again"
        yield f"  {self.command} findings/{cause.directory}/scenario.yaml"
        yield "  Without inject: reproduce.sh, in a virtual machine. Its head says what it cannot express."
        yield from _indented(f"{self.again() or 'It was not repeated'}.")
        yield from _indented(self._size(scenario))
        yield ""
        yield "Where"
        yield f"  Linux {seen.release or '(release unknown)'}, configuration {seen.config or '(unknown)'}"
        yield f"  guest kernel `{seen.kernel}`, inject {seen.version}, sweep of {seen.sweep}"
        yield ""
        yield f"Failed calls ({len(cause.trials)} trial{'s' * (len(cause.trials) != 1)})"
        for one in cause.trials[:MOST_TRIALS]:
            point = self.points[one.point]
            callers = [frame.partition("+")[0] for frame in point.stack[:CALLERS]]
            more = ["..."] if len(point.stack) > CALLERS else []
            yield f"  {one.shot}"
            yield from _indented(" < ".join([point.function, *callers, *more]), "    ")
        if len(cause.trials) > MOST_TRIALS:
            yield f"  [... {len(cause.trials) - MOST_TRIALS} more; see the journal ...]"
        yield ""
        if cause.known:
            yield "Known"
            yield from _indented(cause.known)
            return
        yield "Once it is judged, write why, and put this into a file for --known:"
        yield ""
        yield entry_for(cause.signature).rstrip("\n")

    def _size(self, scenario: Scenario) -> str:
        """How much is left of the trial's scenario."""
        faults = len(scenario.faults)
        words = f"The scenario has {faults} fault{'s' * (faults != 1)}"
        one = self.repeated
        if one is None:
            return f"{words}, as in the trial: it was not made smaller."
        required = [
            f"{len(fault.when.stack)} of {len(point.stack)} callers of {point.function}"
            for fault, point in zip(scenario.faults, self.failed)
        ]
        words += (
            f", {one.reduction.lines} of {one.reduction.of} lines of the workload, and requires"
            f" {' and '.join(required)}; {one.spent} trial{'s were' if one.spent != 1 else ' was'} made for it."
        )
        return f"{words} {one.cut[0].upper()}{one.cut[1:]}." if one.cut else words


def _indented(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
