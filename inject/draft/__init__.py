"""Scenario skeletons for `inject new`. Imports kernel and model."""
