"""Scenarios from paths or text, with all problems of all files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from inject.errors import Place, ScenarioError
from inject.model.scenario import DEFAULT_TIMEOUT, Expectation, Requires, Scenario, VmWishes
from inject.model.text import printable, shown
from inject.scenario.fields import Fields, read_any
from inject.scenario.files import read_text, search
from inject.scenario.format import SCENARIO_RECORD
from inject.scenario.problems import Problems, ScenarioErrors
from inject.scenario.scalars import is_missing, kind_of
from inject.scenario.spelling import SCENARIO
from inject.scenario.tree import MapNode, Node, documents

MAX_NAME = 128


def load(paths: Sequence[Union[str, Path]], root: Optional[Path] = None) -> list[Scenario]:
    """The scenarios in files and directories, in order; names are relative to ``root`` if they can be.

    Raises ScenarioErrors with the problems of all of them.
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
    scenarios: list[Scenario] = []
    names: dict[str, Place] = {}
    for source in sources:
        problems = Problems()
        try:
            scenarios += _read(read_text(source.path), str(source.path), source.name, names, problems)
        except ScenarioError as error:
            problems.catch(error)
        errors += problems.errors()
    return scenarios, errors


def parse(text: str, file: str, name: str) -> list[Scenario]:
    """The scenarios in ``text``; ``name`` is for a single one that does not name itself.

    Raises ScenarioErrors with all problems.
    """
    problems = Problems()
    scenarios = _read(text, file, name, {}, problems)
    if problems:
        raise ScenarioErrors(problems.errors())
    return scenarios


def _read(text: str, file: str, name: str, names: dict[str, Place], problems: Problems) -> list[Scenario]:
    """The good scenarios of one file; what is wrong goes to ``problems``. ``names``: where each name is used."""
    nodes = list(documents(text, printable(file), problems))
    if not nodes:
        problems.add(Place(printable(file)), "no scenario in this file", "write at least `faults` and `run`")
    several = sum(node is None or not is_missing(node) for node in nodes) > 1
    scenarios = []
    for node in nodes:
        if node is None:
            continue
        if not isinstance(node, MapNode):
            problems.add(node.place, *_no_scenario(node))
            continue
        before = len(problems)
        written = node.get("name")
        if written is None:
            _check_default(name, node, several, problems)
        fields = read_any(SCENARIO_RECORD, node, "scenario", problems)
        if len(problems) == before:
            scenarios.append(_scenario(fields, file, name))
            _take_name(scenarios[-1].name, written.place if written else node.place, names, problems)
    return scenarios


def _no_scenario(node: Node) -> tuple[str, str]:
    if is_missing(node):
        return "an empty document", "remove the extra `---`, or write a scenario below it"
    return f"a scenario must be a mapping, got {kind_of(node)}", "write keys such as `faults:` and `run:`"


def _check_default(name: str, node: Node, several: bool, problems: Problems) -> None:
    """Refuse a scenario without ``name`` if the file gives it none."""
    if several:
        what = "a scenario must have a `name` if its file has several"
        problems.add(node.place, what, "add `name: ...`, or remove the extra `---`")
    elif len(name) > MAX_NAME or not re.fullmatch(SCENARIO, name):
        what = f"the name made from the file's path, {shown(name)}, is not a scenario's name"
        problems.add(node.place, what, "add `name: ...` of letters, digits and . _ + - /")


def _take_name(name: str, place: Place, names: dict[str, Place], problems: Problems) -> None:
    """Refuse a name that an earlier scenario has."""
    other = names.setdefault(name, place)
    if other is not place:
        what = f"the scenario at {other} already has the name {shown(name)}"
        problems.add(place, what, "give one of them another `name`")


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
