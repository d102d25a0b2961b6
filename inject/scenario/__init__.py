"""YAML to :class:`inject.model.scenario.Scenario` and back, each error with file:line:col. Imports model."""

from inject.scenario.files import Source, find_files
from inject.scenario.load import load, load_all, parse
from inject.scenario.problems import ScenarioErrors

__all__ = ["ScenarioErrors", "Source", "find_files", "load", "load_all", "parse"]
