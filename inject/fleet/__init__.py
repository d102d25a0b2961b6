"""Where trials run: hosts, their workers and what each of them reports. Imports campaign and trial."""
