"""From paths or text to scenarios, with every problem of every file collected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from inject.errors import ScenarioError
from inject.model import DEFAULT_TIMEOUT, Expectation, Place, Requires, Scenario, VmWishes
from inject.scenario.files import read_text, search
from inject.scenario.format import SCENARIO_RECORD
from inject.scenario.kinds import Fields, read_any
from inject.scenario.names import SCENARIO
from inject.scenario.numbers import is_missing, kind_of
from inject.scenario.problems import Problems, ScenarioErrors, Wrong, error_at, printable, shown
from inject.scenario.tree import MapNode, Node, documents

MAX_NAME = 128

_Named = tuple[Scenario, Place]
"""A scenario and where its name stands."""


def load(paths: Sequence[Union[str, Path]], root: Optional[Path] = None) -> list[Scenario]:
    """The scenarios in files and folders, in order; names are relative to ``root`` where that applies.

    Raises ScenarioErrors with everything that is wrong in any of them.
    """
    scenarios, errors = load_all(paths, root)
    if errors:
        raise ScenarioErrors(errors)
    return scenarios


def load_all(
    paths: Sequence[Union[str, Path]], root: Optional[Path] = None
) -> tuple[list[Scenario], list[ScenarioError]]:
    """As :func:`load`, but returns the good scenarios and the errors, and raises nothing."""
    sources, errors = search(paths, root)
    named: list[_Named] = []
    for source in sources:
        problems = Problems()
        try:
            named += _read(read_text(source.path), str(source.path), source.name, problems)
        except Wrong as wrong:
            problems.catch(wrong)
        errors += problems.errors()
    return [scenario for scenario, _ in named], errors + _same_names(named)


def parse(text: str, file: str, name: str) -> list[Scenario]:
    """The scenarios in ``text``; ``name`` is for a single one that does not name itself.

    Raises ScenarioErrors with everything that is wrong.
    """
    problems = Problems()
    named = _read(text, file, name, problems)
    errors = problems.errors() + _same_names(named)
    if errors:
        raise ScenarioErrors(errors)
    return [scenario for scenario, _ in named]


def _read(text: str, file: str, name: str, problems: Problems) -> list[_Named]:
    """The good scenarios of one file, and where their names stand; the rest is in ``problems``."""
    nodes = list(documents(text, printable(file), problems))
    if not nodes:
        problems.add(Place(printable(file)), "no scenario in this file", "write at least `faults` and `run`")
    named = []
    for node in nodes:
        if node is None:
            continue
        if not isinstance(node, MapNode):
            problems.add(node.place, *_no_scenario(node))
            continue
        before = len(problems)
        written = node.get("name")
        if written is None:
            _check_default(name, node, len(nodes) > 1, problems)
        fields = read_any(SCENARIO_RECORD, node, "scenario", problems)
        if len(problems) == before:
            named.append((_scenario(fields, file, name), written.place if written else node.place))
    return named


def _no_scenario(node: Node) -> tuple[str, str]:
    if is_missing(node):
        return "an empty document", "remove the extra `---`, or write a scenario below it"
    return f"a scenario is a mapping, not {kind_of(node)}", "write keys such as `faults:` and `run:`"


def _check_default(name: str, node: Node, several: bool, problems: Problems) -> None:
    """Refuse a scenario without ``name`` where none can be made for it."""
    if several:
        what = "each scenario of a file with several needs a `name`"
        problems.add(node.place, what, "add `name: ...`, or remove the extra `---`")
    elif len(name) > MAX_NAME or not re.fullmatch(SCENARIO, name):
        what = f"the file's path would name the scenario {shown(name)}, which cannot be"
        problems.add(node.place, what, "add `name: ...` of letters, digits and . _ + - /")


def _same_names(named: Sequence[_Named]) -> list[ScenarioError]:
    """Errors for names that an earlier scenario has."""
    first: dict[str, Place] = {}
    errors = []
    for scenario, place in named:
        other = first.setdefault(scenario.name, place)
        if other is not place:
            what = f"the name {shown(scenario.name)} is taken by the scenario at {other}"
            errors.append(error_at(place, what, "give one of them another `name`"))
    return errors


def _scenario(fields: Fields, file: str, name: str) -> Scenario:
    """The scenario of a document without problems."""
    return Scenario(
        name=fields.get("name", name),
        file=file,
        faults=fields.get("faults"),
        run=fields.get("run"),
        description=fields.get("description", ""),
        tags=fields.get("tags", ()),
        requires=fields.get("requires", Requires()),
        filesystem=fields.get("filesystem"),
        setup=fields.get("setup", ""),
        expect=fields.get("expect", Expectation()),
        recover=fields.get("recover", ""),
        checks=fields.get("checks"),
        allow=fields.get("allow", ()),
        timeout=fields.get("timeout", DEFAULT_TIMEOUT),
        finding=fields.get("finding"),
        vm=fields.get("vm", VmWishes()),
        sweep=fields.get("sweep"),
        place=fields.place,
    )
