"""`inject sweep`: options, command, progress and report. Imports sweep, fleet, vm and the rest of cli."""
