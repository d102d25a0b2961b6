"""Where trials run: hosts, their workers and what is told of each. Imports campaign and trial."""
