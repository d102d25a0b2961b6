"""Hosts that run trials, the workers on them and what they report. Imports campaign and trial."""
