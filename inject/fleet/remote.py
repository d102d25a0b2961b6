"""inject on a host: runs the scenarios that its standard input asks for (request.py) and reports to a file.

Started as `python3 -m inject.fleet.remote RESULTS [FILESYSTEM...]`. It imports what a trial needs and no
command line: under emulation each module takes milliseconds to load.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Callable, TextIO

from inject.campaign.run import run_all, run_started
from inject.errors import ExitStatus, InjectError
from inject.fixture import modules
from inject.fleet.request import Request, read_request, read_returns, read_scenario_line
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import Armed, Event, RunEnded, ScenarioHeld
from inject.model.scenario import Scenario
from inject.module.demand import demand
from inject.process.signals import ended_by_signals
from inject.record.options import RecordOptions
from inject.report.jsonl import JsonLines
from inject.scenario.load import parse
from inject.trial.judge import exit_status
from inject.trial.preflight import refuse_returns, require_injection
from inject.trial.services import RunOptions, open_services


def own_input() -> TextIO:
    """Standard input as a file; what is started from now on finds it empty."""
    own = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return os.fdopen(own, encoding="utf-8")


def scenarios(lines: TextIO) -> Iterator[Scenario]:
    """The scenarios that ``lines`` ask for; raises ScenarioErrors for a file that was changed meanwhile."""
    for line in iter(lines.readline, ""):
        file, name, text = read_scenario_line(line)
        found = parse(text or Path(file).read_text(encoding="utf-8"), file, name)
        yield from (scenario for scenario in found if scenario.name == name)


def serve(results: str, lines: TextIO, filesystems: Sequence[str] = ()) -> int:
    """Run what ``lines`` ask for, up to a kernel that must not run more; the exit code of `inject run`.

    Modules of ``filesystems`` are loaded first.
    """
    modules.load(filesystems)
    request = read_request(lines.readline())
    kernel = Kernel()
    types = Types(kernel)
    if request.record is not None:
        return _record(results, lines, request, kernel, types, request.record)
    with demand(kernel, types, probe=request.probe) as found:
        return _serve(results, lines, request, kernel, types, found.require)


def _serve(
    results: str, lines: TextIO, request: Request, kernel: Kernel, types: Types, need: Callable[[Iterable[str]], None]
) -> int:
    need(())
    require_injection(kernel)
    refuse_returns(kernel, types, read_returns(lines.readline()))
    options = RunOptions(
        request.seed,
        any_allowed=kernel.is_guest(),
        probe=request.probe,
        trace=request.trace,
        replaceable=True,
        reproduce=request.reproduce,
    )
    with JsonLines(results) as report:

        def emit(event: Event) -> None:
            report.write(replace(event, stop=request.stop_on_injection) if isinstance(event, Armed) else event)

        asked = scenarios(lines)

        def held(scenario: Scenario) -> Scenario:
            emit(ScenarioHeld(scenario.name))
            for other in asked:
                return other
            raise InjectError("its host sent no faults")

        emit(run_started(kernel, request.seed, ()))
        with contextlib.ExitStack() as stack:
            services = stack.enter_context(open_services(kernel, emit, say=lambda _: None, types=types, need=need))
            if request.observe is not None:
                from inject.record.observer import Observer  # no other run needs it

                services = replace(services, observer=stack.enter_context(Observer(services, request.observe)))
            verdicts = run_all(
                asked,
                services,
                options,
                begin=lambda _number, _scenario: None,
                end=lambda _: None,
                stop_when_unusable=True,
                hold=held if request.hold else None,
            )
            emit(RunEnded.of(verdicts))
    return exit_status(verdicts)


def _record(results: str, lines: TextIO, request: Request, kernel: Kernel, types: Types, options: RecordOptions) -> int:
    """Record what ``lines`` ask for; the exit code of `inject record`."""
    from inject.campaign.record import record_all  # no other run needs it

    lines.readline()  # the values: nothing returns one
    with JsonLines(results) as report:
        report.write(run_started(kernel, request.seed, ()))
        with open_services(kernel, report.write, say=lambda _: None, types=types) as services:
            verdicts = record_all(scenarios(lines), services, options, stop_when_unusable=True)
        report.write(RunEnded.of(verdicts))
    return exit_status(verdicts)


def main() -> int:
    """Serve the file named on the command line; an error is one line on standard error."""
    try:
        with own_input() as lines, ended_by_signals():
            return serve(sys.argv[1], lines, sys.argv[2:])
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except InjectError as error:
        sys.stderr.write(f"{error}\n" if error.placed else f"inject: {error}\n")
        return error.status


if __name__ == "__main__":
    sys.exit(main())
