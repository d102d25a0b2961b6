"""Damaged scenario files for the reader, in a child process with limits. Imports inject.scenario and tests.support."""
