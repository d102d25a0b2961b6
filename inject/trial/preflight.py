"""Requirements of a trial: the machine, the kernel's functions, and what the user allows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.errors import CannotRun, InjectError, Place, ScenarioError
from inject.fixture.device_numbers import device_numbers
from inject.kernel.config import short_name
from inject.kernel.functions import Functions
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import refuse
from inject.kernel.types import IllegalReturn, Types, legal_value
from inject.model.scenario import Fault, Returned, Scenario, Scope
from inject.scenario.problems import ScenarioErrors
from inject.scenario.shorthand import COMMAND_LINE, BadSyntax


def require_injection(kernel: Kernel) -> None:
    """Raise CannotRun, with the fix, if no scenario can run on this machine."""
    if os.geteuid():
        raise CannotRun("injecting faults needs root", "run with sudo, or use `inject vm run`")
    refuse(kernel)
    if not kernel.overrider and not kernel.points.all:
        raise CannotRun("this kernel has no error-injectable function", "see `inject doctor`, or use `inject vm run`")


def resolve(kernel: Kernel, types: Types, faults: Sequence[Fault], seed: int = 0) -> Plan:
    """The plan of ``faults`` named on a command line, before anything is started.

    Raises BadSyntax for what the command line names and this kernel does not have, ScenarioError
    if that stands in a file, and CannotRun for what the machine lacks.
    """
    try:
        planner = Planner(kernel, types, seed, device_numbers(None, faults))
    except InjectError as error:
        raise BadSyntax(error.message, error.hint) from None
    rules = []
    for index, fault in enumerate(faults):
        try:
            rules.append(planner.rule(fault, index))
        except CannotRun:
            raise
        except InjectError as error:
            place = fault.place or (fault.value_places or (None,))[0]
            if place is not None and place.file != COMMAND_LINE:
                raise
            raise BadSyntax(error.message, error.hint) from None
    return planner.joined(rules)


@dataclass(frozen=True)
class WrittenReturn:
    """A value that a scenario has ``function`` return, and its place there."""

    function: str
    value: Returned
    place: Place


def returns_of(scenarios: Iterable[Scenario]) -> list[WrittenReturn]:
    """The values that ``scenarios`` have their functions return, each of a function once."""
    found: dict[tuple[str, Returned], WrittenReturn] = {}
    for scenario in scenarios:
        for fault in scenario.faults:
            places = fault.value_places or (fault.place or Place(scenario.file),) * len(fault.values)
            for value, place in zip(fault.values, places):
                found.setdefault((fault.function, value), WrittenReturn(fault.function, value, place))
    return list(found.values())


def refuse_returns(kernel: Kernel, types: Types, returns: Iterable[WrittenReturn]) -> None:
    """Raise ScenarioErrors for the values that this kernel's functions must not return.

    What the kernel does not have, a function or an enumerator, is left to the trial.
    """
    functions = Functions(kernel, types)
    points = {point.function: point for point in functions.marked()}
    errors = []
    for written in returns:
        try:
            point = points.get(written.function) or functions.find(written.function, force=True)
            legal_value(written.value, point, types)
        except IllegalReturn as error:
            errors.append(ScenarioError(error.message, place=written.place, hint=error.hint))
        except InjectError:
            continue
    if errors:
        raise ScenarioErrors(errors)


def missing(kernel: Kernel, types: Types, scenario: Scenario, *, planned: bool = False) -> str:
    """Sentence that says which requirement is missing; "" if none.

    With ``planned`` the faults' own functions are not looked up: their plan has been made.
    """
    required = scenario.requires
    found = Functions(kernel, types)
    faults = () if planned else tuple(fault.function for fault in scenario.faults)
    for function in (*required.functions, *faults):
        try:
            refuse(kernel, found.find(function, force=True))
        except InjectError as error:
            return str(error)
    for program in required.programs:
        if shutil.which(program) is None:
            return f"the program {program} is not installed"
    for option in required.config:
        if kernel.config.options and not kernel.config.has(option):
            return f"this kernel was built without {option}"
    return ""


def refuse_any_scope(scenario: Scenario) -> None:
    """Raise InjectError if a fault takes tasks other than the workload's."""
    wide = [fault.function for fault in scenario.faults if fault.scope is Scope.ANY]
    if wide:
        raise InjectError(
            f"`scope: any` fails {wide[0]} for every task of this machine",
            "run it in a guest (`inject vm run`), or say --allow-any",
        )


def config_hash(kernel: Kernel) -> str:
    """A short name for the kernel's configuration; "" if the kernel does not show it."""
    return short_name(kernel.config.options)
