"""Processes: run one, bound it, end it, leave nothing behind. Imports errors only."""
