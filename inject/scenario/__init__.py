"""YAML to :class:`inject.model.Scenario`, with ``file:line:col`` for everything that is wrong."""

from inject.scenario.files import Source, find_files
from inject.scenario.load import load, load_all, parse
from inject.scenario.problems import ScenarioErrors

loads_all_errors = load_all

__all__ = ["ScenarioErrors", "Source", "find_files", "load", "load_all", "loads_all_errors", "parse"]
