"""YAML to :class:`inject.model.scenario.Scenario` and back, each error with file:line:col. Imports model."""

from inject.scenario.files import Source, find_files
from inject.scenario.load import load, load_all, parse
from inject.scenario.problems import ScenarioErrors

loads_all_errors = load_all

__all__ = ["ScenarioErrors", "Source", "find_files", "load", "load_all", "loads_all_errors", "parse"]
