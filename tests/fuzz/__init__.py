"""Damaged data for the readers of inject, in a child process with limits. Imports inject and tests.support."""
