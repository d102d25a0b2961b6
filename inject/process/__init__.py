"""Processes: start one, limit it, end it, clean up after it. May import errors only."""
