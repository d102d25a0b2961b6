"""Standard input of inject on a host, line by line.

The first line holds the settings of the run, the second the values that the scenarios of
the batch return, each later one a scenario to run. inject reads the next line when the
scenario before it has its verdict, and ends with its input. It runs none if its kernel does
not allow one of the values: it prints the errors and ends with the exit code of wrong usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Optional

from inject.errors import Place
from inject.model.scenario import Probe, Scenario
from inject.record.options import ObserveOptions, RecordOptions
from inject.trial.preflight import WrittenReturn, returns_of

MODULE = "inject.fleet.remote"

RETURNS = 128 << 10
"""Bytes of the second line: a host takes its input in pieces, and a trial checks its own values too."""


@dataclass(frozen=True)
class Request:
    """Settings of a batch.

    ``stop_on_injection``: ask the debugger of the guest to stop it at each injection.
    ``reproduce`` begins the command that a verdict gives for running its scenario again.
    ``record``: arm nothing, and record the points that the workloads reach.
    ``observe``: report the points that armed workloads reach and that are not known yet.
    ``hold``: set up the first scenario, say that it is held, and run it with the faults of the second.
    ``cwd`` is what relative paths are relative to, here and on the host.
    """

    seed: int
    probe: Probe = Probe.AUTO
    trace: bool = False
    stop_on_injection: bool = False
    reproduce: str = "inject vm run"
    record: Optional[RecordOptions] = None
    hold: bool = False
    cwd: Path = field(default_factory=Path.cwd)
    observe: Optional[ObserveOptions] = None

    def line(self) -> bytes:
        """The first line."""
        record = list(astuple(self.record)) if self.record else None
        seen = astuple(self.observe) if self.observe else None
        switches = [self.trace, self.stop_on_injection, self.hold]
        return _line([self.seed, self.probe.value, switches, self.reproduce, record, seen])


def read_request(line: str) -> Request:
    """The inverse of :meth:`Request.line`; ``cwd`` is where this process runs."""
    seed, probe, (trace, stop_on_injection, hold), reproduce, record, seen = json.loads(line)
    observe = None
    if seen:
        observe = ObserveOptions(_record_options(seen[0]), tuple(seen[1]), tuple(map(tuple, seen[2])))
    options = _record_options(record) if record else None
    return Request(seed, Probe(probe), trace, stop_on_injection, reproduce, options, hold, observe=observe)


def _record_options(values: Sequence[Any]) -> RecordOptions:
    return RecordOptions(tuple(values[0]), *values[1:])


def returns_line(scenarios: Iterable[Scenario], most: int = RETURNS) -> bytes:
    """The second line, with as many values as ``most`` bytes hold."""
    values: list[object] = []
    size = 3
    for one in returns_of(scenarios):
        value = [one.function, one.value, one.place.file, one.place.line, one.place.column]
        size += len(json.dumps(value)) + 2
        if size > most:
            break
        values.append(value)
    return _line(values)


def read_returns(line: str) -> list[WrittenReturn]:
    """The inverse of :func:`returns_line`."""
    return [WrittenReturn(function, value, Place(*place)) for function, value, *place in json.loads(line)]


def scenario_line(scenario: Scenario) -> bytes:
    """The line that asks for ``scenario``."""
    return _line([scenario.file, scenario.name, scenario.text])


def read_scenario_line(line: str) -> tuple[str, str, str]:
    """File and name of the scenario that is asked for, and its YAML if that is not in the file."""
    file, name, text = json.loads(line)
    return file, name, text


def argv(results: str, filesystems: Sequence[str] = ()) -> list[str]:
    """The command that runs on the host; its JSON lines go to the file ``results`` there.

    Modules of ``filesystems`` are loaded there first.
    """
    return ["python3", "-m", MODULE, results, *filesystems]


def _line(values: Sequence[object]) -> bytes:
    return json.dumps(values).encode("ascii") + b"\n"
